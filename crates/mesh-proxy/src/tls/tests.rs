use std::io::{Read, Write};
use std::time::Duration;

use rcgen::SanType;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::testing::{Authority, Certified, dns, identity, uri};

const WEB: &str = "spiffe://mesh.local/ns/ml/sa/web";
const TRITON: &str = "spiffe://mesh.local/ns/ml/sa/triton";
const STRANGER: &str = "spiffe://other.local/ns/ml/sa/web";
const HOUR: Duration = Duration::from_secs(3_600);

/// Lets the two talk in memory until both are done or one refuses.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from("unused").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..4 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn between(
    client: &Credentials,
    expected: &str,
    server: &Credentials,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    handshake(
        client.client_config(&identity(expected), Alpn::Any),
        server.server_config(),
    )
}

/// A client that presents whatever it is given.
fn client_with(authority: &Authority, presents: Option<Certified>) -> Arc<ClientConfig> {
    let roots = Arc::new(root_store(vec![authority.root.clone()]).unwrap());
    let verifier = ServerVerifier::new(roots, identity(TRITON), provider());
    let builder = client_builder()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Arc::new(match presents {
        Some(Certified { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// A server that presents whatever it is given, and asks for nothing.
fn server_with(Certified { chain, key }: Certified) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    Arc::new(
        builder
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap(),
    )
}

/// Leaves that speak for nobody here, and the word that says why.
fn bad_leaves(authority: &Authority, good: &str) -> Vec<(&'static str, Certified)> {
    let of = |names: Vec<SanType>| authority.certify(names, Ok(HOUR));
    vec![
        (
            // An authority of the same name with another key.
            "BadSignature",
            Authority::new().certify(vec![uri(good)], Ok(HOUR)),
        ),
        (
            "Expired",
            authority.certify(vec![uri(good)], Err(Duration::from_secs(60))),
        ),
        (
            "2 URIs",
            of(vec![uri(good), uri("spiffe://mesh.local/ns/ml/sa/admin")]),
        ),
        ("2 URIs", of(vec![uri(good), uri(good)])),
        ("no SPIFFE identity", of(vec![dns("triton.ml.svc")])),
        ("no SPIFFE identity", of(vec![])),
        ("not an identity", of(vec![uri("spiffe://mesh.local/triton")])),
        (
            "not an identity",
            of(vec![uri("https://mesh.local/ns/ml/sa/triton")]),
        ),
        (
            "not an identity",
            of(vec![uri("spiffe://mesh.local/ns/ml/sa/triton/")]),
        ),
        (
            "not a trust domain",
            of(vec![uri("spiffe://MESH.local/ns/ml/sa/triton")]),
        ),
    ]
}

#[test]
fn sidecars_of_one_mesh_know_each_other() {
    let authority = Authority::new();
    let (web, triton) = (authority.credentials(WEB), authority.credentials(TRITON));
    let (client, server) = between(&web, TRITON, &triton).unwrap();
    assert_eq!(peer_identity(&server), Some(identity(WEB)));
    assert_eq!(peer_identity(&client), Some(identity(TRITON)));
    assert_eq!(client.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let suite = client.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(suite, Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
}

#[test]
fn a_listener_refuses_callers_that_are_nobody() {
    let authority = Authority::new();
    let triton = authority.credentials(TRITON);
    let error = handshake(client_with(&authority, None), triton.server_config()).unwrap_err();
    assert!(
        matches!(error, rustls::Error::NoCertificatesPresented),
        "{error:?}"
    );
    let mut bad = bad_leaves(&authority, WEB);
    bad.push((
        "not of trust domain",
        authority.certify(vec![uri(STRANGER)], Ok(HOUR)),
    ));
    for (word, leaf) in bad {
        let error = handshake(client_with(&authority, Some(leaf)), triton.server_config()).unwrap_err();
        assert!(
            format!("{error} {error:?}").contains(word),
            "{error:?} should say {word}"
        );
    }
}

#[test]
fn a_client_refuses_whoever_it_did_not_expect() {
    let authority = Authority::new();
    let web = authority.credentials(WEB);
    let mut bad = bad_leaves(&authority, TRITON);
    bad.push((
        "is not spiffe://",
        authority.certify(vec![uri("spiffe://mesh.local/ns/ml/sa/mlserver")], Ok(HOUR)),
    ));
    bad.push((
        "is not spiffe://",
        authority.certify(vec![uri(STRANGER)], Ok(HOUR)),
    ));
    for (word, leaf) in bad {
        let client = web.client_config(&identity(TRITON), Alpn::Http1);
        let error = handshake(client, server_with(leaf)).unwrap_err();
        assert!(
            format!("{error} {error:?}").contains(word),
            "{error:?} should say {word}"
        );
    }
    // A name beside the identity changes nothing.
    let named = authority.certify(vec![dns("any"), uri(TRITON)], Ok(HOUR));
    handshake(
        web.client_config(&identity(TRITON), Alpn::Http1),
        server_with(named),
    )
    .unwrap();
}

#[test]
fn sessions_are_resumed_but_not_across_identities_or_generations() {
    let authority = Authority::new();
    let web = authority.credentials(WEB);
    let triton = authority.credentials(TRITON);
    let kind = |web: &Credentials, triton: &Credentials| {
        let (mut client, mut server) = between(web, TRITON, triton).unwrap();
        // Tickets come with the first bytes after the handshake.
        server.writer().write_all(b"x").unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
        client.reader().read_exact(&mut [0]).unwrap();
        assert_eq!(
            peer_identity(&server),
            Some(identity(WEB)),
            "known in resumed sessions too"
        );
        server.handshake_kind().unwrap()
    };
    assert_eq!(kind(&web, &triton), rustls::HandshakeKind::Full);
    assert_eq!(kind(&web, &triton), rustls::HandshakeKind::Resumed);
    let renewed = authority.credentials(TRITON);
    assert_ne!(
        kind(&web, &renewed),
        rustls::HandshakeKind::Resumed,
        "the server's tickets ended"
    );
    let renewed = authority.credentials(WEB);
    assert_ne!(
        kind(&renewed, &triton),
        rustls::HandshakeKind::Resumed,
        "the client's sessions ended"
    );
}

#[test]
fn an_ended_leaf_is_nobody_even_in_a_session_that_goes_on() {
    let authority = Authority::new();
    let leaf = authority.certify(vec![uri(WEB)], Ok(Duration::from_secs(2)));
    let triton = authority.credentials(TRITON);
    let (_, server) = handshake(client_with(&authority, Some(leaf)), triton.server_config()).unwrap();
    let der = &server.peer_certificates().unwrap()[0];
    let leaf = Leaf::read(der).unwrap();
    assert!(leaf.not_after < SystemTime::now() + Duration::from_secs(3));
    assert_eq!(
        peer_identity(&server).is_some(),
        SystemTime::now() < leaf.not_after
    );
}

#[test]
fn credentials_are_checked_as_a_whole() {
    let authority = Authority::new();
    let roots = || vec![authority.root.clone()];
    let domain = identity(WEB).trust_domain;
    let made = |chain: Vec<_>, key, roots| Credentials::new(identity(WEB), chain, key, roots, &domain);
    let good = || authority.certify(vec![uri(WEB)], Ok(HOUR));
    assert!(
        made(good().chain, good().key, roots())
            .unwrap_err()
            .to_string()
            .starts_with("private key")
    );
    let Certified { chain, key } = good();
    assert!(matches!(
        made(Vec::new(), key.clone_key(), roots()),
        Err(CredentialsError::NoChain)
    ));
    assert!(matches!(
        made(chain.clone(), key.clone_key(), Vec::new()),
        Err(CredentialsError::NoRoots)
    ));
    let others = vec![Authority::new().root];
    assert!(matches!(
        made(chain.clone(), key.clone_key(), others),
        Err(CredentialsError::Untrusted(_))
    ));
    let not_root = vec![vec![1, 2, 3].into()];
    assert!(matches!(
        made(chain.clone(), key.clone_key(), not_root),
        Err(CredentialsError::Root(_))
    ));
    let Certified {
        chain: ended,
        key: old,
    } = authority.certify(vec![uri(WEB)], Err(HOUR));
    assert!(matches!(
        made(ended, old, roots()),
        Err(CredentialsError::Untrusted(_))
    ));
    assert!(matches!(
        authority.try_credentials(WEB, TRITON),
        Err(CredentialsError::OtherIdentity { .. })
    ));
    let other = Credentials::new(
        identity(STRANGER),
        chain.clone(),
        key.clone_key(),
        roots(),
        &domain,
    );
    assert!(matches!(other, Err(CredentialsError::OtherTrustDomain { .. })));
    let one = made(chain, key, roots()).unwrap();
    assert!(authority.credentials(WEB).generation > one.generation);
    assert!(!format!("{one:?}").contains("key"));
}

#[test]
fn a_client_configuration_is_made_once_for_each_identity() {
    let web = Authority::new().credentials(WEB);
    let config = |of: &str, alpn| web.client_config(&identity(of), alpn);
    assert!(Arc::ptr_eq(
        &config(TRITON, Alpn::Http2),
        &config(TRITON, Alpn::Http2)
    ));
    assert!(!Arc::ptr_eq(
        &config(TRITON, Alpn::Http2),
        &config(TRITON, Alpn::Http1)
    ));
    assert!(!Arc::ptr_eq(
        &config(TRITON, Alpn::Http2),
        &config(WEB, Alpn::Http2)
    ));
}

#[test]
fn results_have_a_word() {
    let of = |error: rustls::Error| result(Err(&std::io::Error::new(std::io::ErrorKind::InvalidData, error)));
    assert_eq!(result(Ok(())), "ok");
    assert_eq!(of(rustls::Error::NoCertificatesPresented), "no-certificate");
    assert_eq!(of(CertificateError::UnknownIssuer.into()), "untrusted");
    assert_eq!(of(rustls::Error::DecryptError), "protocol");
    assert_eq!(result(Err(&std::io::ErrorKind::TimedOut.into())), "timeout");
}
