//! The request path in one process: documents are compiled, applied to real workers, and requests go through real
//! sockets to programmable servers. Endpoints are plaintext here; scenarios with identities are end-to-end tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};

use common::peer::{Peer, Scripted};
use common::{Proxy, Server, free_port, post, route, send, service};

/// A server that reads until it has seen the request's body, `marker`, and then resets the connection.
fn server_that_dies(marker: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut read, mut bytes) = (Vec::<u8>::new(), [0; 1024]);
            while !read.windows(marker.len()).any(|window| window == marker) {
                match std::io::Read::read(&mut stream, &mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(more) => read.extend(&bytes[..more]),
                }
            }
            count.fetch_add(1, Ordering::SeqCst);
            socket2::SockRef::from(&stream)
                .set_linger(Some(std::time::Duration::ZERO))
                .unwrap();
        }
    });
    (address, requests)
}

#[tokio::test]
async fn requests_reach_the_service_by_port_host_and_absolute_target() {
    let server = Server::start("one").await;
    let proxy = Proxy::start(&service("fraud", "http", &[server.address]));
    let request = Request::get("/x?y=1")
        .header("host", "anything")
        .header("connection", "x-mine")
        .header("x-mine", "1")
        .header("mesh-error", "forged")
        .header("mesh-peer", "forged")
        .body(Full::default())
        .unwrap();
    let answer = proxy.send(request).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"one"[..]));
    let seen = server.take().remove(0);
    assert_eq!((seen.method, seen.target.as_str()), (Method::GET, "/x?y=1"));
    assert_eq!(seen.headers["host"], "anything");
    for gone in ["x-mine", "mesh-error", "mesh-peer", "connection"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }

    for (target, host) in [
        ("/a", "fraud"),
        ("/a", "fraud.ml"),
        ("/a", "FRAUD.ml.svc.cluster.local:80"),
        ("http://fraud.ml.svc/a", "other"),
        ("http://fraud:80/a", "fraud:80"),
    ] {
        let request = Request::get(target)
            .header("host", host)
            .body(Full::default())
            .unwrap();
        let answer = send(proxy.proxy_port, request).await;
        assert_eq!(answer.status, StatusCode::OK, "{target} {host}");
        assert_eq!(server.take()[0].target, "/a");
    }
    for host in ["nobody", "fraud:81", "fraud.other", "127.0.0.1"] {
        let request = Request::get("/")
            .header("host", host)
            .body(Full::default())
            .unwrap();
        let answer = send(proxy.proxy_port, request).await;
        assert_eq!(
            (answer.status, answer.mesh_error()),
            (StatusCode::NOT_FOUND, "no-such-service"),
            "{host}"
        );
    }
    assert!(server.take().is_empty());
}

#[tokio::test]
async fn models_in_bodies_are_routed_and_rewritten() {
    let (stable, canary) = (Server::start("stable").await, Server::start("canary").await);
    let documents = service("fraud", "mesh.dev/openai", &[])
        + &service("stable", "mesh.dev/openai", &[stable.address])
        + &service("canary", "mesh.dev/openai", &[canary.address])
        + &route(
            "{matches: [{model: gpt}], split: {backends: [{name: b, service: canary, model: {name: longer-name}}]}}, \
             {matches: [{model: {prefix: \"\"}}], split: {backends: [{name: a, service: stable}]}}",
        );
    let proxy = Proxy::start(&documents);
    let chat = "/v1/chat/completions";
    let text = "x".repeat(200_000);
    for padding in ["", text.as_str()] {
        let body = format!("{{\"messages\": \"{padding}\", \"model\": \"gpt\", \"n\": 1}}");
        let answer = proxy.send(post(chat, body.clone())).await;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::OK, &b"canary"[..])
        );
        let seen = canary.take().remove(0);
        assert_eq!(seen.body, body.replace("\"gpt\"", "\"longer-name\""));
        assert_eq!(seen.headers["content-length"], seen.body.len().to_string());
    }
    let answer = proxy.send(post(chat, "{\"model\": \"other\"}")).await;
    assert_eq!(&answer.body[..], b"stable");
    assert_eq!(&stable.take()[0].body[..], b"{\"model\": \"other\"}");

    for (body, reason) in [
        ("{\"model\": \"gpt\", \"model\": \"other\"}", "duplicate-model"),
        ("{\"model\": 7}", "bad-name"),
        ("[1]", "malformed-body"),
        ("{\"model\"", "malformed-body"),
    ] {
        let answer = proxy.send(post(chat, body)).await;
        assert_eq!(
            (answer.status, answer.mesh_error()),
            (StatusCode::BAD_REQUEST, reason),
            "{body}"
        );
    }
    let answer = proxy.send(post(chat, "{}")).await;
    assert_eq!(
        (answer.status, answer.mesh_error()),
        (StatusCode::NOT_FOUND, "no-rule")
    );
    assert!(stable.take().is_empty());
}

