//! HTTP/1.1 connections to servers, which carry one request at a time: what they carry next, and what goes on beside a
//! response.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::peer::{PATIENCE, Peer, Scripted};
use common::{Proxy, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long a side that could run ahead is given to do so. What is asserted holds at any time.
const OPPORTUNITY: Duration = Duration::from_millis(500);
const REQUEST: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A proxy before a server, and the ports by which the server is reached: outbound and inbound.
fn start(server: std::net::SocketAddr) -> (Proxy, [u16; 2]) {
    let proxy = Proxy::start_before(server, "http", &service("fraud", "http", &[server]));
    let ports = [proxy.fraud_port, proxy.inbound_port];
    (proxy, ports)
}

#[tokio::test]
async fn a_connection_carries_another_request_only_if_nothing_speaks_against_it() {
    let server = Scripted::start().await;
    let (_proxy, ports) = start(server.address());
    for port in ports {
        for (name, response, closes, again) in [
            ("a plain response", OK, false, true),
            (
                "chunks",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                false,
                true,
            ),
            (
                "a response without a body",
                "HTTP/1.1 204 No Content\r\n\r\n",
                false,
                true,
            ),
            (
                "HTTP/1.0 that stays",
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
                false,
                true,
            ),
            (
                "HTTP/1.0",
                "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
                false,
                false,
            ),
            (
                "a server that closes, and says so",
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
                false,
                false,
            ),
            ("a server that closes", OK, true, false),
            (
                "a response, and more",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
                false,
                false,
            ),
        ] {
            let mut client = Peer::connect(port).await;
            client.say(REQUEST).await;
            let mut first = server.accept().await;
            first.hear("hi").await;
            first.say(response).await;
            client.hear("\r\n\r\n").await;
            // It closes before the client asks again: the proxy hears of it first.
            let mut first = if closes {
                drop(first);
                None
            } else {
                Some(first)
            };
            client.say(REQUEST).await;
            let mut carries = match first.take_if(|_| again) {
                Some(first) => first,
                None => server.accept().await,
            };
            carries.hear("hi").await;
            carries
                .say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nit")
                .await;
            client.hear("\r\n\r\nit").await;
            if let Some(mut first) = first {
                assert_eq!(first.hear_all().await, "", "{name}: it is closed");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_after_an_early_answer_ends_the_request() {
    let server = Scripted::start().await;
    let (_proxy, ports) = start(server.address());
    for port in ports {
        let mut client = Peer::connect(port).await;
        client
            .say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf")
            .await;
        let mut at_server = server.accept().await;
        at_server.hear("half").await;
        at_server
            .say("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
            .await;
        client.hear("\r\n\r\nno").await;
        drop(at_server);
        assert_eq!(client.hear_all().await, "");
    }
}

#[tokio::test]
async fn a_request_goes_on_while_nobody_reads_its_response() {
    const LENGTH: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_proxy, ports) = start(listener.local_addr().unwrap());
    for port in ports {
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf")
            .await
            .unwrap();
        let (mut reading, mut writing) = listener.accept().await.unwrap().0.into_split();
        let mut heard = Vec::new();
        while !heard.ends_with(b"half") {
            assert!(
                timeout(PATIENCE, reading.read_buf(&mut heard))
                    .await
                    .unwrap()
                    .unwrap()
                    > 0
            );
        }
        let answering = tokio::spawn(async move {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            writing.write_all(head.as_bytes()).await.unwrap();
            writing.write_all(&vec![b'x'; LENGTH]).await.unwrap();
            writing
        });
        tokio::time::sleep(OPPORTUNITY).await;
        assert!(!answering.is_finished(), "nobody reads");
        client.write_all(b"rest").await.unwrap();
        let mut rest = [0; 4];
        timeout(PATIENCE, reading.read_exact(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&rest, b"rest");
        // All of the response is there for whoever reads it in the end.
        let mut response = Vec::new();
        while response.len() < LENGTH {
            assert!(
                timeout(PATIENCE, client.read_buf(&mut response))
                    .await
                    .unwrap()
                    .unwrap()
                    > 0
            );
        }
        answering.await.unwrap();
    }
}
