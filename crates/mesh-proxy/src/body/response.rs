//! The response's body on its way to the client. It holds the record, the connection and the endpoint's load count,
//! and lets go of them when the last byte has passed, or when nobody reads it any more.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{BodyError, ServerBody, ServerError, Source};
use crate::error::{Failure, Reason};
use crate::observe::Record;
use crate::pool::Lease;
use crate::table::Endpoint;

/// A request in flight on an endpoint, until it is dropped.
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    /// Counts a request in.
    pub fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.begin();
        Self(Arc::clone(endpoint))
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.load.end();
    }
}

/// What the client receives.
pub enum ResponseBody {
    /// Bytes of the mesh's own.
    Message(Option<Bytes>),
    /// Bytes of the mesh's own, with the record of the request.
    Recorded(Option<Bytes>, Box<Record>),
    /// What the server sends.
    Upstream(Box<Upstream>),
}

/// A server's response on its way. What each of its pieces needs stands together, at the beginning of a cache line: where
/// hundreds are on their way, the cache has forgotten a response by its next piece.
#[repr(C, align(64))]
pub struct Upstream {
    /// How far it is.
    pub progress: Progress,
    /// What the server sends.
    pub body: ServerBody,
    /// The record of the request; it closes when this is dropped.
    pub record: Record,
    /// Where the request came from, for its count of bytes and its pace.
    pub source: Rc<RefCell<Source>>,
    /// The connection, to be used again after the last byte.
    pub lease: Option<Lease>,
    /// The endpoint's count of requests in flight.
    pub in_flight: InFlight,
    /// Whether the client understands gRPC's trailers.
    pub grpc: bool,
    /// How long nothing may move.
    pub idle: Duration,
    /// When the whole must be over, and why.
    pub deadline: Option<(Instant, Reason)>,
}

/// How far a response is.
pub struct Progress {
    /// Whether the end has been seen.
    ended: bool,
    /// Whether a byte has moved this way since the body waited.
    moved: bool,
    /// When one last did.
    last_moved: Instant,
    /// How many bytes there were.
    bytes: u64,
    /// Wakes up when it may have taken too long; made when the body first waits.
    timer: Option<Timer>,
}

impl Progress {
    /// Of a response that begins now.
    pub fn begin() -> Self {
        Self {
            ended: false,
            moved: false,
            last_moved: Instant::now(),
            bytes: 0,
            timer: None,
        }
    }

    /// So many bytes have moved now.
    fn note(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.last_moved = Instant::now();
        self.moved = true;
    }

    /// Whether the timer needs no look while the body waits: it wakes the task, which is always the same one, when it is due.
    fn is_watched(&mut self) -> bool {
        std::mem::take(&mut self.moved) && self.timer.as_ref().is_some_and(|it| self.last_moved < it.due)
    }
}

/// A timer that has woken its task once it is past `due`, and not before.
struct Timer {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn until(due: Instant) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(due));
        Self { due, sleep }
    }

    fn reset(&mut self, due: Instant) {
        self.due = due;
        self.sleep.as_mut().reset(due);
    }
}

impl ResponseBody {
    /// Nothing.
    pub fn empty() -> Self {
        Self::Message(None)
    }

    /// A message of the mesh's own.
    pub fn message(bytes: Bytes) -> Self {
        Self::Message(Some(bytes))
    }

