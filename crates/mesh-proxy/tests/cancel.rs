//! A client that leaves stops what was begun for it, at once, in every protocol and at every stage: a generation that
//! nobody waits for must not go on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use common::generator::Generator;
use common::peer::{PATIENCE, Peer, Scripted};
use common::{Proxy, service};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use mesh_proxy::observe::record::{CLIENT_LEFT, DRAIN_LIMIT};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[tokio::test]
async fn a_client_of_http1_that_leaves() {
    let server = Scripted::start().await;
    let proxy = Proxy::start_before(
        server.address(),
        "http",
        &service("fraud", "http", &[server.address()]),
    );
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut left = 0;
    for port in [proxy.fraud_port, proxy.inbound_port] {
        for (stage, length, sent, answered, times) in [
            ("while it waits", 0, "", "", 0),
            ("in the middle of its request", 1000, "half a body", "", 0),
            ("after the head of the response", 0, "", head, 0),
            ("in the middle of the response", 0, "", "5\r\nhello\r\n", 1),
            ("in the middle of both", 1000, "half a body", "5\r\nhello\r\n", 1),
            ("in a long response", 0, "", "5\r\nhello\r\n", 9),
            (
                "in a long response to half a request",
                1000,
                "half a body",
                "5\r\nhello\r\n",
                9,
            ),
        ] {
            for resets in [false, true] {
                let mut client = Peer::connect(port).await;
                client
                    .say(&format!(
                        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{sent}"
                    ))
                    .await;
                let mut at_server = server.accept().await;
                at_server.hear("\r\n\r\n").await;
                at_server.hear(sent).await;
                if !answered.is_empty() {
                    at_server.say(head).await;
                    client.hear("\r\n\r\n").await;
                }
                for _ in 0..times {
                    at_server.say(answered).await;
                    client.hear(answered).await;
                }
                if resets {
                    client.reset();
                } else {
                    drop(client);
                }
                // The connection ends, and with it what the server did for it.
                let rest = at_server.hear_all().await;
                assert_eq!(rest, "", "a client that leaves {stage}, with a reset: {resets}");
                left += 1;
                counted_as_left(&proxy, left, stage).await;
            }
        }
    }
}

/// Waits until so many requests are over, and sees that they are counted as ended by their clients, none as failed.
async fn counted_as_left(proxy: &Proxy, count: u64, case: &str) {
    let mut left = 0;
    for (labels, totals) in proxy.counted(count).await {
        assert_eq!(totals.failures, 0, "{case}: {labels:?}");
        for (code, reason, requests) in totals.outcomes {
            assert!(
                [CLIENT_LEFT, "client-aborted"].contains(&reason),
                "{case}: code {code}, reason {reason:?}, {labels:?}"
            );
            left += requests;
        }
    }
    assert_eq!(left, count, "{case}");
}

/// A client of HTTP/2, on a connection of its own. hyper's does not reset a stream whose request goes on; this does.
async fn connect(port: u16) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(async {
        // It ends as it is told to.
        let _ = connection.await;
    });
    (sender.ready().await.unwrap(), connection)
}

fn request(path: &str, grpc: bool) -> Request<()> {
    let mut request = Request::post(format!("http://fraud{path}"));
    if grpc {
        request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers");
    }
    request.body(()).unwrap()
}

/// Sends all of it as windows open, for as long as the stream is there.
fn send(mut stream: SendStream<Bytes>, mut bytes: Bytes) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                return;
            };
            if stream.send_data(bytes.split_to(room), false).is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    })
}

#[tokio::test]
async fn a_stream_of_http2_that_is_cancelled() {
    const LARGE: usize = 8 << 20;
    let mut server = Generator::start().await;
    let proxy = Proxy::start_before(
        server.address,
        "http",
        &service("fraud", "http", &[server.address]),
    );
    let (mut generations, mut stopped) = (0, 0);
    for port in [proxy.fraud_port, proxy.inbound_port] {
        // Another stream on a connection that the proxy shares; it goes on.
        let (mut others, _connection) = connect(port).await;
        let (response, stream) = others.send_request(request("/begin", false), true).unwrap();
        let other = (stream, first_piece(response).await);
        generations += 1;
        server.begun(generations).await;
        for grpc in [false, true] {
            for (path, body) in [
                ("/think", None),
                ("/think", Some(11)),
                ("/ignore", Some(11)),
                // More than all windows on the way take.
                ("/ignore", Some(LARGE)),
                ("/begin", None),
                ("/begin", Some(11)),
                ("/begin", Some(LARGE)),
                ("/flow", Some(11)),
            ] {
                for closes in [false, true] {
                    let case = format!("{path}, {body:?} bytes, gRPC: {grpc}, connection closes: {closes}");
                    let (mut sender, connection) = connect(port).await;
                    let (response, stream) =
                        sender.send_request(request(path, grpc), body.is_none()).unwrap();
                    let sending = body.map(|bytes| send(stream, Bytes::from(vec![7; bytes])));
                    generations += 1;
                    server.begun(generations).await;
                    let begun = match path {
                        "/begin" | "/flow" => Ok(first_piece(response).await),
                        _ => Err(response),
                    };
                    if closes {
                        connection.abort();
                    }
                    // With its last handle the stream is reset (CANCEL).
                    if let Some(sending) = sending {
                        sending.abort();
                    }
                    drop(begun);
                    stopped += 1;
                    server.stopped(stopped, &case).await;
                    counted_as_left(&proxy, stopped as u64, &case).await;
                    assert!(
                        closes || !connection.is_finished(),
                        "{case}: no stream ends its connection"
                    );
                }
            }
        }
        drop(other);
        stopped += 1;
        server.stopped(stopped, "the other stream, at last").await;
        counted_as_left(&proxy, stopped as u64, "the other stream, at last").await;
    }
}

