//! Idle HTTP/1.1 connections at rest: which of them rest, and that nobody can tell.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::peer::{PATIENCE, Peer, Scripted};
use common::{Proxy, service};
use mesh_proxy::observe::names;
use mesh_proxy::observe::registry::Value;
use tokio::time::{sleep, timeout};

const ASK: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
/// The server ends its connections, so that each request has one of its own.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
/// How long a connection that must not rest is watched: more than those that may take.
const WATCHED: Duration = Duration::from_secs(4);

async fn start() -> (Proxy, Scripted) {
    let server = Scripted::start().await;
    let proxy = Proxy::start_before(
        server.address(),
        "http",
        &service("fraud", "http", &[server.address()]),
    );
    (proxy, server)
}

/// How many of the outbound, or inbound, connections are at rest.
fn resting(proxy: &Proxy, port: u16) -> usize {
    let direction = if port == proxy.inbound_port {
        "inbound"
    } else {
        "outbound"
    };
    let mut resting = None;
    for (key, value) in proxy.observe.registry().read() {
        if key.name() == names::CONNECTIONS_RESTING.0
            && key.labels().any(|label| label.value() == direction)
            && let Value::Level(level) = value
        {
            resting = Some(level as usize);
        }
    }
    resting.unwrap()
}

async fn rests(proxy: &Proxy, port: u16, count: usize, why: &str) {
    let rests = async {
        while resting(proxy, port) != count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, rests)
        .await
        .unwrap_or_else(|_| panic!("{why}: {} rest, not {count}", resting(proxy, port)));
}

/// Answers the next request, whose head is returned.
async fn answer(server: &Scripted, client: &mut Peer) -> String {
    let mut at_server = server.accept().await;
    let head = at_server.hear_head().await;
    at_server.say(ANSWER).await;
    drop(at_server);
    let answer = client.hear("ok").await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    head + &answer
}

/// A connection that has carried a request and now lies idle.
async fn idle(server: &Scripted, port: u16) -> Peer {
    let mut client = Peer::connect(port).await;
    client.say(ASK).await;
    answer(server, &mut client).await;
    client
}

#[tokio::test]
async fn a_request_wakes_it() {
    let both = [true, false].map(async |inbound| {
        let (proxy, server) = start().await;
        let port = if inbound {
            proxy.inbound_port
        } else {
            proxy.fraud_port
        };
        let mut client = Peer::connect(port).await;
        // Again and again, as a whole or in pieces.
        for pieces in [vec![ASK], vec![&ASK[..1], &ASK[1..20], &ASK[20..]], vec![ASK]] {
            for piece in pieces {
                client.say(piece).await;
                rests(&proxy, port, 0, "bytes wake it").await;
            }
            let head = answer(&server, &mut client).await;
            assert!(head.starts_with("get /a "), "{head}");
            rests(&proxy, port, 1, "idle").await;
        }
        // What comes at once is served in order.
        let piped: Vec<_> = ["/1", "/2", "/3"].map(|path| ASK.replace("/a", path)).into();
        client.say(&piped.concat()).await;
        for path in ["/1", "/2", "/3"] {
            let head = answer(&server, &mut client).await;
            assert!(head.starts_with(&format!("get {path} ")), "{head}");
        }
        rests(&proxy, port, 1, "idle again").await;
        // And a client that leaves is let go.
        client.done().await;
        assert_eq!(client.hear_all().await, "");
        rests(&proxy, port, 0, "it left").await;
    });
    futures_util::future::join_all(both).await;
}

#[tokio::test]
async fn a_whole_body_and_a_tunnel_rest_too() {
    let (proxy, server) = start().await;
    let port = proxy.proxy_port;
    for (body, ends) in [
        ("Content-Length: 3\r\n\r\nabc", "abc"),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "0\r\n\r\n",
        ),
        (
            "Transfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n3\r\nabc\r\n0\r\nx-a: b\r\n\r\n",
            "x-a: b\r\n\r\n",
        ),
    ] {
        let mut client = Peer::connect(port).await;
        client
            .say(&format!("POST /a HTTP/1.1\r\nHost: fraud.ml\r\n{body}"))
            .await;
        let mut at_server = server.accept().await;
        at_server.hear(ends).await;
        at_server.say(ANSWER).await;
        client.hear("ok").await;
        rests(&proxy, port, 1, body).await;
        drop(client);
        rests(&proxy, port, 0, body).await;
    }
    let mut client = Peer::connect(port).await;
    client
        .say("CONNECT fraud.ml:80 HTTP/1.1\r\nHost: fraud.ml\r\n\r\n")
        .await;
    client.hear("\r\n\r\n").await;
    for round in ["first", "after a rest"] {
        client.say("GET /a HTTP/1.1\r\nHost: fraud.ml\r\n\r\n").await;
        answer(&server, &mut client).await;
        rests(&proxy, port, 1, round).await;
    }
}

