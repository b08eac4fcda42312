//! Deadlines of gRPC calls: told to the server less what was spent, and kept by the mesh when the server does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::generator::Generator;
use common::peer::PATIENCE;
use common::{Proxy, route, service};
use http::{HeaderMap, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How a call ended: its headers, and its trailers.
async fn call(port: u16, path: &str, within: &str) -> (HeaderMap, HeaderMap) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://fraud{path}"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", within)
        .body(Full::<Bytes>::default())
        .unwrap();
    let ended = async {
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let trailers = body
            .collect()
            .await
            .unwrap()
            .trailers()
            .cloned()
            .unwrap_or_default();
        (head.headers, trailers)
    };
    timeout(PATIENCE, ended).await.unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_call_ends_with_its_deadline_and_so_does_its_generation() {
    let mut server = Generator::start().await;
    let proxy = Proxy::start_before(
        server.address,
        "grpc",
        &service("fraud", "grpc", &[server.address]),
    );
    let mut generations = 0;
    for port in [proxy.fraud_port, proxy.inbound_port] {
        for path in ["/think", "/begin"] {
            let (headers, trailers) = call(port, path, "200m").await;
            generations += 1;
            let end = if path == "/think" { &headers } else { &trailers };
            assert_eq!(
                (text(end, "grpc-status"), text(end, "mesh-error")),
                ("4", "deadline-exceeded"),
                "{path}: {end:?}"
            );
            let told = server.begun(generations).await["grpc-timeout"]
                .to_str()
                .unwrap()
                .to_owned();
            let micros: u32 = told.strip_suffix('u').unwrap().parse().unwrap();
            assert!((1..=200_000).contains(&micros), "{told}");
            server.stopped(generations, path).await;
        }
    }
}

#[tokio::test]
async fn a_shorter_limit_of_the_rule_counts_and_is_told() {
    let mut server = Generator::start().await;
    let documents = service("fraud", "grpc", &[])
        + &service("back", "grpc", &[server.address])
        + &route("{split: {backends: [{name: a, service: back}]}, timeouts: {total: 100ms}}");
    let proxy = Proxy::start(&documents);
    let (headers, _) = call(proxy.fraud_port, "/think", "1H").await;
    assert_eq!(
        (text(&headers, "grpc-status"), text(&headers, "mesh-error")),
        ("4", "total-timeout")
    );
    server.begun(1).await;
    server.stopped(1, "a limit of the rule").await;
}
