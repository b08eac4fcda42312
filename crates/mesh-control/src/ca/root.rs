//! The root of trust: a certificate that signs itself, and its key, on disk or for this process only.

use std::fs;
use std::io;
use std::path::Path;

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

use crate::ca::issue::serial;
use crate::file;

/// How long a root lasts, in days: ten years.
const LIFETIME_DAYS: i64 = 3_650;
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
    /// A root for this process only. Its certificate is written to `root.pem` in the folder, its key nowhere.
    ///
    /// # Errors
    /// When the folder holds a root that lasts, or can't be written.
    pub fn ephemeral(folder: &Path, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Self> {
        make_folder(folder)?;
        if folder.join("root.key").exists() {
            bail!(
                "{} holds a root that lasts: leave --ephemeral-ca out, or choose another --state",
                folder.display()
            );
        }
        let (root, pem, _) = Self::generate(trust_domain, now)?;
        write_certificate(folder, &pem)?;
        Ok(root)
    }

    /// The root of the folder, which is made when there is none.
    ///
    /// # Errors
    /// When the root can't be read or written, when others may read its key, or when it does not fit the trust domain.
    pub fn open_or_create(folder: &Path, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Self> {
        make_folder(folder)?;
        let key_file = folder.join("root.key");
        match file::read_private(&key_file) {
            Ok(key) => Self::load(folder, &key, trust_domain, now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (root, pem, key) = Self::generate(trust_domain, now)?;
                // The key comes last: a folder with a key holds a whole root, whatever happened in between.
                write_certificate(folder, &pem)?;
                let new = folder.join("root.key.new");
                let _ = fs::remove_file(&new);
                file::create(&new, key.as_bytes(), file::PRIVATE)
                    .and_then(|()| fs::hard_link(&new, &key_file))
                    .and_then(|()| fs::remove_file(&new))
                    .and_then(|()| file::sync_folder(&key_file))
                    .with_context(|| format!("write the root's key {}", key_file.display()))?;
                Ok(root)
            }
            Err(error) => Err(error).with_context(|| format!("read the root's key {}", key_file.display())),
        }
    }

    /// The certificate that the mesh trusts.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When it ends.
    pub fn expiry(&self) -> OffsetDateTime {
        self.expiry
    }

    fn generate(trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<(Self, String, String)> {
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
        let (pem, secret) = (certificate.pem(), key.serialize_pem());
        let root = Self {
            issuer: Issuer::new(params, key),
            certificate: certificate.der().clone(),
            expiry,
        };
        Ok((root, pem, secret))
    }

    fn load(folder: &Path, key: &[u8], trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Self> {
        let file = folder.join("root.pem");
        let pem = fs::read(&file).with_context(|| format!("read the root {}", file.display()))?;
        let certificate = CertificateDer::from_pem_slice(&pem)
            .with_context(|| format!("{} is not a certificate", file.display()))?;
        let key = std::str::from_utf8(key)
            .ok()
            .and_then(|key| KeyPair::from_pem(key).ok())
            .with_context(|| format!("{} is not a private key", folder.join("root.key").display()))?;
        let expiry = check(&certificate, &key, trust_domain, now)
            .with_context(|| format!("the root {} can't be used", file.display()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .with_context(|| format!("the root {} can't sign", file.display()))?;
        Ok(Self {
            issuer,
            certificate,
            expiry,
        })
    }
}

/// What a root from the disk must be. When it ends.
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
        bail!("it does not belong to root.key beside it");
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
            "it is not of trust domain {trust_domain}: start with its own --trust-domain, or with another --state"
        );
    }
    let expiry = root.validity().not_after.to_datetime();
    if expiry <= now {
        bail!(
            "it ended on {}: move the folder away to make a new one",
            expiry.date()
        );
    }
    Ok(expiry)
}

/// A common name has 64 characters at most (RFC 5280, appendix A.1).
fn shortened(trust_domain: &TrustDomain) -> String {
    trust_domain.as_str().chars().take(50).collect()
}

fn make_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make {}", folder.display()))
}

fn write_certificate(folder: &Path, pem: &str) -> Result<()> {
    let file = folder.join("root.pem");
    file::replace(&file, pem.as_bytes(), file::PUBLIC).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn domain(text: &str) -> TrustDomain {
        text.parse().unwrap()
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn a_root_lasts_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let first = Root::open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        let again = Root::open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        assert_eq!(first.expiry(), again.expiry());
        assert_eq!((first.expiry() - now()).whole_days(), LIFETIME_DAYS);
        let mode = fs::metadata(dir.path().join("root.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("key"));
    }

    #[test]
    fn a_root_that_does_not_fit_is_refused() {
        let open = |dir: &Path, trust: &str, at| {
            let error = Root::open_or_create(dir, &domain(trust), at).unwrap_err();
            format!("{error:#}")
        };
        let dir = tempfile::tempdir().unwrap();
        Root::open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        assert!(open(dir.path(), "other.example", now()).contains("not of trust domain other.example"));
        assert!(
            open(
                dir.path(),
                "mesh.local",
                now() + Duration::days(LIFETIME_DAYS + 1)
            )
            .contains("ended on")
        );

        let key = dir.path().join("root.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("may be read by others"));

        let other = tempfile::tempdir().unwrap();
        Root::open_or_create(other.path(), &domain("mesh.local"), now()).unwrap();
        fs::copy(other.path().join("root.key"), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("does not belong to root.key"));
        fs::write(&key, "rubbish").unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("is not a private key"));
        fs::remove_file(dir.path().join("root.pem")).unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("read the root"));
    }

    #[test]
    fn a_root_in_memory_leaves_no_key_and_never_covers_one() {
        let dir = tempfile::tempdir().unwrap();
        Root::ephemeral(dir.path(), &domain("mesh.local"), now()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        Root::open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        let error = Root::ephemeral(dir.path(), &domain("mesh.local"), now()).unwrap_err();
        assert!(error.to_string().contains("holds a root that lasts"), "{error}");
    }
}