    /// Ties the record of the request to an answer of the mesh's own.
    #[must_use]
    pub fn recorded(self, record: Record) -> Self {
        match self {
            Self::Message(bytes) => Self::Recorded(bytes, Box::new(record)),
            other => other,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Message(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Recorded(bytes, record) => Poll::Ready(bytes.take().map(|bytes| {
                record.response_bytes(bytes.len() as u64);
                Ok(Frame::data(bytes))
            })),
            Self::Upstream(upstream) => upstream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(bytes) | Self::Recorded(bytes, _) => bytes.is_none(),
            Self::Upstream(upstream) => upstream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Message(bytes) | Self::Recorded(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Upstream(upstream) => upstream.body.size_hint(),
        }
    }
}

impl Upstream {
    /// A response on its way; one without a body is over already.
    #[must_use]
    pub fn begun(mut self) -> Box<Self> {
        if self.body.is_end_stream() {
            self.end();
        }
        Box::new(self)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.progress.ended {
            return Poll::Ready(None);
        }
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    let failure = midway(&self.source.borrow(), &error);
                    return Poll::Ready(self.fail(&failure, error.into()));
                }
                Poll::Pending => {
                    if self.progress.is_watched() {
                        return Poll::Pending;
                    }
                    let failure = ready!(self.poll_overdue(cx));
                    let error = failure.detail.clone().into();
                    return Poll::Ready(self.fail(&failure, error));
                }
            };
            if let Some(data) = frame.data_ref() {
                if self.progress.bytes == 0 && !data.is_empty() {
                    self.record.first_byte();
                }
                self.progress.note(data.len());
            } else if let Some(trailers) = frame.trailers_ref() {
                self.read_status(trailers);
            }
            let ended = self.body.is_end_stream();
            if ended {
                self.end();
            }
            // An empty piece says nothing, and an HTTP/2 client ends a connection that brings too many of them.
            match frame.data_ref() {
                Some(data) if data.is_empty() && ended => return Poll::Ready(None),
                Some(data) if data.is_empty() => {}
                _ => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn read_status(&mut self, trailers: &HeaderMap) {
        if let Some(status) = grpc_status(trailers) {
            self.record.grpc_status(status);
        }
    }

    /// The last byte has passed: the connection may carry the next request.
    fn end(&mut self) {
        self.progress.ended = true;
        self.record.first_byte();
        self.record.request_bytes(self.source.borrow().received());
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    /// The response ends before its end. A gRPC client is told why; to others only breaking off says that it is not whole.
    fn fail(&mut self, failure: &Failure, error: BodyError) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.progress.ended = true;
        self.lease = None;
        self.source.borrow().abandon();
        self.record.request_bytes(self.source.borrow().received());
        self.record.fail(failure.reason.as_str(), failure.object.clone());
        if failure.reason.status().is_client_error() {
            self.record.cancelled();
        }
        if failure.reason.blames_endpoint() {
            self.in_flight.endpoint().load.failed(crate::worker::now());
        }
        if self.grpc {
            self.record.grpc_status(failure.reason.grpc_status());
            return Some(Ok(Frame::trailers(failure.trailers())));
        }
        Some(Err(error))
    }

    /// Ready when nothing moved for too long or the whole took too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            let moved = self.progress.last_moved.max(self.source.borrow().last_moved());
            let idle = moved + self.idle;
            let at = self.deadline.map_or(idle, |(deadline, _)| deadline.min(idle));
            let timer = self.progress.timer.get_or_insert_with(|| Timer::until(at));
            ready!(timer.sleep.as_mut().poll(cx));
            let now = Instant::now();
            if let Some((deadline, reason)) = self.deadline
                && now >= deadline
            {
                return Poll::Ready(Failure::new(reason, "the response was not over in time"));
            }
            if now >= idle {
                return Poll::Ready(Failure::new(Reason::IdleTimeout, "no byte moved for too long"));
            }
            timer.reset(at.max(now));
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.record.response_bytes(self.progress.bytes);
        if !self.progress.ended {
            self.source.borrow().abandon();
            self.record.request_bytes(self.source.borrow().received());
            self.record.cancelled();
        }
    }
}

/// Why a response broke off: because the request's body did, or because the server went away.
fn midway(source: &Source, error: &ServerError) -> Failure {
    source.failure().cloned().unwrap_or_else(|| {
        let detail = format!("the server went away in the middle of its response: {error}");
        Failure::new(Reason::ResetMidway, detail)
    })
}

/// The gRPC status that headers or trailers tell.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
