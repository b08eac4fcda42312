//! A request's body as the client's connection gives it, which notes when its end has come: until then there is more to
//! this connection than what stands in its socket, and it can't rest.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connections::{Busy, Seat};

/// A request's body.
pub struct FromClient {
    incoming: Incoming,
    /// The connection it comes by; none: its end has come.
    seat: Option<Arc<Seat>>,
}

impl FromClient {
    /// The body of a request on this connection.
    pub fn new(incoming: Incoming, busy: &Busy) -> Self {
        let seat = busy.has_body(!incoming.is_end_stream());
        Self { incoming, seat }
    }
}

impl Body for FromClient {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
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
