//! A request's body as the client's connection gives it.
//!
//! It notes when its end has come: until then there is more to this connection than what stands in its socket, and it
//! can't rest. And only what the client ended itself has an end: a stream that was reset is never taken for a whole request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connections::{Busy, Seat};

/// Why there is no more of a request's body although it is not over.
#[derive(Debug)]
pub enum BrokenOff {
    /// The client has reset its stream.
    Reset,
    /// With the connection, or because it is no HTTP.
    Other(hyper::Error),
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("its stream was reset"),
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BrokenOff {}

/// A request's body.
pub struct FromClient {
    incoming: Incoming,
    /// The connection it comes by; none: its end has come.
    seat: Option<Arc<Seat>>,
    /// Whether it is a stream of its own, which can be reset.
    is_stream: bool,
}

impl FromClient {
    /// The body of a request on this connection, in this version of HTTP.
    pub fn new(incoming: Incoming, version: Version, busy: &Busy) -> Self {
        let seat = busy.has_body(!incoming.is_end_stream());
        Self {
            incoming,
            seat,
            is_stream: version == Version::HTTP_2,
        }
    }

    /// What hyper makes of the next frame, with resets told apart.
    fn checked(
        &self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
    ) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        match frame {
            // hyper takes a reset with NO_ERROR for an end: so a server that has answered may stop a request (RFC 9113,
            // §8.1). It is no end of the request.
            None if self.is_stream && !self.incoming.is_end_stream() => Some(Err(BrokenOff::Reset)),
            Some(Err(error)) if is_reset(&error) => Some(Err(BrokenOff::Reset)),
            frame => frame.map(|frame| frame.map_err(BrokenOff::Other)),
        }
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|h2| h2.is_reset() && h2.is_remote())
}

impl Body for FromClient {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        let frame = self.checked(frame);
        let last = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || self.incoming.is_end_stream(),
            Some(Err(_)) => false,
            None => true,
        };
        if last && let Some(seat) = self.seat.take() {
            seat.body_ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
