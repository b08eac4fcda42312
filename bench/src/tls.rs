//! The certificates of a pair: one root, one leaf for each proxy.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// The identity of the outbound proxy.
pub(crate) const OUTBOUND: &str = "spiffe://bench.test/ns/bench/sa/outbound";
/// The identity of the inbound proxy.
pub(crate) const INBOUND: &str = "spiffe://bench.test/ns/bench/sa/inbound";
/// The name of the inbound proxy for peers that check DNS names only.
pub(crate) const INBOUND_DNS: &str = "inbound.bench.test";

/// Writes `ca.pem`, `outbound.pem`, `outbound.key`, `inbound.pem` and `inbound.key` into `folder`, and
/// certificate and key together into `outbound-both.pem` and `inbound-both.pem`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut root = CertificateParams::default();
    root.distinguished_name.push(DnType::CommonName, "bench root");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_key = KeyPair::generate().context("cannot make a key")?;
    let root_certificate = root.self_signed(&root_key).context("cannot sign the root")?;
    save(folder, "ca.pem", &root_certificate.pem())?;
    let issuer = Issuer::new(root, root_key);

    for (name, identity, dns) in [
        ("outbound", OUTBOUND, "outbound.bench.test"),
        ("inbound", INBOUND, INBOUND_DNS),
    ] {
        let mut leaf = CertificateParams::new(vec![dns.to_owned()]).context("cannot name a leaf")?;
        leaf.distinguished_name.push(DnType::CommonName, name);
        leaf.subject_alt_names
            .push(SanType::URI(identity.try_into().context("cannot name a leaf")?));
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = leaf.signed_by(&key, &issuer).context("cannot sign a leaf")?;
        save(folder, &format!("{name}.pem"), &certificate.pem())?;
        save(folder, &format!("{name}.key"), &key.serialize_pem())?;
        // Some want both in one file.
        save(
            folder,
            &format!("{name}-both.pem"),
            &(certificate.pem() + &key.serialize_pem()),
        )?;
    }
    Ok(())
}

fn save(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
