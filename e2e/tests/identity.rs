//! Acceptance: a peer without a mesh certificate, with one of another trust domain, or with another name than the
//! endpoint's, is refused; plaintext is not seen on the wire between sidecars.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use mesh_e2e::client::{Http1, Http2, full, request};
use mesh_e2e::documents::{caller, object, service, workload};
use mesh_e2e::mesh::{Mesh, Options};
use mesh_e2e::net::{Capture, free_port, local};
use mesh_e2e::server::Server;
use mesh_e2e::wait;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PROTOCOL: &str = "mesh.dev/open-inference";
const INFER: &str = "/v2/models/m/infer";
const GOOD: &str = "spiffe://mesh.local/ns/ml/sa/client";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() -> Result<()> {
    let server = Server::start("model").await?;
    let listen = free_port()?;
    let documents = [
        service("model", PROTOCOL),
        workload("model", "model", server.port(), listen, PROTOCOL),
    ];
    let mut mesh = Mesh::start(&documents).await?;
    let ours = Ca::of_mesh(mesh.folder())?;
    let theirs = Ca::new()?;
    let address = local(listen);

    let good = ours.leaf(&[GOOD])?;
    ensure!(
        ask(address, Some(Some(good))).await?.starts_with("HTTP/1.1 200"),
        "a good peer is served"
    );
    assert_eq!(server.requests(), 1);

    let expired = ours.leaf_with(&[GOOD], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    })?;
    for (what, speaks, result) in [
        ("plaintext", None, "plaintext-refused"),
        ("no certificate", Some(None), "no-certificate"),
        (
            "another authority",
            Some(Some(theirs.leaf(&[GOOD])?)),
            "untrusted",
        ),
        (
            "another trust domain",
            Some(Some(ours.leaf(&["spiffe://other.mesh/ns/ml/sa/client"])?)),
            "other-identity",
        ),
        ("no identity", Some(Some(ours.leaf(&[])?)), "other-identity"),
        (
            "two identities",
            Some(Some(ours.leaf(&[GOOD, "spiffe://mesh.local/ns/ml/sa/admin"])?)),
            "other-identity",
        ),
        ("a certificate that has ended", Some(Some(expired)), "untrusted"),
    ] {
        let seen = [("direction", "inbound"), ("result", result)];
        let before = mesh
            .proxy("model")?
            .metrics()
            .await?
            .sum("mesh_tls_handshakes_total", &seen);
        let answer = ask(address, speaks).await.unwrap_or_default();
        assert_eq!(answer, "", "{what} is answered");
        // The client may see the end of the connection before it is counted.
        wait::until(&format!("{what} to be counted as {result}"), async || {
            let metrics = mesh.proxy("model")?.metrics().await?;
            Ok((metrics.sum("mesh_tls_handshakes_total", &seen) > before).then_some(()))
        })
        .await?;
    }
    assert_eq!(server.requests(), 1, "no stranger reaches the process");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impostors_get_no_request() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let port = free_port()?;
    let documents = [
        service("model", PROTOCOL),
        // Nobody's sidecar is started for it: the impostor listens where it would.
        workload("model", "model", free_port()?, address.port(), PROTOCOL),
        caller("client", &[(port, "model")]),
    ];
    let mut mesh = Mesh::control_alone(&documents, &Options::default()).await?;
    mesh.start_proxy("client").await?;
    let ours = Ca::of_mesh(mesh.folder())?;
    let theirs = Ca::new()?;
    let endpoint = "spiffe://mesh.local/ns/ml/sa/model";

    let mut client = Http1::connect(local(port)).await?;
    for (what, leaf, word) in [
        (
            "another workload",
            ours.leaf(&["spiffe://mesh.local/ns/ml/sa/other"])?,
            "peer-refused",
        ),
        (
            "another namespace",
            ours.leaf(&["spiffe://mesh.local/ns/web/sa/model"])?,
            "peer-refused",
        ),
        (
            "another trust domain",
            ours.leaf(&["spiffe://other.mesh/ns/ml/sa/model"])?,
            "peer-refused",
        ),
        ("another authority", theirs.leaf(&[endpoint])?, "peer-refused"),
        ("no identity", ours.leaf(&[])?, "peer-refused"),
    ] {
        let metrics = mesh.proxy("client")?.metrics().await?;
        let before = metrics.sum("mesh_requests_total", &[("reason", word)]);
        let (answer, received) = tokio::join!(
            async {
                let request = request(Method::POST, INFER).body(full("{\"secret\": 1}"))?;
                client.send(request).await
            },
            impostor(&listener, leaf),
        );
        let answer = answer?;
        assert_eq!(
            (answer.status, answer.mesh_error()),
            (StatusCode::SERVICE_UNAVAILABLE, word),
            "{what}"
        );
        assert_eq!(received?, 0, "{what} is sent a byte of the request");
        let metrics = mesh.proxy("client")?.metrics().await?;
        assert_eq!(
            metrics.sum("mesh_requests_total", &[("reason", word)]) - before,
            1.0,
            "{what} is counted"
        );
    }
    let metrics = mesh.proxy("client")?.metrics().await?;
    let refused = [("direction", "outbound"), ("result", "other-identity")];
    assert!(
        metrics.sum("mesh_tls_handshakes_total", &refused) >= 4.0,
        "handshakes are counted by result"
    );

    // The endpoint itself is taken at once.
    let leaf = ours.leaf(&[endpoint])?;
    let (answer, received) = tokio::join!(
        async { client.send(request(Method::POST, INFER).body(full("{}"))?).await },
        impostor(&listener, leaf),
    );
    assert!(received? > 0, "the endpoint gets its request: {answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_readable_between_sidecars() -> Result<()> {
    const MARKER: &str = "a-marker-that-nobody-else-writes-4711";
    let server = Server::start("model").await?;
    let (listen, port) = (free_port()?, free_port()?);
    // Whoever may not listen to the wire has nothing to see here; that is said, not hidden.
    let capture = match Capture::start(&[server.port(), listen, port]) {
        Ok(capture) => capture,
        Err(error) => {
            eprintln!("SKIPPED: what is on the wire is not looked at, which takes CAP_NET_RAW: {error:#}");
            return Ok(());
        }
    };
    let documents = [
        service("model", PROTOCOL),
        workload("model", "model", server.port(), listen, PROTOCOL),
        caller("client", &[(port, "model")]),
    ];
    let _mesh = Mesh::start(&documents).await?;
    let body = json!({"inputs": [{"name": MARKER}]}).to_string();
    let request = request(Method::POST, INFER)
        .header("x-secret", MARKER)
        .body(full(body))?;
    Http1::connect(local(port))
        .await?
        .send(request)
        .await?
        .success()?;
    let grpc = Http2::connect(local(port)).await?;
    let call = grpc.call(
        "/inference.GRPCInferenceService/ModelInfer",
        &[],
        MARKER.as_bytes(),
    );
    // The marker is no message, and the answer no matter.
    let _ = call.await?;

    let packets = capture.finish()?;
    let bytes = |wanted: u16| {
        let pieces = packets.iter().filter(move |(port, _)| *port == wanted);
        pieces
            .flat_map(|(_, payload)| payload.iter().copied())
            .collect::<Vec<u8>>()
    };
    let holds = |port: u16| {
        bytes(port)
            .windows(MARKER.len())
            .any(|window| window == MARKER.as_bytes())
    };
    assert!(
        holds(port),
        "the capture sees what the client sends to its sidecar"
    );
    assert!(
        holds(server.port()),
        "the capture sees what the sidecar sends to its process"
    );
    assert!(
        bytes(listen).len() > 1_000,
        "the capture sees what sidecars send each other"
    );
    assert!(!holds(listen), "the marker is readable between sidecars");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_is_taken_only_where_the_mesh_says_so() -> Result<()> {
    let server = Server::start("model").await?;
    let listen = free_port()?;
    let documents = [
        object("MeshConfig", "mesh", &json!({"mtls": "permissive"})),
        service("model", PROTOCOL),
        workload("model", "model", server.port(), listen, PROTOCOL),
    ];
    let mesh = Mesh::start(&documents).await?;
    let answer = ask(local(listen), None).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // TLS without a mesh identity is refused all the same.
    assert_eq!(ask(local(listen), Some(None)).await.unwrap_or_default(), "");
    assert_eq!(
        ask(local(listen), Some(Some(Ca::new()?.leaf(&[GOOD])?)))
            .await
            .unwrap_or_default(),
        ""
    );

    let version = mesh
        .apply(&object("MeshConfig", "mesh", &json!({"mtls": "strict"})))
        .await?;
    mesh.everyone_at(version).await?;
    assert_eq!(ask(local(listen), None).await.unwrap_or_default(), "");
    assert_eq!(server.requests(), 1);
    Ok(())
}

/// An authority that signs whatever it is asked to.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
type Leaf = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Ca {
    /// Nobody trusts it.
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        let (pem, key) = (issuer.pem(), issuer.key().serialize_pem());
        Self::from_pem(&pem, &key)
    }

    /// The mesh's own, with its key from where the control plane keeps it.
    fn of_mesh(folder: &Path) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(folder.join("control/ca").join(name));
        Self::from_pem(&read("root.pem")?, &read("root.key")?)
    }

    fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { issuer })
    }

    fn leaf(&self, identities: &[&str]) -> Result<Leaf> {
        self.leaf_with(identities, |_| ())
    }

    fn leaf_with(&self, identities: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Result<Leaf> {
        let mut params = CertificateParams::default();
        for identity in identities {
            params
                .subject_alt_names
                .push(SanType::URI((*identity).try_into()?));
        }
        change(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok((certificate.der().clone(), key))
    }
}

/// Asks an inbound listener: in plaintext, over TLS without a certificate, or with one. What it answers.
async fn ask(address: SocketAddr, tls: Option<Option<Leaf>>) -> Result<String> {
    let stream = TcpStream::connect(address).await?;
    let Some(leaf) = tls else {
        return exchange(stream).await;
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let config = match leaf {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key)?,
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    exchange(connector.connect(ServerName::from(address.ip()), stream).await?).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<String> {
    let request = format!("GET {INFER} HTTP/1.1\r\nhost: model\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(wait::PATIENCE, stream.read_to_end(&mut answer)).await??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Answers the next connection with this certificate, and counts the bytes that it is sent behind the handshake.
async fn impostor(listener: &TcpListener, (certificate, key): Leaf) -> Result<usize> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let (stream, _) = tokio::time::timeout(wait::PATIENCE, listener.accept()).await??;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return Ok(0);
    };
    let mut bytes = [0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes)).await;
    // A connection that is broken off brought nothing.
    Ok(read
        .context("the connection stays open and silent")?
        .unwrap_or_default())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Takes any server for the right one: it is the server that is to refuse here.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
