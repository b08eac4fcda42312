//! Who is at the other end of a connection, as its certificate says.

use mesh_api::identity::Identity;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A caller whose certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// When its certificate ends, in seconds since 1970.
    pub expiry: i64,
}

/// Why a certificate, verified as it is, names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It can't be read.
    #[error("the certificate can't be read")]
    Unreadable,
    /// It has no URI, or several.
    #[error("the certificate names {0} URIs: a workload's names its SPIFFE identity alone")]
    Uris(usize),
    /// Its URI is no identity of a mesh.
    #[error("the certificate's URI: {0}")]
    Identity(#[from] mesh_api::identity::IdentityError),
}

impl Peer {
    /// Reads the leaf of a chain that was verified.
    ///
    /// # Errors
    /// When it does not name exactly one identity.
    pub fn of(leaf: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| PeerError::Unreadable)?;
        let names = certificate
            .extensions()
            .iter()
            .filter_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .flatten();
        let uris: Vec<&str> = names
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        let [uri] = uris.as_slice() else {
            return Err(PeerError::Uris(uris.len()));
        };
        Ok(Self {
            identity: uri.parse()?,
            expiry: certificate.validity().not_after.timestamp(),
        })
    }
}
