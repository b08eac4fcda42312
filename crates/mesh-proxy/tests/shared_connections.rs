//! What many requests leave on one HTTP/2 connection to a server does not end it: other streams run there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use common::{Proxy, service};
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers every call with one piece and two empty ones, and keeps those of `/open` open.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections }
    }
}

async fn serve(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((mut request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            while path != "/open"
                && let Some(Ok(_)) = request.body_mut().data().await
            {}
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream
                .send_data(Bytes::from_static(b"a"), path != "/open")
                .unwrap();
            // Of an open one, hear no more than that the client is gone.
            if path == "/open" {
                let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            }
        });
    }
}

async fn connect(port: u16) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

/// A call whose last piece is empty, as most clients end a stream of messages.
fn call(sender: &mut SendRequest<Bytes>, path: &str) -> ResponseFuture {
    let request = Request::post(format!("http://fraud{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"x"), false).unwrap();
    stream.send_data(Bytes::new(), true).unwrap();
    response
}

#[tokio::test]
async fn empty_pieces_do_not_end_it() {
    const CALLS: usize = 300;
    let server = Server::start().await;
    let proxy = Proxy::start_before(
        server.address,
        "http",
        &service("fraud", "http", &[server.address]),
    );
    for (number, port) in [proxy.fraud_port, proxy.inbound_port].into_iter().enumerate() {
        let mut sender = connect(port).await;
        let mut open = call(&mut sender, "/open").await.unwrap().into_body();
        assert_eq!(open.data().await.unwrap().unwrap(), "a");
        for count in 0..CALLS {
            let mut sender = sender.clone().ready().await.unwrap();
            let response = call(&mut sender, "/").await.unwrap();
            assert_eq!(response.status(), 200, "call {count}");
            let mut body = response.into_body();
            while let Some(piece) = body.data().await {
                piece.unwrap();
            }
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), number + 1);
        // Nothing more comes of the open one, and it has not ended.
        assert!(!open.is_end_stream());
        let silent = std::future::poll_fn(|cx| std::task::Poll::Ready(open.poll_data(cx).is_pending()));
        assert!(silent.await, "the open stream goes on");
    }
}

#[tokio::test]
async fn streams_that_are_given_up_wear_it_out_before_they_break_it() {
    // More than half of what may be reset on a connection, and less than all of it.
    const CALLS: usize = 400;
    let server = Server::start().await;
    let proxy = Proxy::start_before(
        server.address,
        "http",
        &service("fraud", "http", &[server.address]),
    );
    let mut sender = connect(proxy.fraud_port).await;
    let mut first = call(&mut sender, "/open").await.unwrap().into_body();
    assert_eq!(first.data().await.unwrap().unwrap(), "a");
    for _ in 0..CALLS {
        let mut sender = connect(proxy.fraud_port).await;
        let mut given_up = call(&mut sender, "/open").await.unwrap().into_body();
        given_up.data().await.unwrap().unwrap();
    }
    assert_eq!(
        server.connections.load(Ordering::SeqCst),
        2,
        "those that come later have a connection of their own"
    );
    let silent = std::future::poll_fn(|cx| std::task::Poll::Ready(first.poll_data(cx).is_pending()));
    assert!(silent.await, "the open stream goes on");
}

#[tokio::test]
async fn those_who_wait_for_one_fail_with_it() {
    const WAITING: u32 = 20;
    // Nobody takes the connection that fills its queue: those that come later are neither taken nor refused.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _filling = TcpStream::connect(address).await.unwrap();
    let policy = "apiVersion: mesh.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: fraud, namespace: ml}\n\
                  spec: {service: fraud, connection: {connectTimeout: 300ms}}\n---\n";
    let proxy = Proxy::start(&format!("{}{policy}", service("fraud", "http", &[address])));
    let refused = async |mut sender: SendRequest<Bytes>| {
        let response = call(&mut sender, "/").await.unwrap();
        assert_eq!(response.headers()["mesh-error"], "connect-failed");
    };
    let sender = connect(proxy.fraud_port).await;
    let began = Instant::now();
    refused(sender.clone()).await;
    let alone = began.elapsed();
    let began = Instant::now();
    futures_util::future::join_all((0..WAITING).map(|_| refused(sender.clone()))).await;
    let together = began.elapsed();
    assert!(
        together < alone * WAITING / 4,
        "{together:?} for all, {alone:?} for one"
    );
}

#[tokio::test]
async fn a_server_that_closes_each_one_is_not_asked_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let proxy = Proxy::start(&service("fraud", "http", &[address]));
    let mut sender = connect(proxy.fraud_port).await;
    let response = call(&mut sender, "/").await.unwrap();
    assert!(response.headers().contains_key("mesh-error"), "{response:?}");
    assert!(taken.load(Ordering::SeqCst) <= 8, "{taken:?}");
}
