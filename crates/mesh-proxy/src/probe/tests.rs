//! The prober asked over its socket, with workloads of all kinds behind it.

use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_api::snapshot::Snapshot;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::*;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::observe::Observe;
use crate::testing::snapshot;

struct Case {
    at: SocketAddr,
    latest: watch::Sender<Option<Arc<Snapshot>>>,
    drain: Drain,
}

/// A prober with these probes.
fn case(probes: &serde_json::Value) -> Case {
    let (observe, _) = Observe::new("ml/web".parse().unwrap(), Box::new(std::io::sink()));
    let (latest, watched) = watch::channel(None);
    let drain = Drain::default();
    let admin = Admin {
        observe,
        credentials: Arc::default(),
        latest: watched,
        drain: drain.clone(),
        limits: Limits::default(),
    };
    let probing = Probing {
        probe_listen: None,
        probes: probe::parse(&probes.to_string()).unwrap(),
        pod_ip: Ipv4Addr::LOCALHOST.into(),
    };
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(Arc::new(Prober::new(&probing, Arc::new(admin))).serve(listener));
    Case { at, latest, drain }
}

/// What the kubelet is answered: the status and the body.
async fn ask(at: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nx-secret: y\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.trim_end().to_owned())
}

/// A workload that answers every connection's first request like this, counts them, and tells what it was asked.
async fn workload(answer: &'static str) -> (u16, watch::Receiver<String>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, asked) = watch::channel(String::new());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            told.send_replace(String::from_utf8(head).unwrap());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, asked, count)
}

#[tokio::test]
async fn it_says_whether_the_proxy_is_ready() {
    let case = case(&json!({}));
    assert_eq!(
        ask(case.at, "GET", "/ready").await,
        (503, "no configuration yet".to_owned())
    );
    assert_eq!(ask(case.at, "GET", "/live").await.0, 200);
    case.latest.send_replace(Some(Arc::new(snapshot(1))));
    assert_eq!(ask(case.at, "GET", "/ready").await.0, 200);
    let mut intercepted = snapshot(2);
    intercepted.workload.interception = Some(mesh_api::snapshot::Interception {
        inbound: 15_006,
        outbound: 15_001,
    });
    case.latest.send_replace(Some(Arc::new(intercepted)));
    let told = ask(case.at, "GET", "/ready").await;
    assert_eq!(
        told,
        (503, "no certificate that holds".to_owned()),
        "what is called first may need one"
    );
    case.latest.send_replace(Some(Arc::new(snapshot(3))));
    case.drain.start();
    assert_eq!(ask(case.at, "GET", "/ready").await, (503, "draining".to_owned()));
    assert_eq!(ask(case.at, "GET", "/live").await.0, 200);
}

#[tokio::test]
async fn it_answers_nothing_that_it_was_not_started_with() {
    let (port, _, count) = workload("HTTP/1.1 200 OK\r\n\r\n").await;
    let case =
        case(&json!({"web/readiness": {"port": port, "timeoutSeconds": 1, "tcpSocket": {"port": port}}}));
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/metrics", 404),
        ("POST", "/drain", 404),
        ("GET", "/probe/web/liveness", 404),
        ("GET", "/probe/web/readiness/", 404),
        ("GET", "/probe/web/../web/readiness", 404),
        ("GET", "http://evil/secret", 404),
        ("POST", "/probe/web/readiness", 405),
        ("HEAD", "/ready", 405),
    ] {
        assert_eq!(ask(case.at, method, path).await.0, status, "{method} {path}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
    assert_eq!(ask(case.at, "GET", "/probe/web/readiness?x=y").await.0, 200);
}

#[tokio::test]
async fn http_statuses_mean_what_they_mean_to_the_kubelet() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200),
        ("HTTP/1.1 204 No Content\r\n\r\n", 200),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 200),
        ("HTTP/1.1 302 Found\r\nlocation: http://elsewhere/x\r\n\r\n", 200),
        ("HTTP/1.1 302 Found\r\n\r\n", 200),
        ("HTTP/1.1 301 Moved\r\nlocation: /again\r\n\r\n", 502),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", 400),
        (
            "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 6\r\n\r\nsecret",
            500,
        ),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 503),
        ("nonsense\r\n\r\n", 503),
        ("", 503),
    ] {
        let (port, _, _) = workload(answer).await;
        let probe = json!({"a/startup": {"port": port, "timeoutSeconds": 5, "httpGet": {"port": port}}});
        let (status, body) = ask(case(&probe).at, "GET", "/probe/a/startup").await;
        assert_eq!(status, expected, "{answer}: {body}");
        assert!(!body.contains("secret"));
    }
}

