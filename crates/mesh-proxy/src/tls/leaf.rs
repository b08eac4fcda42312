//! What a leaf certificate says: the one identity it speaks for, its serial number and its time.

use std::time::{Duration, SystemTime};

use mesh_api::identity::{Identity, IdentityError};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// A leaf certificate, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whom it speaks for.
    pub identity: Identity,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// When it starts to hold.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

/// Why a certificate is not one of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// It is not X.509.
    #[error("it is not a readable X.509 certificate")]
    Unreadable,
    /// It names nobody in the mesh's way.
    #[error("it has no SPIFFE identity: there must be exactly one URI among its subject alternative names")]
    Nobody,
    /// It names several.
    #[error("it has {0} URIs among its subject alternative names: there must be exactly one")]
    Several(usize),
    /// Its URI is not an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Leaf {
    /// Reads a certificate. Common name and DNS names are not looked at.
    ///
    /// # Errors
    /// When it can't be read or does not hold exactly one URI that is an identity.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, LeafError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| LeafError::Unreadable)?;
        if !rest.is_empty() {
            return Err(LeafError::Unreadable);
        }
        Ok(Self {
            identity: only_uri(&certificate)?.parse()?,
            serial: certificate.raw_serial_as_string().replace(':', ""),
            not_before: time(certificate.validity.not_before),
            not_after: time(certificate.validity.not_after),
        })
    }
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, LeafError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| LeafError::Unreadable)?
        .ok_or(LeafError::Nobody)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let first = uris.next().ok_or(LeafError::Nobody)?;
    match uris.count() {
        0 => Ok(first),
        more => Err(LeafError::Several(more + 1)),
    }
}

fn time(time: ASN1Time) -> SystemTime {
    let since = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since)
}
