//! Serving HTTP on a client's connection: its requests, until it ends or the proxy does. When the proxy is about to end,
//! requests in flight are finished and the client is told to go elsewhere with the next.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{ResponseBody, Served};
use crate::connections::{Busy, Told};
use crate::cork::{Corked, Turn};
use crate::cut::Cut;
use crate::guard::Guarded;
use crate::io::Prefixed;
use crate::limits::{Limits, SEND_BUFFER};
use crate::listen::{Client, Course};
use crate::observe::Direction;
use crate::patience::Streams;
use crate::pool::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::rest::{Http1, Upgrades, rest};
use crate::{inbound, outbound};

/// How much of a connection is read ahead and of an answer is written ahead in HTTP/1.1, in bytes.
const BUFFER: usize = 256 << 10;

/// Serves a connection's requests until it ends.
pub fn serve_http<I>(client: Box<Client>, io: I, http2: bool) -> Course
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client: Rc<Client> = Rc::from(client);
    let limits = &client.worker.shared.limits;
    let io = Guarded::client(io, Arc::clone(&client.seat), http2, limits);
    if http2 {
        Box::pin(streams(client, io))
    } else {
        Box::pin(one_by_one(client, io))
    }
}

/// Serves the requests of a connection in HTTP/1.1, and lets it rest between them.
async fn one_by_one<I>(client: Rc<Client>, io: Guarded<I>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Prefixed::new(Bytes::new(), io);
    // What requests need lies in a box of its own, which is gone while the connection rests.
    while let Some(idle) = Box::pin(requests(&client, io)).await {
        io = idle;
        if io.is_exhausted() && !rest(&client, &mut io).await {
            break;
        }
    }
    // What it was upgraded to goes on with its own limits.
    client.seat.retire();
}

/// Serves the requests of a connection in HTTP/1.1, until it is over or has been idle for a while; then it is returned.
async fn requests<I>(client: &Rc<Client>, io: Prefixed<Guarded<I>>) -> Option<Prefixed<Guarded<I>>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrades = Rc::<Upgrades>::default();
    let (of, may_upgrade) = (Rc::clone(client), Rc::clone(&upgrades));
    let service = service_fn(move |request: Request<Incoming>| {
        let (client, upgrades, busy) = (Rc::clone(&of), Rc::clone(&may_upgrade), of.seat.open());
        async move {
            if request.extensions().get::<OnUpgrade>().is_some() {
                upgrades.made_possible().await;
            }
            let tunnels = request.method() == Method::CONNECT;
            let mut response = answer(&client, request, &busy).await;
            // What becomes another protocol has no next request.
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS || tunnels;
            if !switches && client.worker.shared.drain.is_started() {
                let last = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, last);
            }
            Ok::<_, Infallible>(response.map(|body| Served::new(body, busy)))
        }
    });
    let connection = http1_builder(&client.worker.shared.limits).serve_connection(TokioIo::new(io), service);
    let mut connection = Http1::new(connection, upgrades, &client.seat);
    loop {
        match until_told(client, Pin::new(&mut connection)).await {
            None | Some(Told::Close) => return None,
            Some(Told::Rest) => {
                if let Some(idle) = connection.let_go(&client.seat) {
                    return Some(idle);
                }
            }
            Some(Told::Finish) => {
                connection.shut_down();
                until_finished(client, Pin::new(&mut connection)).await;
                return None;
            }
        }
    }
}

/// Serves the streams of a connection in HTTP/2.
async fn streams<I>(client: Rc<Client>, io: Guarded<I>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Arc::clone(&client.worker.shared);
    let limits = &shared.limits;
    let io = Corked::new(io);
    let of = Rc::clone(&client);
    let service = service_fn(move |request: Request<Incoming>| {
        let (client, busy) = (Rc::clone(&of), of.seat.open());
        // hyper and tokio move a stream's future several times until it has its place, and again when it is over.
        Box::pin(async move {
            let response = answer(&client, request, &busy).await;
            Ok::<_, Infallible>(response.map(|body| Served::new(body, busy)))
        })
    });
    let connection = http2::Builder::new(Streams::new(Rc::clone(&client.worker), client.direction))
        .max_concurrent_streams(limits.max_streams)
        .enable_connect_protocol()
        .max_header_list_size(limits.max_head_bytes)
        // Resets are counted by `Guarded`. h2 would end a connection after 20 that come right behind their streams.
        .max_pending_accept_reset_streams(limits.max_resets as usize)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(io.clone()), service);
    let mut turns = pin!(Turn::new(connection, io));
    let told = tokio::select! {
        biased;
        told = until_told(&client, turns.as_mut()) => told,
        () = shared.drain.started() => Some(Told::Finish),
    };
    if told == Some(Told::Finish) {
        turns.as_mut().connection().graceful_shutdown();
        until_finished(&client, turns).await;
    }
}

/// Answers a request.
async fn answer(client: &Client, request: Request<Incoming>, busy: &Busy) -> Response<ResponseBody> {
    let Client { worker, entry, .. } = client;
    match client.direction {
        Direction::Outbound => outbound::handle(worker, entry, request, busy).await,
        Direction::Inbound => inbound::handle(worker, entry, request, busy).await,
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let head = limits.max_head_bytes as usize;
    // How long a head takes is seen by the connection's seat.
    builder
        .header_read_timeout(None)
        .max_header_size(head)
        .max_buf_size(BUFFER.max(head));
    if let Some(fields) = limits.other_max_headers() {
        builder.max_headers(fields);
    }
    builder
}

/// Runs a connection until it ends, by itself (none) or because it is told something. What it ends with is the client's
/// leaving, or its breaking of the protocol, which hyper has answered.
async fn until_told<C>(client: &Client, connection: Pin<&mut C>) -> Option<Told>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    tokio::select! {
        biased;
        result = connection => {
            ended(client, result.err());
            None
        }
        told = client.seat.told() => Some(told),
    }
}

/// Runs a connection that was shut down until what is open is finished, or it is told to end at once.
async fn until_finished<C>(client: &Client, connection: Pin<&mut C>)
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    tokio::select! {
        biased;
        result = connection => ended(client, result.err()),
        () = client.seat.closed() => {}
    }
}

/// Counts why a connection ended, if its client is to blame.
fn ended(client: &Client, error: Option<hyper::Error>) {
    let cut = client.seat.blamed().or_else(|| Cut::of(error.as_ref()?));
    if let Some(cut) = cut {
        client.worker.cut(client.direction, cut);
    }
    if let Some(error) = error {
        tracing::debug!(%error, "a connection ended");
    }
}