#[tokio::test]
async fn the_workload_is_asked_what_its_probe_says_and_no_more() {
    let (port, asked, _) = workload("HTTP/1.1 200 OK\r\n\r\n").await;
    let headers = json!([{"name": "Host", "value": "web.example"}, {"name": "X-Probe", "value": "1"}, {"name": "Accept", "value": ""}]);
    let probe = |get| json!({"a/liveness": {"port": port, "timeoutSeconds": 1, "httpGet": get}});
    let plain = case(&probe(json!({"port": "http"})));
    assert_eq!(ask(plain.at, "GET", "/probe/a/liveness").await.0, 200);
    let agent = concat!("kube-probe/mesh-proxy-", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        *asked.borrow(),
        format!(
            "GET / HTTP/1.1\r\nuser-agent: {agent}\r\naccept: */*\r\nconnection: close\r\nhost: 127.0.0.1:{port}\r\n\r\n"
        )
    );
    let with = case(&probe(
        json!({"port": "http", "path": "/x?y=z", "httpHeaders": headers}),
    ));
    assert_eq!(ask(with.at, "GET", "/probe/a/liveness").await.0, 200);
    assert_eq!(
        *asked.borrow(),
        format!(
            "GET /x?y=z HTTP/1.1\r\nhost: web.example\r\nx-probe: 1\r\nuser-agent: {agent}\r\nconnection: close\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn who_asks_while_a_probe_is_under_way_gets_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = json!({"a/readiness": {"port": port, "timeoutSeconds": 60, "httpGet": {"port": port}}});
    let at = case(&probe).at;
    let asking: Vec<_> = (0..20)
        .map(|_| tokio::spawn(ask(at, "GET", "/probe/a/readiness")))
        .collect();
    let (mut stream, _) = listener.accept().await.unwrap();
    // Give all of them their turn: whoever were to ask the workload anew would be in the queue.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    stream
        .write_all(b"HTTP/1.1 418 I'm a teapot\r\n\r\n")
        .await
        .unwrap();
    for asked in asking {
        assert_eq!(asked.await.unwrap().0, 418);
    }
    assert!(listener.accept().now_or_never().is_none(), "one question for all");
}

use futures_util::FutureExt as _;

#[tokio::test]
async fn connections_are_all_that_a_tcp_probe_asks_for() {
    let (port, _, _) = workload("").await;
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let case = case(&json!({
        "a/readiness": {"port": port, "timeoutSeconds": 1, "tcpSocket": {"port": "http"}},
        "a/liveness": {"port": nobody, "timeoutSeconds": 1, "tcpSocket": {"port": nobody}},
    }));
    assert_eq!(ask(case.at, "GET", "/probe/a/readiness").await.0, 200);
    let (status, reason) = ask(case.at, "GET", "/probe/a/liveness").await;
    assert_eq!(status, 503);
    assert!(reason.contains("Connection refused"), "{reason}");
}

#[tokio::test]
async fn a_workload_that_does_not_answer_has_its_probe_s_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let probe =
        |handler: &str, body| json!({"a/readiness": {"port": port, "timeoutSeconds": 1, handler: body}});
    for probe in [
        probe("httpGet", json!({"port": port})),
        probe("grpc", json!({"port": port})),
    ] {
        let (status, reason) = ask(case(&probe).at, "GET", "/probe/a/readiness").await;
        assert_eq!(status, 504);
        assert!(reason.ends_with("does not answer within 1 s"), "{reason}");
    }
}

#[tokio::test]
async fn tls_is_taken_from_whoever_holds_a_key() {
    let certified = crate::testing::Authority::new().certify(vec![], Err(Duration::from_secs(60)));
    let server = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certified.chain, certified.key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut tls) = acceptor.accept(stream).await {
                let mut head = [0; 1024];
                let _ = tls.read(&mut head).await;
                let _ = tls
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
                let _ = tls.shutdown().await;
            }
        }
    });
    let probe = |scheme| json!({"a/readiness": {"port": port, "timeoutSeconds": 5, "httpGet": {"port": port, "scheme": scheme}}});
    let https = ask(case(&probe("HTTPS")).at, "GET", "/probe/a/readiness").await;
    assert_eq!(https, (200, "ok".to_owned()));
    assert_eq!(
        ask(case(&probe("HTTP")).at, "GET", "/probe/a/readiness").await.0,
        503
    );
}