#[tokio::test]
async fn a_request_that_is_broken_off_never_seems_whole() {
    let (address, mut requests) = listen().await;
    let proxy = Proxy::start_before(address, "http", &service("fraud", "http", &[address]));
    for port in [proxy.fraud_port, proxy.inbound_port] {
        for (reason, answered) in [
            (Reason::NO_ERROR, false),
            (Reason::NO_ERROR, true),
            (Reason::CANCEL, false),
            (Reason::CANCEL, true),
        ] {
            let (mut sender, _connection) = connect(port).await;
            let (response, mut stream) = sender.send_request(request("/", false), false).unwrap();
            stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
            let (mut received, mut respond) = requests.recv().await.unwrap();
            assert_eq!(next(&mut received).await.unwrap().unwrap(), "hello");
            let _answering = if answered {
                let answering = respond.send_response(Response::new(()), false).unwrap();
                Some((answering, timeout(PATIENCE, response).await.unwrap().unwrap()))
            } else {
                None
            };
            stream.send_reset(reason);
            let end = next(&mut received).await;
            assert!(
                end.as_ref().is_some_and(Result::is_err) && !received.is_end_stream(),
                "reset with {reason}, answered: {answered}, to port {port}: the server sees {end:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_that_goes_on_after_its_response_ends_with_its_client() {
    let (address, mut requests) = listen().await;
    let proxy = Proxy::start_before(address, "http", &service("fraud", "http", &[address]));
    for port in [proxy.fraud_port, proxy.inbound_port] {
        for reason in [Reason::NO_ERROR, Reason::CANCEL] {
            let (mut sender, _connection) = connect(port).await;
            let (response, mut stream) = sender.send_request(request("/", false), false).unwrap();
            stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
            let (mut received, mut respond) = requests.recv().await.unwrap();
            assert_eq!(next(&mut received).await.unwrap().unwrap(), "hello");
            respond.send_response(Response::new(()), true).unwrap();
            assert!(timeout(PATIENCE, response).await.unwrap().is_ok());
            stream.send_reset(reason);
            let end = next(&mut received).await;
            assert!(
                end.as_ref().is_some_and(Result::is_err) && !received.is_end_stream(),
                "reset with {reason}, to port {port}: the server sees {end:?}"
            );
        }
    }
}

/// A server of HTTP/2 that hands out the requests it receives.
async fn listen() -> (
    SocketAddr,
    mpsc::UnboundedReceiver<(RecvStream, SendResponse<Bytes>)>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    sender.send((request.into_body(), respond)).unwrap();
                }
            });
        }
    });
    (address, receiver)
}

async fn next(received: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    timeout(PATIENCE, received.data()).await.unwrap()
}

/// The response, once its first piece has come.
async fn first_piece(response: ResponseFuture) -> RecvStream {
    let mut body = timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
    let piece = timeout(PATIENCE, body.data()).await.unwrap();
    assert!(!piece.unwrap().unwrap().is_empty());
    body
}

#[tokio::test]
async fn what_the_end_of_the_proxy_cuts_off() {
    let server = Scripted::start().await;
    let proxy = Proxy::start(&service("fraud", "http", &[server.address()]));
    let mut client = Peer::connect(proxy.fraud_port).await;
    client.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut at_server = server.accept().await;
    at_server.hear("\r\n\r\n").await;
    let Proxy { applier, observe, .. } = proxy;
    tokio::task::spawn_blocking(|| applier.stop()).await.unwrap();
    assert_eq!(
        (client.hear_all().await, at_server.hear_all().await),
        (String::new(), String::new())
    );
    let all = observe.series().read();
    let (_, totals) = all.iter().find(|(_, totals)| totals.requests() > 0).unwrap();
    let [(code, reason, 1)] = totals.outcomes[..] else {
        panic!("{:?}", totals.outcomes)
    };
    assert_eq!(
        (code.to_string().as_str(), reason, totals.failures),
        ("", DRAIN_LIMIT, 1)
    );
}
