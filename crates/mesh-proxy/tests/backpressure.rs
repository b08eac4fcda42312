//! A side that reads slowly slows down the one that writes, from end to end, and nothing in between grows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::generator::Generator;
use common::peer::PATIENCE;
use common::{Proxy, service};
use futures_util::stream;
use http::{Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What the proxy may hold of one direction: windows of HTTP/2, and buffers.
const HELD: u64 = 4 << 20;
/// How long a side that could run ahead is given to do so. What is asserted holds at any time.
const OPPORTUNITY: Duration = Duration::from_millis(500);

/// The most that may be on its way: what the kernel holds for the two connections, and what the proxy does.
fn on_its_way() -> u64 {
    let most = |name: &str| -> u64 {
        let file = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        file.split_whitespace().last().unwrap().parse().unwrap()
    };
    2 * (most("tcp_rmem") + most("tcp_wmem")) + HELD
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn send(port: u16, version: Version, path: &str, body: Body) -> Response<Incoming> {
    let io = TokioIo::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let request = Request::post(format!("http://fraud{path}"))
        .version(version)
        .header("host", "fraud")
        .body(body)
        .unwrap();
    if version == Version::HTTP_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let server = Generator::start().await;
        let proxy = Proxy::start_before(
            server.address,
            "http",
            &service("fraud", "http", &[server.address]),
        );
        for port in [proxy.fraud_port, proxy.inbound_port] {
            // So much passes that a proxy that holds it would be found out.
            let (most, total) = (on_its_way(), 3 * on_its_way());
            let before = server.produced();
            let mut response = send(port, version, "/flow", Full::default().boxed_unsync()).await;
            let mut read = 0;
            let mut rests = 0;
            while read < total {
                if read >= rests * total / 2 {
                    rests += 1;
                    tokio::time::sleep(OPPORTUNITY).await;
                }
                let frame = timeout(PATIENCE, response.body_mut().frame())
                    .await
                    .unwrap()
                    .unwrap()
                    .unwrap();
                read += frame.data_ref().unwrap().len() as u64;
                let ahead = server.produced() - before - read;
                assert!(
                    ahead <= most,
                    "{version:?}: {ahead} bytes are on their way after {read}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_read() {
    const PIECE: &[u8] = &[b'x'; 64 << 10];
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut server = Generator::start().await;
        let proxy = Proxy::start_before(
            server.address,
            "http",
            &service("fraud", "http", &[server.address]),
        );
        for (number, port) in [proxy.fraud_port, proxy.inbound_port].into_iter().enumerate() {
            let sent: Arc<AtomicU64> = Arc::default();
            let counts = Arc::clone(&sent);
            let pieces = stream::repeat_with(move || {
                counts.fetch_add(PIECE.len() as u64, Ordering::SeqCst);
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(PIECE)))
            });
            let sending = tokio::spawn(send(
                port,
                version,
                "/ignore",
                StreamBody::new(pieces).boxed_unsync(),
            ));
            server.begun(number + 1).await;
            tokio::time::sleep(OPPORTUNITY).await;
            let sent = sent.load(Ordering::SeqCst);
            assert!(
                (1..=on_its_way()).contains(&sent),
                "{version:?}: {sent} bytes are on their way"
            );
            sending.abort();
        }
    }
}