#[tokio::test]
async fn grpc_servers_are_asked_for_their_health() {
    // What the server answers about a service, and what the kubelet is told.
    for (service, status, expected) in [
        (None, Ok(1), 200),
        (Some("inference"), Ok(1), 200),
        (Some("inference"), Ok(2), 503),
        (Some("inference"), Ok(0), 503),
        (Some("gone"), Err(5), 503),
        (None, Err(12), 503),
    ] {
        let port = health_server(service.unwrap_or_default(), status).await;
        let mut grpc = json!({"port": port});
        if let Some(service) = service {
            grpc["service"] = json!(service);
        }
        let probe = json!({"a/liveness": {"port": port, "timeoutSeconds": 10, "grpc": grpc}});
        let (told, reason) = ask(case(&probe).at, "GET", "/probe/a/liveness").await;
        assert_eq!(told, expected, "{service:?} {status:?}: {reason}");
    }
}

/// A server of `grpc.health.v1.Health/Check` that expects this service, and answers with a status, or a code of gRPC.
async fn health_server(service: &'static str, status: Result<u8, u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut asked = Vec::new();
                while let Some(Ok(bytes)) = body.data().await {
                    asked.extend_from_slice(&bytes);
                }
                let field: Vec<u8> = match service.len() {
                    0 => Vec::new(),
                    length => [&[0x0a, length as u8], service.as_bytes()].concat(),
                };
                assert_eq!(
                    asked,
                    [&[0, 0, 0, 0, field.len() as u8], field.as_slice()].concat()
                );
                let head = Response::builder().header("content-type", "application/grpc");
                let mut send = respond.send_response(head.body(()).unwrap(), false).unwrap();
                if let Ok(status) = status {
                    let message = Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]);
                    send.send_data(message, false).unwrap();
                }
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", u16::from(status.err().unwrap_or(0)).into());
                send.send_trailers(trailers).unwrap();
            });
        }
    });
    port
}

#[tokio::test]
async fn many_slow_callers_keep_nobody_out() {
    let case = case(&json!({}));
    let mut slow = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(case.at).await.unwrap();
        stream.write_all(b"GET /ready HTTP/1.1\r\n").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(ask(case.at, "GET", "/live").await.0, 200);
}

#[tokio::test]
async fn every_address_takes_ipv4_and_a_successor_may_listen_there_too() {
    let first = bind("[::]:0".parse().unwrap()).unwrap();
    let at = first.local_addr().unwrap();
    let second = bind(SocketAddr::new(at.ip(), at.port())).unwrap();
    drop(first);
    let called = TcpStream::connect((Ipv4Addr::LOCALHOST, at.port()));
    let (taken, called) = tokio::join!(second.accept(), called);
    assert!(taken.is_ok() && called.is_ok());
}
