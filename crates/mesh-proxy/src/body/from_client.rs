//! A request's body as the client's connection gives it.
//!
//! Only what the client ended itself has an end: a stream that was reset is never taken for a whole request.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::streamed::Streamed;
use crate::handover::{Handover, Switched};
use crate::http1::Broken;
use crate::tunnel::Opening;

/// Why there is no more of a request's body although it is not over.
#[derive(Debug)]
pub enum BrokenOff {
    /// The client has reset its stream.
    Reset,
    /// The client has closed its connection.
    Left,
    /// The connection broke.
    Io(io::Error),
    /// It is no HTTP/1.1.
    Http1(Broken),
    /// With the connection, or because it breaks HTTP/2.
    Http2(h2::Error),
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("its stream was reset"),
            Self::Left => f.write_str("its connection was closed"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Http1(error) => write!(f, "{error}"),
            Self::Http2(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BrokenOff {}

/// A request's body.
pub enum FromClient {
    /// In HTTP/1.1.
    Http1 {
        /// What comes by the connection; none: its end has come.
        body: Option<ClientBody>,
        /// Its connection, once it is answered, if it asks for it.
        switched: Option<oneshot::Receiver<Switched>>,
    },
    /// On a stream of HTTP/2.
    Http2 {
        /// The stream.
        stream: Streamed,
        /// How many bytes are to come, if the client has said so.
        left: Option<u64>,
    },
    /// None: what comes on the stream of a CONNECT in HTTP/2 belongs to the tunnel, if there is one.
    Tunnel(Option<Opening>),
}

impl FromClient {
    /// The body of a request in HTTP/1.1, if it has one, and the connection that it may become.
    pub fn http1(body: Option<ClientBody>, switched: Option<oneshot::Receiver<Switched>>) -> Self {
        Self::Http1 { body, switched }
    }

    /// The body of a request with these headers that comes on a stream.
    pub fn http2(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self::Http2 {
            stream: stream.into(),
            left: announced(headers),
        }
    }

    /// What the request's connection, or stream, becomes if it is answered so; it can be taken once.
    pub fn take_handover(&mut self) -> Option<Handover> {
        match self {
            Self::Tunnel(opening) => opening.take().map(Handover::Stream),
            Self::Http1 { switched, .. } => switched.take().map(Handover::Connection),
            Self::Http2 { .. } => None,
        }
    }
}

/// The body of a request in HTTP/1.1, whatever its connection is made of.
pub trait Incoming {
    /// What comes next of it.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>>;

    /// Whether it is over.
    fn is_over(&self) -> bool;

    /// How much is to come.
    fn size_hint(&self) -> SizeHint;

    /// Nobody wants any more of it.
    fn give_up(&self);
}

/// The body of a request in HTTP/1.1 that is not over. Dropped, nobody wants any more of it.
pub struct ClientBody(Rc<dyn Incoming>);

impl ClientBody {
    /// What comes by this connection.
    pub fn new(incoming: Rc<dyn Incoming>) -> Self {
        Self(incoming)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// The length that a head announces, in bytes, if it announces one.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .map(|value| value.to_str().ok()?.parse().ok());
    let length = lengths.next()??;
    lengths.all(|other| other == Some(length)).then_some(length)
}

/// What a stream's next frame means, with resets told apart.
fn checked(frame: Result<Frame<Bytes>, h2::Error>) -> Result<Frame<Bytes>, BrokenOff> {
    frame.map_err(|error| {
        // A server that has answered may stop a request with NO_ERROR (RFC 9113, §8.1). From a client it is no end either.
        let reset = error.is_reset() && error.is_remote();
        if reset || error.reason() == Some(Reason::NO_ERROR) {
            BrokenOff::Reset
        } else {
            BrokenOff::Http2(error)
        }
    })
}

impl Body for FromClient {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Http1 { body, .. } => {
                let Some(incoming) = body else {
                    return Poll::Ready(None);
                };
                let frame = ready!(incoming.0.poll_frame(cx));
                if incoming.0.is_over() {
                    *body = None;
                }
                Poll::Ready(frame)
            }
            Self::Http2 { stream, left } => {
                let frame = match ready!(stream.poll_frame(cx)) {
                    None if !stream.is_end_stream() => Some(Err(BrokenOff::Reset)),
                    frame => frame.map(checked),
                };
                if let (Some(left), Some(Ok(frame))) = (left, &frame) {
                    let came = frame.data_ref().map_or(0, Bytes::len) as u64;
                    *left = left.saturating_sub(came);
                }
                Poll::Ready(frame)
            }
            Self::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1 { body, .. } => body.is_none(),
            Self::Http2 { stream, .. } => stream.is_end_stream(),
            Self::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1 { body, .. } => body
                .as_ref()
                .map_or_else(|| SizeHint::with_exact(0), |body| body.0.size_hint()),
            Self::Http2 { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_what_all_that_announce_one_say() {
        for (values, expected) in [
            (&[][..], None),
            (&["0"], Some(0)),
            (&["17"], Some(17)),
            (&["17", "17"], Some(17)),
            (&["17", "18"], None),
            (&["many"], None),
            (&["17", "many"], None),
            (&["18446744073709551616"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_LENGTH, http::HeaderValue::from_static(value));
            }
            assert_eq!(announced(&headers), expected, "{values:?}");
        }
    }
}
