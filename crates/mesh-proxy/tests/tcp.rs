//! Plain TCP: bytes as they are, whoever speaks first, and each side ends for itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::peer::{Peer, Scripted};
use common::{Proxy, service};

#[tokio::test]
async fn each_side_ends_for_itself() {
    let server = Scripted::start().await;
    let proxy = Proxy::start_before(
        server.address(),
        "tcp",
        &service("fraud", "tcp", &[server.address()]),
    );
    for port in [proxy.fraud_port, proxy.inbound_port] {
        for client_ends in [true, false] {
            let mut client = Peer::connect(port).await;
            if port == proxy.inbound_port {
                // What comes in tells by its first byte whether it is TLS.
                client.say("GET / HTTP/1.1\r\n\r\n").await;
            }
            let mut at_server = server.accept().await;
            // A server that speaks first is heard before the client has said anything.
            at_server.say("hello").await;
            client.hear("hello").await;
            if port != proxy.inbound_port {
                client.say("GET / HTTP/1.1\r\n\r\n").await;
            }
            at_server.hear("GET / HTTP/1.1\r\n\r\n").await;
            let (mut ends, mut goes_on) = if client_ends {
                (client, at_server)
            } else {
                (at_server, client)
            };
            ends.done().await;
            assert_eq!(goes_on.hear_all().await, "");
            goes_on.say("last words").await;
            drop(goes_on);
            assert_eq!(ends.hear_all().await, "last words");
        }
    }
}

#[tokio::test]
async fn a_reset_ends_the_other_side_at_once() {
    let server = Scripted::start().await;
    let proxy = Proxy::start_before(
        server.address(),
        "tcp",
        &service("fraud", "tcp", &[server.address()]),
    );
    for port in [proxy.fraud_port, proxy.inbound_port] {
        for client_leaves in [true, false] {
            let mut client = Peer::connect(port).await;
            client.say("x").await;
            let mut at_server = server.accept().await;
            at_server.hear("x").await;
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
