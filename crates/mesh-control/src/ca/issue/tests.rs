//! What is certified, and what is not.

use super::*;
use crate::ca::Root;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn authority(lifetime_hours: u64) -> Authority {
    let domain: TrustDomain = "mesh.local".parse().unwrap();
    let root = Root::generate(&domain, now()).unwrap();
    Authority::new(
        Trust::new(Arc::new(root), []),
        domain,
        std::time::Duration::from_secs(lifetime_hours * 3_600),
    )
}

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

fn request(names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams), key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

fn uri_name(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

const TRITON: &str = "spiffe://mesh.local/ns/ml/sa/triton";

#[test]
fn a_leaf_says_what_was_proved_and_nothing_of_the_request() {
    let authority = authority(24);
    let key = KeyPair::generate().unwrap();
    let csr = request(
        vec![uri_name(TRITON)],
        |params| params.distinguished_name.push(DnType::CommonName, "mesh-control"),
        &key,
    );
    let certificate = authority.certify(&csr, &identity(TRITON), now()).unwrap().leaf;
    let (_, leaf) = X509Certificate::from_der(&certificate).unwrap();
    let names = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(names.as_slice(), [GeneralName::URI(TRITON)]);
    assert!(!leaf.subject().to_string().contains("mesh-control"));
    assert!(!leaf.is_ca());
    assert_eq!(
        leaf.validity().not_before.timestamp(),
        now().unix_timestamp() - 300
    );
    assert_eq!(
        leaf.validity().not_after.timestamp(),
        now().unix_timestamp() + 86_400
    );
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    let trust = authority.trust();
    let root = X509Certificate::from_der(trust.signer().certificate()).unwrap().1;
    leaf.verify_signature(Some(root.public_key())).unwrap();
    let again = authority.certify(&csr, &identity(TRITON), now()).unwrap().leaf;
    let again = X509Certificate::from_der(&again).unwrap().1;
    assert_ne!(leaf.raw_serial(), again.raw_serial());
}

#[test]
fn no_leaf_outlives_the_root() {
    let authority = authority(24);
    let late = authority.trust().signer().expiry() - Duration::hours(1);
    let csr = request(vec![uri_name(TRITON)], |_| {}, &KeyPair::generate().unwrap());
    let certificate = authority.certify(&csr, &identity(TRITON), late).unwrap().leaf;
    let (_, leaf) = X509Certificate::from_der(&certificate).unwrap();
    assert_eq!(
        leaf.validity().not_after.timestamp(),
        authority.trust().signer().expiry().unix_timestamp()
    );
}

#[test]
fn requests_that_ask_for_anything_else_are_refused() {
    let authority = authority(24);
    let p256 = KeyPair::generate().unwrap();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let dns = || SanType::DnsName("mesh-control".try_into().unwrap());
    let good = || vec![uri_name(TRITON)];
    let mut forged = request(good(), |_| {}, &p256);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for (what, csr, words) in [
        ("nothing", vec![], "can't be read"),
        ("rubbish", b"rubbish".to_vec(), "can't be read"),
        ("forged", forged, "can't be read"),
        ("huge", vec![0x30; MAX_CSR + 1], "more than"),
        ("no name", request(vec![], |_| {}, &p256), "asks for no name"),
        (
            "another name",
            request(
                vec![uri_name("spiffe://mesh.local/ns/ml/sa/other")],
                |_| {},
                &p256,
            ),
            "sa/other",
        ),
        (
            "two names",
            request(vec![uri_name(TRITON), uri_name(TRITON)], |_| {}, &p256),
            "and nothing else",
        ),
        (
            "a DNS name too",
            request(vec![uri_name(TRITON), dns()], |_| {}, &p256),
            "DNS \"mesh-control\"",
        ),
        (
            "a DNS name",
            request(vec![dns()], |_| {}, &p256),
            "DNS \"mesh-control\"",
        ),
        (
            "an address",
            request(
                vec![uri_name(TRITON), SanType::IpAddress([127, 0, 0, 1].into())],
                |_| {},
                &p256,
            ),
            "IP 127.0.0.1",
        ),
        (
            "other letters",
            request(
                vec![uri_name("SPIFFE://mesh.local/ns/ml/sa/triton")],
                |_| {},
                &p256,
            ),
            "and nothing else",
        ),
        (
            "an authority",
            request(
                good(),
                |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
                &p256,
            ),
            "certificate authority",
        ),
        ("P-384", request(good(), |_| {}, &p384), "not ECDSA P-256"),
        ("Ed25519", request(good(), |_| {}, &ed25519), "not ECDSA P-256"),
    ] {
        let error = authority
            .certify(&csr, &identity(TRITON), now())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{what}: {error}");
        assert!(error.len() < 600, "{what}");
    }
    let foreign = "spiffe://evil.example/ns/ml/sa/triton";
    let csr = request(vec![uri_name(foreign)], |_| {}, &p256);
    assert!(matches!(
        authority.certify(&csr, &identity(foreign), now()),
        Err(IssueError::Names { .. })
    ));
}

#[test]
fn the_server_has_a_name_that_no_workload_gets() {
    let authority = authority(10);
    let names = ServerNames {
        dns: vec!["mesh-control".into()],
        identity: Some(identity("spiffe://mesh.local/ns/mesh-system/sa/mesh-control")),
    };
    let leaf = authority.server(&authority.trust(), &names, now()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&leaf.certificate).unwrap();
    let names = &certificate
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(
        names.as_slice(),
        [
            GeneralName::DNSName("mesh-control"),
            GeneralName::URI("spiffe://mesh.local/ns/mesh-system/sa/mesh-control")
        ]
    );
    assert_eq!(leaf.renew, now() + Duration::hours(7));
}

#[test]
fn what_is_signed_and_trusted_changes_while_it_runs() {
    let authority = authority(10);
    let follow = authority.follow();
    let before = authority.trust();
    let next = Arc::new(Root::generate(authority.trust_domain(), now()).unwrap());
    authority.replace(Trust::new(
        next.clone(),
        [before.signer().certificate().clone(), next.certificate().clone()],
    ));
    assert!(follow.has_changed().unwrap());
    let csr = request(vec![uri_name(TRITON)], |_| {}, &KeyPair::generate().unwrap());
    let certified = authority.certify(&csr, &identity(TRITON), now()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&certified.leaf).unwrap();
    let root = X509Certificate::from_der(next.certificate()).unwrap().1;
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(
        certified.trust.bundle(),
        [next.certificate().clone(), before.signer().certificate().clone()],
        "each once, the signer first"
    );
}
