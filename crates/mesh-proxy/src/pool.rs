//! A worker's connections to endpoints: HTTP/1.1 ones lent to one request at a time, HTTP/2 ones shared by many, and among
//! those, apart, the ones that carry streams of events.
//!
//! Nothing here is shared between workers. An endpoint that leaves the configuration loses its idle connections at the
//! next sweep; those in use end with their requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::body::{RequestBody, ServerBody, ServerError};
use crate::connect::connect;
use crate::error::{Failure, Reason};
use crate::limits::Limits;
use crate::table::{Endpoint, EndpointId, EndpointSet};
use crate::tls::Alpn;
use crate::worker::Worker;

mod multiplexed;

use multiplexed::{Shared, Stream};

/// How many idle HTTP/1.1 connections are kept for an endpoint.
const MAX_IDLE: usize = 256;
/// HTTP/2 windows: a stream's, and a connection's. Large tensors fill the first, many streams the second.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 8 << 20;
/// The window of a stream of events. As many of them as a connection carries fit into its window, so that clients who
/// read slowly hold up nobody else.
const EVENTS_WINDOW: u32 = 64 << 10;

/// What a request goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// A connection of its own.
    Http1,
    /// A stream of a shared connection.
    Http2,
    /// The same, for a request of HTTP/1.1 that is [carried](crate::carry).
    Carried,
}

/// A worker's connections.
#[derive(Default)]
pub struct Pools {
    by_endpoint: RefCell<HashMap<EndpointId, Rc<Pool>>>,
}

/// The connections to one endpoint.
struct Pool {
    endpoint: Weak<Endpoint>,
    idle_timeout: Duration,
    idle: RefCell<Vec<(http1::SendRequest<RequestBody>, Instant)>>,
    http2: Shared,
    carried: Shared,
}

/// A connection, or a part of one, for one request.
pub struct Lease(Lent);

enum Lent {
    Http1(http1::SendRequest<RequestBody>, Rc<Pool>),
    Http2(Stream),
}

/// Why a request has no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// What happened.
    pub error: ServerError,
    /// The request's headers, when nothing of it was sent.
    pub unsent: Option<HeaderMap>,
}

impl Pools {
    /// A connection to the endpoint, for a request of this protocol.
    ///
    /// # Errors
    /// When there is none and none can be made.
    pub async fn lease(
        &self,
        worker: &Worker,
        set: &EndpointSet,
        endpoint: &Arc<Endpoint>,
        link: Link,
    ) -> Result<Lease, Failure> {
        let pool = self.of(set, endpoint);
        match link {
            Link::Http1 => pool.lease_http1(worker, set, endpoint).await,
            Link::Http2 => pool.http2.lease(worker, set, endpoint).await,
            Link::Carried => pool.carried.lease(worker, set, endpoint).await,
        }
    }

    fn of(&self, set: &EndpointSet, endpoint: &Arc<Endpoint>) -> Rc<Pool> {
        let mut pools = self.by_endpoint.borrow_mut();
        let pool = pools.entry(endpoint.id).or_insert_with(|| {
            Rc::new(Pool {
                endpoint: Arc::downgrade(endpoint),
                idle_timeout: set.policy().idle_timeout,
                idle: RefCell::default(),
                http2: Shared::new(STREAM_WINDOW),
                carried: Shared::new(EVENTS_WINDOW),
            })
        });
        Rc::clone(pool)
    }

    /// Closes what nobody has used for long, and forgets endpoints that no Table knows any more.
    pub fn sweep(&self, now: Instant) {
        self.by_endpoint.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            pool.endpoint.strong_count() > 0
        });
    }
}

impl Pool {
    async fn lease_http1(
        self: Rc<Self>,
        worker: &Worker,
        set: &EndpointSet,
        endpoint: &Endpoint,
    ) -> Result<Lease, Failure> {
        if let Some(sender) = self.take_idle() {
            return Ok(Lease(Lent::Http1(sender, self)));
        }
        let io = connect(worker, endpoint, Alpn::Http1, set.policy().connect_timeout).await?;
        let (sender, connection) = http1_builder(&worker.shared.limits)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::new(Reason::ConnectFailed, error.to_string()))?;
        // Its errors reach whoever waits for a response; without one there is nobody to tell.
        tokio::task::spawn_local(async move { connection.with_upgrades().await.ok() });
        Ok(Lease(Lent::Http1(sender, self)))
    }

    /// The connection used last that is ready: it is the least likely to be closed by the other side.
    fn take_idle(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return None;
        }
        let oldest = Instant::now().checked_sub(self.idle_timeout);
        idle.retain(|(sender, used)| !sender.is_closed() && oldest.is_none_or(|oldest| *used > oldest));
        let at = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(idle.remove(at).0)
    }

    fn sweep(&self, now: Instant) {
        let gone = self.endpoint.strong_count() == 0;
        let fresh = |used: Instant| !gone && now.saturating_duration_since(used) < self.idle_timeout;
        self.idle
            .borrow_mut()
            .retain(|(sender, used)| !sender.is_closed() && fresh(*used));
        self.http2.sweep(fresh, gone);
        self.carried.sweep(fresh, gone);
    }
}

/// Heads from servers have the limits of those from clients.
fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.max_head_bytes as usize);
    if let Some(fields) = limits.other_max_headers() {
        builder.max_headers(fields);
    }
    builder
}

impl Lease {
    /// Sends a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<ServerBody>, Unanswered> {
        match &mut self.0 {
            Lent::Http1(sender, _) => match sender.try_send_request(request).await {
                Ok(response) => Ok(response.map(ServerBody::Http1)),
                Err(mut error) => Err(Unanswered {
                    unsent: error.take_message().map(|request| request.into_parts().0.headers),
                    error: ServerError::Http1(error.into_error()),
                }),
            },
            Lent::Http2(stream) => stream.send(request).await,
        }
    }

    /// The response is over: the connection may carry the next request.
    pub fn give_back(self) {
        match self.0 {
            Lent::Http1(sender, pool) => {
                let mut idle = pool.idle.borrow_mut();
                if !sender.is_closed() && idle.len() < MAX_IDLE {
                    idle.push((sender, Instant::now()));
                }
            }
            Lent::Http2(stream) => stream.finished(),
        }
    }
}
