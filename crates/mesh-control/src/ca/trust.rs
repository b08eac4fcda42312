//! What the mesh trusts now: the root that signs, and others whose leaves are still about, or soon will be.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result};
use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use x509_parser::prelude::{FromDer, X509Certificate};

use super::root::Root;

/// One root signs; it and the others are trusted.
#[derive(Clone, Debug)]
pub struct Trust {
    signer: Arc<Root>,
    bundle: Vec<CertificateDer<'static>>,
    id: TrustId,
}

/// What a signer and a bundle are called together: proxies tell it of their certificates. Written `signer.bundle`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustId {
    /// The root that signed.
    pub signer: String,
    /// All roots that were trusted, in whatever order.
    pub bundle: String,
}

impl TrustId {
    /// Reads what a proxy tells; rubbish is like nothing.
    pub fn read(text: &str) -> Self {
        match text.split_once('.') {
            Some((signer, bundle)) if text.len() <= 64 => Self {
                signer: signer.to_owned(),
                bundle: bundle.to_owned(),
            },
            _ => Self::default(),
        }
    }
}

impl std::fmt::Display for TrustId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.signer, self.bundle)
    }
}

impl Trust {
    /// Trusts the signer and others.
    pub fn new(signer: Arc<Root>, others: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut bundle = vec![signer.certificate().clone()];
        for other in others {
            if !bundle.contains(&other) {
                bundle.push(other);
            }
        }
        let mut names: Vec<_> = bundle.iter().map(fingerprint).collect();
        names.sort_unstable();
        let id = TrustId {
            signer: fingerprint(signer.certificate()),
            bundle: hex(&Sha256::digest(names.concat())),
        };
        Self { signer, bundle, id }
    }

    /// What it is called.
    pub fn id(&self) -> &TrustId {
        &self.id
    }

    /// The root that signs.
    pub fn signer(&self) -> &Arc<Root> {
        &self.signer
    }

    /// All roots that are trusted, the signer first.
    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        &self.bundle
    }

    /// All roots that are trusted, as PEM.
    pub fn bundle_pem(&self) -> String {
        to_pem(&self.bundle)
    }
}

/// Certificates as PEM.
pub(super) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    let certificates: Vec<_> = certificates
        .iter()
        .map(|der| Pem::new("CERTIFICATE", der.as_ref()))
        .collect();
    pem::encode_many_config(&certificates, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// The certificates of a PEM file.
///
/// # Errors
/// When something in it can't be read.
pub(super) fn from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .context("it is not a list of certificates in PEM")
}

/// When a certificate ends, in seconds since 1970.
pub fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// What a root is called in logs: the first 64 bits of its SHA-256.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(&Sha256::digest(certificate))
}

/// The first 64 bits, in hexadecimal.
fn hex(hash: &[u8]) -> String {
    hash.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    #[test]
    fn what_is_trusted_has_a_name_that_does_not_depend_on_the_order() {
        let root = || {
            let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
            Arc::new(Root::generate(&"cluster.local".parse().unwrap(), now).unwrap())
        };
        let (a, b) = (root(), root());
        let both =
            |signer: &Arc<Root>, other: &Arc<Root>| Trust::new(signer.clone(), [other.certificate().clone()]);
        let (before, after) = (both(&a, &b), both(&b, &a));
        assert_eq!(before.id().bundle, after.id().bundle);
        assert_ne!(before.id().signer, after.id().signer);
        assert_ne!(Trust::new(a, []).id().bundle, before.id().bundle);
        assert_eq!(TrustId::read(&before.id().to_string()), *before.id());
        for rubbish in ["", "abc", &"x.y".repeat(40)] {
            assert_eq!(TrustId::read(rubbish), TrustId::default());
        }
    }
}
