//! Who is who in a cluster: one authority, a certificate for each program, and kubeconfigs that show them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

/// A folder of certificates and keys, and the authority that signed them.
pub(super) struct Pki {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// A new authority, `ca.crt` in this folder, and the key that signs the tokens of service accounts.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "mesh-e2e");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(folder.join("ca.crt"), authority.pem())?;
        fs::write(folder.join("ca.key"), authority.key().serialize_pem())?;
        let tokens = KeyPair::generate()?;
        fs::write(folder.join("tokens.key"), tokens.serialize_pem())?;
        fs::write(folder.join("tokens.pub"), tokens.public_key_pem())?;
        Ok(Self {
            folder: folder.to_owned(),
            authority,
        })
    }

    /// A certificate and its key, `NAME.crt` and `NAME.key`, for a user of these groups that is reached by these names
    /// and addresses.
    pub(super) fn issue(&self, name: &str, user: &str, groups: &[&str], names: &[&str]) -> Result<()> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.distinguished_name.push(DnType::CommonName, user);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        fs::write(self.folder.join(format!("{name}.crt")), certificate.pem())?;
        fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// A kubeconfig, `NAME.kubeconfig`, of a new certificate for a user of this group.
    pub(super) fn kubeconfig(
        &self,
        name: &str,
        user: &str,
        groups: &[&str],
        server: &str,
    ) -> Result<PathBuf> {
        self.issue(name, user, groups, &[])?;
        let file = |name: String| self.folder.join(name).display().to_string();
        let document: Value = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "mesh-e2e", "cluster": {"server": server, "certificate-authority": file("ca.crt".into())}}],
            "users": [{"name": name, "user": {
                "client-certificate": file(format!("{name}.crt")),
                "client-key": file(format!("{name}.key")),
            }}],
            "contexts": [{"name": "mesh-e2e", "context": {"cluster": "mesh-e2e", "user": name}}],
            "current-context": "mesh-e2e",
        });
        let path = self.folder.join(format!("{name}.kubeconfig"));
        fs::write(&path, serde_json::to_string_pretty(&document)?)?;
        Ok(path)
    }
}
