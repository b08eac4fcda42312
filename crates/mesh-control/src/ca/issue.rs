//! Leaves: a workload's for exactly the identity it proved, the control plane's own for its listener.

use std::sync::Arc;

use mesh_api::identity::{Identity, TrustDomain};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use tokio::sync::watch;

use super::root::SKEW;
use super::trust::Trust;

/// The largest request for a certificate that is read, in bytes.
const MAX_CSR: usize = 16 << 10;

/// Signs leaves with the root of the moment.
#[derive(Debug)]
pub struct Authority {
    trust: watch::Sender<Arc<Trust>>,
    trust_domain: TrustDomain,
    lifetime: Duration,
}

/// A leaf, and what to trust beside it.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The leaf.
    pub leaf: CertificateDer<'static>,
    /// What was trusted when it was signed.
    pub trust: Arc<Trust>,
}

/// What a certificate of the control plane's own says.
#[derive(Clone, Debug)]
pub struct ServerNames {
    /// The names that it is called by. No workload's certificate has such a name.
    pub dns: Vec<String>,
    /// Its identity; none where identities mean nothing.
    pub identity: Option<Identity>,
}

/// The control plane's own certificate and key.
pub struct ServerLeaf {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it is to be replaced: at 70 % of its life.
    pub renew: OffsetDateTime,
}

/// Why a certificate is not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is not one.
    #[error("the request for a certificate can't be read: {0}")]
    Unreadable(String),
    /// The key is of another kind.
    #[error("the request's key is not ECDSA P-256")]
    Key,
    /// It asks for another name, or for more than one.
    #[error("the request asks for {asked}: it must ask for {identity} and nothing else")]
    Names {
        /// What it asks for.
        asked: String,
        /// What it may ask for.
        identity: Identity,
    },
    /// It asks to be an authority itself.
    #[error("the request asks for a certificate authority")]
    Authority,
    /// Signing failed.
    #[error("the certificate could not be signed: {0}")]
    Signing(String),
}

impl Authority {
    /// Signs for a trust domain; leaves last as long as said, but never longer than the root.
    pub fn new(trust: Trust, trust_domain: TrustDomain, lifetime: std::time::Duration) -> Self {
        Self {
            trust: watch::Sender::new(Arc::new(trust)),
            trust_domain,
            lifetime: Duration::try_from(lifetime).unwrap_or(Duration::DAY),
        }
    }

    /// The root it signs with, and what else is trusted.
    pub fn trust(&self) -> Arc<Trust> {
        self.trust.borrow().clone()
    }

    /// Tells when that changes.
    pub fn follow(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// From now on, it signs and trusts so.
    pub fn replace(&self, trust: Trust) {
        self.trust.send_replace(Arc::new(trust));
    }

    /// The trust domain it signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Certifies the key of a request (PKCS #10, DER) for the identity that its sender proved. Nothing of the request
    /// but the key comes into the certificate.
    ///
    /// # Errors
    /// When the request asks for anything but exactly that identity.
    pub fn certify(
        &self,
        csr: &[u8],
        identity: &Identity,
        now: OffsetDateTime,
    ) -> Result<Certified, IssueError> {
        if csr.len() > MAX_CSR {
            return Err(IssueError::Unreadable(format!(
                "{} bytes are more than {MAX_CSR}",
                csr.len()
            )));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(|error| IssueError::Unreadable(error.to_string()))?;
        let key = &request.public_key;
        // An uncompressed point of P-256 has 65 bytes; P-384 signs with SHA-256 too.
        if *key.algorithm() != rcgen::PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 {
            return Err(IssueError::Key);
        }
        let asked = &request.params.subject_alt_names;
        let exact = matches!(asked.as_slice(), [SanType::URI(uri)] if uri.as_str() == identity.to_string());
        if !exact || identity.trust_domain != self.trust_domain {
            return Err(IssueError::Names {
                asked: words(asked),
                identity: identity.clone(),
            });
        }
        if matches!(request.params.is_ca, IsCa::Ca(_)) {
            return Err(IssueError::Authority);
        }
        let trust = self.trust();
        let params = self.leaf(&trust, vec![uri(identity)?], now)?;
        let certificate = params
            .signed_by(key, &trust.signer().issuer)
            .map_err(|error| IssueError::Signing(error.to_string()))?;
        Ok(Certified {
            leaf: certificate.der().clone(),
            trust,
        })
    }

    /// A new key and certificate for one of the control plane's own listeners.
    ///
    /// # Errors
    /// When signing fails.
    pub fn server(
        &self,
        trust: &Trust,
        names: &ServerNames,
        now: OffsetDateTime,
    ) -> Result<ServerLeaf, IssueError> {
        let signing = |error: rcgen::Error| IssueError::Signing(error.to_string());
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(signing)?;
        let dns = names.dns.iter().map(|name| {
            let name = name.as_str().try_into().map_err(signing)?;
            Ok(SanType::DnsName(name))
        });
        let sans = dns
            .chain(names.identity.iter().map(uri))
            .collect::<Result<_, _>>()?;
        let params = self.leaf(trust, sans, now)?;
        let renew = now + (params.not_after - now) * 7 / 10;
        let certificate = params.signed_by(&key, &trust.signer().issuer).map_err(signing)?;
        Ok(ServerLeaf {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            renew,
        })
    }

    fn leaf(
        &self,
        trust: &Trust,
        names: Vec<SanType>,
        now: OffsetDateTime,
    ) -> Result<CertificateParams, IssueError> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial().map_err(|error| IssueError::Signing(error.to_string()))?);
        params.not_before = now - SKEW;
        params.not_after = (now + self.lifetime).min(trust.signer().expiry());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "mesh");
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

fn uri(identity: &Identity) -> Result<SanType, IssueError> {
    let text = identity.to_string().try_into();
    Ok(SanType::URI(text.map_err(|error: rcgen::Error| {
        IssueError::Signing(error.to_string())
    })?))
}

/// What a request asks for, in bounded words.
fn words(names: &[SanType]) -> String {
    let word = |name: &SanType| match name {
        SanType::URI(uri) => format!("{:?}", uri.as_str().chars().take(120).collect::<String>()),
        SanType::DnsName(name) => format!("DNS {:?}", name.as_str().chars().take(80).collect::<String>()),
        SanType::IpAddress(address) => format!("IP {address}"),
        SanType::Rfc822Name(_) => "a mail address".into(),
        _ => "a name of another kind".into(),
    };
    match names {
        [] => "no name".into(),
        names => names.iter().take(4).map(word).collect::<Vec<_>>().join(" and "),
    }
}

/// A serial number: 127 random bits, positive and never zero (RFC 5280, §4.1.2.2).
pub(super) fn serial() -> anyhow::Result<SerialNumber> {
    let mut bytes = super::random::<16>()?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests;
