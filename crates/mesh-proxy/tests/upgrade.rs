//! Connections and streams that become something else: `Upgrade` in HTTP/1.1 and extended CONNECT in HTTP/2, through the
//! outbound listener and the inbound one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use common::peer::{PATIENCE, Peer, Scripted};
use common::{Proxy, route, service};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn start() -> (Proxy, Scripted, [u16; 2]) {
    let server = Scripted::start().await;
    let proxy = Proxy::start_before(
        server.address(),
        "http",
        &service("fraud", "http", &[server.address()]),
    );
    let ports = [proxy.fraud_port, proxy.inbound_port];
    (proxy, server, ports)
}

const ASK: &str = "GET /chat?a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

#[tokio::test]
async fn a_connection_is_switched_and_passes_bytes_both_ways() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        let mut client = Peer::connect(port).await;
        client.say(ASK).await;
        let mut at_server = server.accept().await;
        let head = at_server.hear_head().await;
        for line in [
            "get /chat?a http/1.1\r\n",
            "connection: upgrade\r\n",
            "upgrade: websocket\r\n",
            "sec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n",
            "sec-websocket-version: 13\r\n",
            "sec-websocket-protocol: chat\r\n",
        ] {
            assert!(head.contains(line), "{line:?} in {head}");
        }
        // What the server says in the same breath is not lost.
        at_server.say(&format!("{SWITCH}first words")).await;
        let answer = client.hear_head().await;
        for line in [
            "http/1.1 101 switching protocols\r\n",
            "connection: upgrade\r\n",
            "upgrade: websocket\r\n",
            "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n",
        ] {
            assert!(answer.contains(line), "{line:?} in {answer}");
        }
        client.hear("first words").await;
        for number in 0..10 {
            client.say(&format!("<{number}>")).await;
            at_server.hear(&format!("<{number}>")).await;
            at_server.say(&format!("[{number}]")).await;
            client.hear(&format!("[{number}]")).await;
        }
        // Each side ends for itself.
        client.done().await;
        assert_eq!(at_server.hear_all().await, "");
        at_server.say("last words").await;
        drop(at_server);
        assert_eq!(client.hear_all().await, "last words");
    }
}

#[tokio::test]
async fn who_leaves_is_missed_at_once() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        for client_leaves in [true, false] {
            let mut client = Peer::connect(port).await;
            client.say(ASK).await;
            let mut at_server = server.accept().await;
            at_server.hear_head().await;
            at_server.say(SWITCH).await;
            client.hear_head().await;
            let (leaves, mut stays) = if client_leaves {
                (client, at_server)
            } else {
                (at_server, client)
            };
            leaves.reset();
            assert_eq!(stays.hear_all().await, "");
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_switch_is_passed_on() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        for (response, kept) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nno: ", false),
            ("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nno: ", false),
            (
                "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 4\r\n\r\nno: ",
                true,
            ),
        ] {
            let mut client = Peer::connect(port).await;
            client.say(ASK).await;
            let mut at_server = server.accept().await;
            at_server.hear_head().await;
            at_server.say(response).await;
            let answer = client.hear_head().await;
            assert!(answer.starts_with(&response[..12].to_lowercase()), "{answer}");
            assert_eq!(answer.contains("upgrade: websocket"), kept, "{answer}");
            client.hear("no: ").await;
            drop(at_server);
        }
    }
}

#[tokio::test]
async fn silence_longer_than_the_rule_allows_ends_it() {
    let server = Scripted::start().await;
    let documents = service("fraud", "http", &[])
        + &service("back", "http", &[server.address()])
        + &route("{split: {backends: [{name: a, service: back}]}, timeouts: {idle: 50ms}}");
    let proxy = Proxy::start(&documents);
    let mut client = Peer::connect(proxy.fraud_port).await;
    client.say(ASK).await;
    let mut at_server = server.accept().await;
    at_server.hear_head().await;
    at_server.say(SWITCH).await;
    client.hear_head().await;
    assert_eq!(client.hear_all().await, "");
    assert_eq!(at_server.hear_all().await, "");
}