#[tokio::test]
async fn an_upgrade_after_a_rest_is_an_upgrade() {
    let (proxy, server) = start().await;
    for port in [proxy.fraud_port, proxy.inbound_port] {
        let mut client = idle(&server, port).await;
        rests(&proxy, port, 1, "idle").await;
        client
            .say("GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            .await;
        let mut switched = server.accept().await;
        switched.hear_head().await;
        switched
            .say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
            .await;
        client.hear("hello").await;
        client.say("bye").await;
        switched.hear("bye").await;
    }
}

/// Connections that must not rest, because something of them would be lost.
#[tokio::test]
async fn what_is_not_over_does_not_rest() {
    let (proxy, server) = start().await;
    let port = proxy.fraud_port;
    let mut kept = Vec::new();

    // Half a head.
    let mut client = idle(&server, port).await;
    client.say("GET /next HTTP/1.1\r\nHo").await;
    kept.push((client, None, "st: x\r\n\r\n", "get /next "));

    // Half a head that comes in one piece with the request before.
    let mut client = Peer::connect(port).await;
    client.say(&format!("{ASK}GET /piped HTTP/1.1\r\nHo")).await;
    answer(&server, &mut client).await;
    kept.push((client, None, "st: x\r\n\r\n", "get /piped "));

    // A request that nobody has answered.
    let mut client = Peer::connect(port).await;
    client.say(ASK).await;
    let at_server = server.accept().await;
    kept.push((client, Some(at_server), "", "get /a "));

    // Half a body.
    let mut client = Peer::connect(port).await;
    client
        .say("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        .await;
    let at_server = server.accept().await;
    kept.push((client, Some(at_server), "cd", "post /body "));

    // Half a response.
    let mut client = Peer::connect(port).await;
    client.say("GET /half HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut at_server = server.accept().await;
    at_server.hear_head().await;
    at_server
        .say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
        .await;
    client.hear("ab").await;
    kept.push((client, Some(at_server), "", ""));

    let watched = Instant::now();
    while watched.elapsed() < WATCHED {
        assert_eq!(resting(&proxy, port), 0);
        sleep(Duration::from_millis(20)).await;
    }
    for (mut client, at_server, more, head) in kept {
        client.say(more).await;
        let mut at_server = match at_server {
            Some(at_server) => at_server,
            None => server.accept().await,
        };
        if head.is_empty() {
            at_server.say("ok").await;
        } else {
            let heard = at_server.hear_head().await;
            assert!(heard.starts_with(head), "{heard}");
            if head.starts_with("post ") {
                at_server.hear("abcd").await;
            }
            at_server.say(ANSWER).await;
        }
        client.hear("ok").await;
    }
}

/// A response that comes before the request's body is over: what is left of the body must never be taken for a request.
#[tokio::test]
async fn the_rest_of_a_body_is_no_request() {
    let (proxy, server) = start().await;
    let port = proxy.fraud_port;
    let mut client = Peer::connect(port).await;
    client
        .say("POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab")
        .await;
    let mut at_server = server.accept().await;
    at_server.hear("ab").await;
    at_server.say(ANSWER).await;
    client.hear("ok").await;
    let watched = Instant::now();
    while watched.elapsed() < WATCHED {
        assert_eq!(resting(&proxy, port), 0);
        sleep(Duration::from_millis(20)).await;
    }
    client.say("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.done().await;
    let heard = client.hear_all().await;
    assert!(!heard.contains("HTTP/1.1"), "{heard}");
    let heard = at_server.hear_all().await;
    assert!(!heard.to_lowercase().contains("\r\n\r\nget /smuggled"), "{heard}");
}

#[tokio::test]
async fn at_the_end_of_the_proxy_it_answers_once_more() {
    let (proxy, server) = start().await;
    let ports = [proxy.fraud_port, proxy.inbound_port];
    let mut clients = Vec::new();
    for port in ports {
        clients.push((idle(&server, port).await, idle(&server, port).await));
        rests(&proxy, port, 2, "idle").await;
    }
    proxy.shared.drain.start();
    for (client, _) in &mut clients {
        client.say(ASK).await;
        let heard = answer(&server, client).await;
        assert!(heard.contains("connection: close\r\n"), "{heard}");
        assert_eq!(client.hear_all().await, "");
    }
    // Who says nothing any more is let go after a while.
    for ((_, mut silent), port) in clients.into_iter().zip(ports) {
        assert_eq!(silent.hear_all().await, "");
        rests(&proxy, port, 0, "all left").await;
    }
    timeout(PATIENCE, proxy.shared.drain.done()).await.unwrap();
}