#[tokio::test]
async fn a_rewritten_path_asks_for_another_version() {
    let server = Server::start("v2").await;
    let documents = service("fraud", "mesh.dev/open-inference", &[])
        + &service("canary", "mesh.dev/open-inference", &[server.address])
        + &route(
            "{matches: [{model: fraud, operation: [infer]}], split: {backends: [{name: b, service: canary, model: {version: \"2\"}}]}}",
        );
    let proxy = Proxy::start(&documents);
    assert_eq!(
        proxy.send(post("/v2/models/fraud/infer", "{}")).await.status,
        StatusCode::OK
    );
    assert_eq!(server.take()[0].target, "/v2/models/fraud/versions/2/infer");
    let answer = proxy
        .send(post("/v2/models/fraud%2F..%2Fadmin/infer", "{}"))
        .await;
    assert_eq!(
        (answer.status, answer.mesh_error()),
        (StatusCode::BAD_REQUEST, "ambiguous-path")
    );
}

/// A gRPC message as Open Inference clients write it: model name, version, id, and a payload.
fn infer(name: &str, version: &str, payload: usize) -> Vec<u8> {
    let mut message = Vec::new();
    for (tag, value) in [(0x0a, name), (0x12, version), (0x1a, "id")] {
        if !value.is_empty() {
            message.extend([tag, value.len() as u8]);
            message.extend(value.as_bytes());
        }
    }
    message.push(0x3a); // raw_input_contents
    let mut length = payload;
    while length >= 0x80 {
        message.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend(std::iter::repeat_n(7_u8, payload));
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

#[tokio::test]
async fn every_message_of_a_grpc_stream_is_rewritten_however_it_is_cut() {
    let server = Server::start("ok").await;
    let documents = service("fraud", "mesh.dev/open-inference", &[])
        + &service("canary", "mesh.dev/open-inference", &[server.address])
        + &route(
            "{matches: [{model: fraud}], split: {backends: [{name: b, service: canary, model: {name: fraud-canary, version: \"2\"}}]}}",
        );
    let proxy = Proxy::start(&documents);
    let sent: Vec<u8> = [
        infer("fraud", "", 10),
        infer("fraud", "1", 100_000),
        infer("fraud", "2", 0),
    ]
    .concat();
    let expected: Vec<u8> = [
        infer("fraud-canary", "2", 10),
        infer("fraud-canary", "2", 100_000),
        infer("fraud-canary", "2", 0),
    ]
    .concat();
    for cut in [1_usize, 3, 4, 7, 50, 16_000, 1_000_000] {
        let frames: Vec<_> = if cut < 10 {
            // The first bytes one by one, the rest in larger pieces: the same places in far fewer frames.
            sent[..60]
                .chunks(cut)
                .chain(sent[60..].chunks(9_001))
                .map(Bytes::copy_from_slice)
                .collect()
        } else {
            sent.chunks(cut).map(Bytes::copy_from_slice).collect()
        };
        let stream = futures_util::stream::iter(
            frames
                .into_iter()
                .map(|data| Ok::<_, Infallible>(Frame::data(data))),
        );
        let request = Request::post("http://fraud/inference.GRPCInferenceService/ModelStreamInfer")
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .body(StreamBody::new(stream))
            .unwrap();
        let io = TokioIo::new(
            tokio::net::TcpStream::connect(("127.0.0.1", proxy.fraud_port))
                .await
                .unwrap(),
        );
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.headers().get("mesh-error"), None);
        let seen = server.take().remove(0);
        assert_eq!(seen.body.len(), expected.len(), "cut {cut}");
        assert_eq!(seen.body, expected, "cut {cut}");
    }
}

#[tokio::test]
async fn what_no_server_saw_goes_elsewhere_and_what_one_may_have_seen_does_not() {
    let alive = Server::start("alive").await;
    let down: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let proxy = Proxy::start(&service("fraud", "http", &[down, alive.address]));
    for _ in 0..50 {
        assert_eq!(proxy.send(post("/", "body")).await.status, StatusCode::OK);
    }
    assert_eq!(alive.take().len(), 50);

    let (dying, requests) = server_that_dies(b"body");
    let proxy = Proxy::start(&service("fraud", "http", &[dying, alive.address]));
    let mut failed = 0;
    for _ in 0..50 {
        let answer = proxy.send(post("/", "body")).await;
        if answer.status != StatusCode::OK {
            assert_eq!(
                (answer.status, answer.mesh_error()),
                (StatusCode::BAD_GATEWAY, "reset")
            );
            failed += 1;
        }
    }
    // Each failure is one request that the dying server saw, once; after it, others are preferred.
    assert_eq!(requests.load(Ordering::SeqCst), failed);
    assert!((1..10).contains(&failed), "{failed}");
    assert_eq!(alive.take().len(), 50 - failed);
}

#[tokio::test]
async fn grpc_clients_are_told_in_their_own_words() {
    let (dying, requests) = server_that_dies(b"12345");
    let proxy = Proxy::start(&service("fraud", "grpc", &[dying]));
    let request = Request::post("http://fraud/x.Y/Z")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(Full::from("12345"))
        .unwrap();
    let answer = proxy.send(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(answer.mesh_error(), "reset");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn timeouts_are_only_those_that_a_rule_sets() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let documents = service("fraud", "http", &[])
        + &service("silent", "http", &[silent.local_addr().unwrap()])
        + &route(
            "{matches: [{path: /first}], split: {backends: [{name: a, service: silent}]}, timeouts: {firstByte: 50ms}}, \
             {matches: [{path: /total}], split: {backends: [{name: a, service: silent}]}, timeouts: {total: 50ms}}, \
             {matches: [{path: /idle}], split: {backends: [{name: a, service: silent}]}, timeouts: {idle: 50ms}}",
        );
    let proxy = Proxy::start(&documents);
    for (path, reason) in [
        ("/first", "first-byte-timeout"),
        ("/total", "total-timeout"),
        ("/idle", "idle-timeout"),
    ] {
        let answer = proxy.send(post(path, "")).await;
        assert_eq!(
            (answer.status, answer.mesh_error()),
            (StatusCode::GATEWAY_TIMEOUT, reason)
        );
    }
}

#[tokio::test]
async fn weights_are_kept_and_keys_stay() {
    let (a, b) = (Server::start("a").await, Server::start("b").await);
    let documents = service("fraud", "http", &[])
        + &service("a", "http", &[a.address])
        + &service("b", "http", &[b.address])
        + &route(
            "{split: {by: {header: x-user}, backends: [{name: a, service: a, weight: 80}, {name: b, service: b, weight: 20}]}}",
        );
    let mut proxy = Proxy::start(&documents);
    let ask = async |proxy: &Proxy, user: usize| {
        let request = Request::get("/")
            .header("host", "x")
            .header("x-user", user.to_string())
            .body(Full::default());
        proxy.send(request.unwrap()).await.body
    };
    let mut before = HashMap::new();
    for user in 0..200 {
        let body = ask(&proxy, user).await;
        assert_eq!(ask(&proxy, user).await, body);
        before.insert(user, body);
    }
    let canaries = before.values().filter(|body| &body[..] == b"b").count();
    assert!((15..70).contains(&canaries), "{canaries}");
    proxy.documents = proxy
        .documents
        .replace("weight: 80", "weight: 50")
        .replace("weight: 20", "weight: 50");
    proxy.apply();
    for user in 0..200 {
        let now = ask(&proxy, user).await;
        assert!(now == before[&user] || &now[..] == b"b");
    }
}

#[tokio::test]
async fn a_service_without_anything_behind_it_says_so() {
    let documents = service("fraud", "http", &[])
        + &route("{matches: [{path: /gone}], split: {backends: [{name: a, service: nowhere}]}}");
    let proxy = Proxy::start(&service("fraud", "http", &[]));
    let answer = proxy.send(post("/", "")).await;
    assert_eq!(
        (answer.status, answer.mesh_error()),
        (StatusCode::SERVICE_UNAVAILABLE, "no-endpoints")
    );
    let proxy = Proxy::start(&documents);
    let answer = proxy.send(post("/gone", "")).await;
    assert_eq!(
        (answer.status, answer.mesh_error()),
        (StatusCode::SERVICE_UNAVAILABLE, "no-such-backend")
    );
    assert!(
        std::str::from_utf8(&answer.body)
            .unwrap()
            .contains("ModelRoute ml/fraud")
    );
    let answer = proxy.send(post("/else", "")).await;
    assert_eq!(
        (answer.status, answer.mesh_error()),
        (StatusCode::NOT_FOUND, "no-rule")
    );
}

/// A generation's head comes before its first token, and its last token long after.
#[tokio::test]
async fn the_first_byte_is_the_body_s() {
    let pause = Duration::from_millis(100);
    let server = Scripted::start().await;
    let proxy = Proxy::start(&service("fraud", "http", &[server.address()]));
    let mut client = Peer::connect(proxy.fraud_port).await;
    client.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut at_server = server.accept().await;
    at_server.hear("\r\n\r\n").await;
    at_server
        .say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.hear("\r\n\r\n").await;
    for (said, heard) in [("5\r\nfirst\r\n", "first"), ("4\r\nlast\r\n0\r\n\r\n", "last")] {
        tokio::time::sleep(pause).await;
        at_server.say(said).await;
        client.hear(heard).await;
    }
    let all = proxy.counted(1).await;
    let (_, totals) = all.iter().find(|(_, totals)| totals.requests() > 0).unwrap();
    let (first, whole) = (totals.first_byte.seconds, totals.latency.seconds);
    let pause = pause.as_secs_f64();
    assert!(first >= pause && whole >= first + pause, "{first} s of {whole} s");
}
