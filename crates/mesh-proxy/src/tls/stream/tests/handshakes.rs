//! Handshakes: who is who, what may be resumed, and how much is too much.

use rustls::HandshakeKind;

use super::*;

#[tokio::test]
async fn whoever_proved_to_be_somebody_is_known() {
    let configs = Configs::new();
    let (near, far) = duplex(4096);
    let connecting = Box::pin(TlsStream::connect(near, configs.client, name()));
    let accepting = Box::pin(TlsStream::accept(far, configs.server));
    let (near, far) = bounded(async { tokio::join!(connecting, accepting) }).await;
    let (far, peer) = far.unwrap();
    assert_eq!(peer, Some(identity(WEB)));
    for agreed in [near.unwrap().protocol(), far.protocol()] {
        assert_eq!(agreed, Some(Protocol::Http2));
    }
}

#[tokio::test]
async fn a_handshake_that_fails_tells_the_peer_why() {
    let authority = Authority::new();
    let triton = authority.credentials(TRITON);
    // A client of another authority's.
    let mut configs = Configs::new();
    configs.server = triton.server_config();
    let (near, far) = duplex(4096);
    let (near, far) = bounded(shake(&configs, Ours::Client, near, far)).await;
    let error = near.err().unwrap();
    assert!(error.get_ref().unwrap().is::<rustls::Error>(), "{error:?}");
    assert!(far.unwrap_err().to_string().contains("alert"));

    for sent in [&b""[..], &[22, 3, 1]] {
        let (near, mut far) = duplex(4096);
        far.write_all(sent).await.unwrap();
        drop(far);
        let error = bounded(TlsStream::accept(near, triton.server_config()))
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
    let (near, mut far) = duplex(4096);
    far.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let error = bounded(TlsStream::accept(near, triton.server_config()))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let mut alert = Vec::new();
    bounded(far.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 50], "a fatal decode_error");
}

#[tokio::test]
async fn a_handshake_may_be_large_but_not_endless() {
    let authority = Authority::new();
    let web = authority.credentials(WEB);
    let minute = Ok(Duration::from_secs(60));
    let other = authority.certify(vec![uri(WEB)], minute).chain.remove(0);
    for (certificates, passes) in [(1, true), (60, true), (300, false)] {
        let mut leaf = authority.certify(vec![uri(TRITON)], minute);
        leaf.chain
            .extend(std::iter::repeat_n(other.clone(), certificates));
        let server = ServerConfig::builder_with_provider(crate::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .unwrap();
        let configs = Configs {
            client: web.client_config(&identity(TRITON), Alpn::Opaque),
            server: Arc::new(server),
            _credentials: (authority.credentials(WEB), authority.credentials(WEB)),
        };
        let (near, far) = duplex(3000);
        let connecting = TlsStream::connect(near, configs.client, name());
        let accepting = TlsAcceptor::from(configs.server).accept(far);
        let (near, far) = bounded(async { tokio::join!(connecting, accepting) }).await;
        assert_eq!(near.is_ok(), passes, "{certificates}: {:?}", near.err());
        assert_eq!(far.is_ok(), passes, "{certificates}: {:?}", far.err());
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    let configs = Configs::new();
    for ours in BOTH {
        let configs = if ours == Ours::Client {
            &configs
        } else {
            &Configs::new()
        };
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (mut near, mut far) = bounded(pair(configs, ours, 64 << 10)).await;
            let told = match &far {
                Peer::Client(far) => far.get_ref().1.handshake_kind(),
                Peer::Server(far) => far.get_ref().1.handshake_kind(),
            };
            assert_eq!(told, Some(kind), "{ours:?}");
            // Tickets are read with the first bytes after them.
            far.write_all(b"x").await.unwrap();
            near.write_all(b"y").await.unwrap();
            bounded(near.read_exact(&mut [0])).await.unwrap();
            bounded(far.read_exact(&mut [0])).await.unwrap();
            holds_nothing(&near);
        }
    }
}