#[tokio::test]
async fn a_proxy_that_is_about_to_end_waits_for_those_who_talk() {
    let (proxy, server, ports) = start().await;
    let mut client = Peer::connect(ports[0]).await;
    client.say(ASK).await;
    let mut at_server = server.accept().await;
    at_server.hear_head().await;
    at_server.say(SWITCH).await;
    client.hear_head().await;
    proxy.shared.drain.start();
    client.say("still").await;
    at_server.hear("still").await;
    assert_eq!(proxy.shared.drain.open_count(), 1);
    drop(client);
    assert_eq!(at_server.hear_all().await, "");
    drop(at_server);
    timeout(PATIENCE, proxy.shared.drain.done()).await.unwrap();
}

/// A client of HTTP/2 that asks for a WebSocket: the response's head, and the stream that the server has agreed to, or the body.
struct Asked {
    status: StatusCode,
    headers: HeaderMap,
    stream: Option<Upgraded>,
    body: Bytes,
}

async fn ask(port: u16, protocol: &'static str) -> Asked {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, mut connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    // The proxy says in its first SETTINGS that it may be asked so; nobody is woken when they come.
    let offered = async {
        while !connection.is_extended_connect_protocol_enabled() {
            let ended = poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx).is_ready())).await;
            assert!(!ended, "the connection ended");
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, offered).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://fraud.test/chat?a")
        .version(Version::HTTP_2)
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let mut response = timeout(PATIENCE, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let stream = match response.status() {
        StatusCode::OK => Some(hyper::upgrade::on(&mut response).await.unwrap()),
        _ => None,
    };
    let (head, body) = response.into_parts();
    Asked {
        status: head.status,
        headers: head.headers,
        stream,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// What a WebSocket server answers to the key in a head.
fn accept_of(head: &str) -> String {
    let key = head.lines().find_map(|line| {
        line.split_once(": ")
            .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
    });
    let digest = Sha1::digest(format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.unwrap().1));
    BASE64.encode(digest)
}

#[tokio::test]
async fn a_stream_of_http2_becomes_a_websocket_of_http1() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        let asking = tokio::spawn(ask(port, "websocket"));
        let mut at_server = server.accept().await;
        let head = at_server.hear("\r\n\r\n").await;
        for line in [
            "GET /chat?a HTTP/1.1\r\n",
            "connection: upgrade\r\n",
            "upgrade: websocket\r\n",
            "sec-websocket-version: 13\r\n",
            "sec-websocket-protocol: chat\r\n",
            "host: fraud.test\r\n",
        ] {
            assert!(head.contains(line), "{line:?} in {head}");
        }
        let accept = accept_of(&head);
        at_server
            .say(&format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\nfirst words"
            ))
            .await;
        let asked = asking.await.unwrap();
        assert_eq!(asked.headers["sec-websocket-protocol"], "chat");
        for gone in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!asked.headers.contains_key(gone), "{gone}");
        }
        let mut stream = TokioIo::new(asked.stream.unwrap());
        let mut first = [0; 11];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"first words");
        stream.write_all(b"question").await.unwrap();
        at_server.hear("question").await;
        stream.shutdown().await.unwrap();
        assert_eq!(at_server.hear_all().await, "");
        at_server.say("answer").await;
        drop(at_server);
        let mut rest = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(rest, "answer");
    }
}

#[tokio::test]
async fn what_http2_clients_would_take_for_a_websocket_is_an_error() {
    let (_proxy, server, ports) = start().await;
    let wrong = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: wrong\r\n\r\n";
    for port in ports {
        for (response, status, reason, body) in [
            (wrong, 502, "upgrade-refused", None),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                502,
                "upgrade-refused",
                None,
            ),
            (
                "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone",
                404,
                "",
                Some("none"),
            ),
        ] {
            let asking = tokio::spawn(ask(port, "websocket"));
            let mut at_server = server.accept().await;
            at_server.hear_head().await;
            at_server.say(response).await;
            let asked = asking.await.unwrap();
            let found = asked
                .headers
                .get("mesh-error")
                .map_or("", |value| value.to_str().unwrap());
            assert_eq!((asked.status.as_u16(), found), (status, reason), "{response}");
            if let Some(body) = body {
                assert_eq!(asked.body, body);
            }
        }
        // Any other protocol has no key to answer.
        let asking = tokio::spawn(ask(port, "echo"));
        let mut at_server = server.accept().await;
        let head = at_server.hear_head().await;
        assert!(
            head.contains("upgrade: echo\r\n") && !head.contains("sec-websocket-key"),
            "{head}"
        );
        at_server
            .say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await;
        assert!(asking.await.unwrap().stream.is_some());
    }
}
