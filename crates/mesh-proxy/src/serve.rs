//! Serving HTTP on a client's connection: its requests, until it ends or the proxy does. When the proxy is about to end,
//! requests in flight are finished and the client is told to go elsewhere with the next.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{FromClient, ResponseBody};
use crate::connections::{Busy, Told};
use crate::cut::Ending;
use crate::guard::Guarded;
use crate::listen::{Client, Course};
use crate::observe::Direction;
use crate::{inbound, outbound};

mod head;
mod http1;
mod http2;
mod stream;

/// Serves a connection's requests until it ends.
pub fn serve_http<I>(client: Box<Client>, io: I, speaks_http2: bool) -> Course
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let client: Rc<Client> = Rc::from(client);
    let limits = &client.worker.shared.limits;
    let io = Guarded::client(io, Arc::clone(&client.seat), speaks_http2, limits);
    if speaks_http2 {
        Box::pin(http2::streams(client, io))
    } else {
        Box::pin(http1::one_by_one(client, io))
    }
}

/// Answers a request.
async fn answer(client: &Client, request: Request<FromClient>, busy: &Busy) -> Response<ResponseBody> {
    let Client { worker, entry, .. } = client;
    match client.direction {
        Direction::Outbound => outbound::handle(worker, entry, request, busy).await,
        Direction::Inbound => inbound::handle(worker, entry, request, busy).await,
    }
}

/// Keeps a future in a box. What answering takes is some 9 KB, which are gone when the answer begins: made before its box,
/// it would be moved there.
fn in_place<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}

/// Answers a request, which is open on its connection until what is returned beside the answer is dropped.
async fn answered(
    client: Rc<Client>,
    request: Request<FromClient>,
    busy: Busy,
) -> (Response<ResponseBody>, Busy) {
    (answer(&client, request, &busy).await, busy)
}

/// Runs a connection until it ends, by itself (none) or because it is told something. What it ends with is the client's
/// leaving, or its breaking of the protocol, which has been answered.
async fn until_told<C, E>(client: &Client, connection: Pin<&mut C>) -> Option<Told>
where
    C: Future<Output = Result<(), E>>,
    E: Ending,
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
async fn until_finished<C, E>(client: &Client, connection: Pin<&mut C>)
where
    C: Future<Output = Result<(), E>>,
    E: Ending,
{
    tokio::select! {
        biased;
        result = connection => ended(client, result.err()),
        () = client.seat.closed() => {}
    }
}

/// Counts why a connection ended, if its client is to blame.
fn ended(client: &Client, error: Option<impl Ending>) {
    let cut = client.seat.blamed().or_else(|| error.as_ref()?.cut());
    if let Some(cut) = cut {
        client.worker.cut(client.direction, cut);
    }
    if let Some(error) = error {
        tracing::debug!(%error, "a connection ended");
    }
}
