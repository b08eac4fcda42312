//! A root of trust: a certificate that signs itself, and its key.

use anyhow::{Context, Result, bail};
use mesh_api::identity::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::serial;
use super::trust::to_pem;

/// How long a root lasts, in days: ten years.
pub(super) const LIFETIME_DAYS: i64 = 3_650;
/// How much clocks may differ.
pub(super) const SKEW: Duration = Duration::minutes(5);

/// The root. Its key can't be printed.
pub struct Root {
    pub(super) issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    expiry: OffsetDateTime,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root")
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

impl Root {
    /// A new root.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn generate(trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Self> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("make the root's key")?;
        let expiry = now + Duration::days(LIFETIME_DAYS);
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial()?);
        params.not_before = now - SKEW;
        params.not_after = expiry;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(
            DnType::CommonName,
            format!("mesh root of {}", shortened(trust_domain)),
        );
        params.subject_alt_names = vec![SanType::URI(
            format!("spiffe://{trust_domain}")
                .try_into()
                .context("write the trust domain into the root")?,
        )];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).context("sign the root")?;
        Ok(Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            expiry,
        })
    }

    /// A root from the PEM of its certificate and of its key.
    ///
    /// # Errors
    /// When one can't be read, they do not belong together, or it is no authority of the trust domain now.
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Self> {
        let certificate = CertificateDer::from_pem_slice(certificate).context("read the certificate")?;
        let key = std::str::from_utf8(key)
            .ok()
            .and_then(|key| KeyPair::from_pem(key).ok())
            .context("the private key can't be read: it must be PEM, as PKCS #8 or of an elliptic curve")?;
        let expiry = check(&certificate, &key, trust_domain, now)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).context("it can't sign")?;
        Ok(Self {
            issuer,
            certificate,
            expiry,
        })
    }

    /// The certificate that the mesh trusts.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> String {
        to_pem(std::slice::from_ref(&self.certificate))
    }

    /// The private key as PEM: for where roots are kept, and nowhere else.
    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// When it ends.
    pub fn expiry(&self) -> OffsetDateTime {
        self.expiry
    }
}

/// What a root from elsewhere must be. When it ends.
fn check(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<OffsetDateTime> {
    let (_, root) =
        X509Certificate::from_der(certificate).map_err(|_| anyhow::anyhow!("it is not a certificate"))?;
    if !root.is_ca() {
        bail!("it is not a certificate authority");
    }
    if root.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
        bail!("it does not belong to its key");
    }
    let wanted = format!("spiffe://{trust_domain}");
    let names = root.subject_alternative_name().ok().flatten();
    let named = names.as_ref().is_some_and(|names| {
        names
            .value
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::URI(uri) if *uri == wanted))
    });
    if !named {
        bail!(
            "it is not of trust domain {trust_domain}: start with its own --trust-domain, or with another root"
        );
    }
    let expiry = root.validity().not_after.to_datetime();
    if expiry <= now {
        bail!("it ended on {}: remove it to make a new one", expiry.date());
    }
    Ok(expiry)
}

/// A common name has 64 characters at most (RFC 5280, appendix A.1).
fn shortened(trust_domain: &TrustDomain) -> String {
    trust_domain.as_str().chars().take(50).collect()
}
