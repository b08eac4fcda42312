//! A request's body as the client's connection gives it.
//!
//! It notes when its end has come: until then there is more to this connection than what stands in its socket, and it
//! can't rest. And only what the client ended itself has an end: where a client has reset its stream, nothing follows, no
//! error either. The stream's task sees that the client has left, and lets go of the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connections::{Busy, Seat};

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

    /// Whether the client has reset its stream, after this frame: it takes no answer either.
    fn has_left(&self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) -> bool {
        match frame {
            Some(Ok(_)) => false,
            Some(Err(error)) => was_reset(error),
            // hyper takes a reset with NO_ERROR for an end: so a server that has answered may stop a request (RFC 9113,
            // §8.1). From a client it is a reset as any other.
            None => self.is_stream && !self.incoming.is_end_stream(),
        }
    }
}

/// Whether it is that the other side has reset the stream.
fn was_reset(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|h2| h2.is_reset() && h2.is_remote())
}

impl Body for FromClient {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if self.has_left(frame.as_ref()) {
            return Poll::Pending;
        }
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
