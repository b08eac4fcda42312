//! A worker's connections to endpoints: HTTP/1.1 ones lent to one request at a time, HTTP/2 ones shared by many.
//!
//! Nothing here is shared between workers. An endpoint that leaves the configuration loses its idle connections at the
//! next sweep; those in use end with their requests.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::body::RequestBody;
use crate::connect::connect;
use crate::cork::{Corked, Driver};
use crate::error::{Failure, Reason};
use crate::guard::Guarded;
use crate::limits::{Limits, SEND_BUFFER};
use crate::observe::Direction;
use crate::table::{Endpoint, EndpointId, EndpointSet};
use crate::tls::Alpn;
use crate::worker::Worker;

/// How many streams an HTTP/2 connection carries before another is opened: what servers allow at least (RFC 9113,
/// §6.5.2, advises them to allow no fewer).
const STREAMS_PER_CONNECTION: usize = 100;
/// How many streams of an HTTP/2 connection are given up before their end until it takes no more. h2 counts what still
/// arrives on them against a budget that it never gives back, and ends the connection, with whatever runs on it, when
/// that is spent: some 16,000 small frames, of which a stream that is given up leaves a few.
const MAX_ABANDONED: usize = 500;
/// How many idle HTTP/1.1 connections are kept for an endpoint.
const MAX_IDLE: usize = 256;
/// HTTP/2 windows: a stream's, and a connection's. Large tensors fill the first, many streams the second.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 8 << 20;

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
    shared: RefCell<Vec<Rc<Multiplexed>>>,
    /// One connection is opened at a time, and those who waited look again whether it serves them too.
    opening: Semaphore,
}

/// An HTTP/2 connection.
struct Multiplexed {
    sender: http2::SendRequest<RequestBody>,
    streams: Cell<usize>,
    abandoned: Cell<usize>,
    last_used: Cell<Instant>,
}

/// A connection, or a part of one, for one request.
pub struct Lease(Lent);

enum Lent {
    Http1(http1::SendRequest<RequestBody>, Rc<Pool>),
    Http2(http2::SendRequest<RequestBody>, Stream),
}

/// A stream of a shared connection, counted until it is dropped.
struct Stream {
    of: Rc<Multiplexed>,
    finished: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let of = &self.of;
        of.streams.set(of.streams.get() - 1);
        of.abandoned.set(of.abandoned.get() + usize::from(!self.finished));
        of.last_used.set(Instant::now());
    }
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
        http2: bool,
    ) -> Result<Lease, Failure> {
        let pool = self.of(set, endpoint);
        if http2 {
            pool.lease_http2(worker, set, endpoint).await
        } else {
            pool.lease_http1(worker, set, endpoint).await
        }
    }

    fn of(&self, set: &EndpointSet, endpoint: &Arc<Endpoint>) -> Rc<Pool> {
        let mut pools = self.by_endpoint.borrow_mut();
        let pool = pools.entry(endpoint.id).or_insert_with(|| {
            Rc::new(Pool {
                endpoint: Arc::downgrade(endpoint),
                idle_timeout: set.policy().idle_timeout,
                idle: RefCell::default(),
                shared: RefCell::default(),
                opening: Semaphore::new(1),
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

    async fn lease_http2(
        self: Rc<Self>,
        worker: &Worker,
        set: &EndpointSet,
        endpoint: &Endpoint,
    ) -> Result<Lease, Failure> {
        if let Some(lease) = self.take_stream() {
            return Ok(lease);
        }
        let Ok(_opening) = self.opening.acquire().await else {
            return Err(Failure::new(Reason::ConnectFailed, "the pool is closed"));
        };
        if let Some(lease) = self.take_stream() {
            return Ok(lease);
        }
        let io = connect(worker, endpoint, Alpn::Http2, set.policy().connect_timeout).await?;
        if endpoint.identity.is_some() && !io.agreed_on_http2() {
            return Err(Failure::new(
                Reason::PeerRefused,
                format!("{} does not speak HTTP/2", endpoint.address),
            ));
        }
        let limits = &worker.shared.limits;
        let seat = worker.connections.to_server();
        let io = Corked::new(Guarded::server(io, Arc::clone(&seat), limits));
        let (sender, connection) = http2::Builder::new(Driver::new(io.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(limits.max_head_bytes)
            .max_send_buf_size(SEND_BUFFER)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::new(Reason::ConnectFailed, error.to_string()))?;
        let observe = Rc::clone(&worker.observe);
        tokio::task::spawn_local(async move {
            connection.await.ok();
            if let Some(cut) = seat.blamed() {
                observe.shared().cut(Direction::Outbound, cut);
            }
        });
        let connection = Rc::new(Multiplexed {
            sender,
            streams: Cell::new(0),
            abandoned: Cell::new(0),
            last_used: Cell::new(Instant::now()),
        });
        self.shared.borrow_mut().push(Rc::clone(&connection));
        Ok(connection.lease())
    }

    fn take_stream(&self) -> Option<Lease> {
        let mut shared = self.shared.borrow_mut();
        // One that was given up too often ends with the streams that it has.
        shared.retain(|connection| {
            !connection.sender.is_closed() && connection.abandoned.get() < MAX_ABANDONED
        });
        shared
            .iter()
            .find(|connection| connection.streams.get() < STREAMS_PER_CONNECTION)
            .map(Multiplexed::lease)
    }

    fn sweep(&self, now: Instant) {
        let gone = self.endpoint.strong_count() == 0;
        let fresh = |used: Instant| !gone && now.saturating_duration_since(used) < self.idle_timeout;
        self.idle
            .borrow_mut()
            .retain(|(sender, used)| !sender.is_closed() && fresh(*used));
        self.shared.borrow_mut().retain(|connection| {
            !connection.sender.is_closed()
                && if connection.streams.get() == 0 {
                    fresh(connection.last_used.get())
                } else {
                    !gone
                }
        });
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

impl Multiplexed {
    fn lease(self: &Rc<Self>) -> Lease {
        self.streams.set(self.streams.get() + 1);
        let stream = Stream {
            of: Rc::clone(self),
            finished: false,
        };
        Lease(Lent::Http2(self.sender.clone(), stream))
    }
}

impl Lease {
    /// Sends a request.
    ///
    /// # Errors
    /// With the request, when nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match &mut self.0 {
            Lent::Http1(sender, _) => sender.try_send_request(request).await,
            Lent::Http2(sender, _) => sender.try_send_request(request).await,
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
            Lent::Http2(_, mut stream) => stream.finished = true,
        }
    }
}
