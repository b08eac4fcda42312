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
use tokio::time::Instant;

use crate::body::{RequestBody, ServerBody, ServerError};
use crate::connect::connect;
use crate::error::Failure;
use crate::http1::{Broken, HeadLimits};
use crate::table::{Endpoint, EndpointId, EndpointSet};
use crate::tls::Alpn;
use crate::worker::Worker;

mod multiplexed;
mod single;

use multiplexed::{Shared, Stream};
pub use single::Receiving;
use single::{Connection, Idle, Single};

/// The window of a stream in HTTP/2, in bytes: large tensors fill it.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
/// The window of a stream that has no way to go, or carries events. A larger one would make nothing faster, and is what a
/// client that reads nothing has this proxy hold.
const SMALL_WINDOW: u32 = 64 << 10;

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
    idle: Idle,
    http2: Rc<Shared>,
    carried: Rc<Shared>,
}

/// A connection, or a part of one, for one request.
pub struct Lease(Lent);

enum Lent {
    /// None: it has gone with the response, and comes back by itself.
    Http1(Option<Single>),
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
        worker: &Rc<Worker>,
        set: &EndpointSet,
        endpoint: &Arc<Endpoint>,
        link: Link,
    ) -> Result<Lease, Failure> {
        let pool = self.of(set, endpoint);
        match link {
            Link::Http1 => pool.lease_single(worker, set, endpoint).await,
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
                idle: Idle::default(),
                http2: Shared::new(if endpoint.is_beside() {
                    SMALL_WINDOW
                } else {
                    STREAM_WINDOW
                }),
                carried: Shared::new(SMALL_WINDOW),
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
    async fn lease_single(
        self: Rc<Self>,
        worker: &Worker,
        set: &EndpointSet,
        endpoint: &Endpoint,
    ) -> Result<Lease, Failure> {
        let now = Instant::now();
        let connection = match self
            .idle
            .take(|used| now.saturating_duration_since(used) < self.idle_timeout)
        {
            Some(connection) => connection,
            None => {
                Connection::new(connect(worker, endpoint, Alpn::Http1, set.policy().connect_timeout).await?)
            }
        };
        let limits = HeadLimits::from(&worker.shared.limits);
        Ok(Lease(Lent::Http1(Some(Single::new(connection, self, limits)))))
    }

    fn sweep(&self, now: Instant) {
        let gone = self.endpoint.strong_count() == 0;
        let fresh = |used: Instant| !gone && now.saturating_duration_since(used) < self.idle_timeout;
        self.idle.sweep(fresh);
        self.http2.sweep(fresh, gone);
        self.carried.sweep(fresh, gone);
    }
}

impl Lease {
    /// Sends a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<ServerBody>, Unanswered> {
        match &mut self.0 {
            Lent::Http1(single) => match single.take() {
                Some(single) => single.send(request).await,
                None => Err(Unanswered {
                    error: ServerError::Http1(Broken::Closed),
                    unsent: None,
                }),
            },
            Lent::Http2(stream) => stream.send(request).await,
        }
    }

    /// The response is over: the connection may carry the next request.
    pub fn give_back(self) {
        match self.0 {
            Lent::Http1(_) => {}
            Lent::Http2(stream) => stream.finished(),
        }
    }
}
