//! Serving the requests of a client's connection in HTTP/1.1, one by one. hyper reads and writes them.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{answer, until_finished, until_told};
use crate::body::{FromClient, Served};
use crate::connections::Told;
use crate::guard::Guarded;
use crate::io::Prefixed;
use crate::limits::Limits;
use crate::listen::Client;
use crate::rest::{Http1, Upgrades, rest};

/// How much of a connection is read ahead and of an answer is written ahead, in bytes.
const BUFFER: usize = 256 << 10;

/// Serves the requests of a connection and lets it rest between them.
pub(super) async fn one_by_one<I>(client: Rc<Client>, io: Guarded<I>)
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

/// Serves the requests of a connection until it is over or has been idle for a while; then it is returned.
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
            let request = request.map(|incoming| FromClient::http1(incoming, &busy));
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
    let connection = builder(&client.worker.shared.limits).serve_connection(TokioIo::new(io), service);
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

fn builder(limits: &Limits) -> http1::Builder {
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
