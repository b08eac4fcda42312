//! The body of a server's response, over either protocol, and why there is none.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};

use super::streamed::Streamed;
use crate::http1::Broken;
use crate::io::{Io, Prefixed};
use crate::pool::Receiving;

/// What a server sends.
pub enum ServerBody {
    /// On a connection of its own.
    Http1(Receiving),
    /// Nothing in HTTP any more: the connection, which has switched protocols.
    Switched(Option<Prefixed<Io>>),
    /// On a stream of a shared connection.
    Http2(Streamed),
}

impl From<RecvStream> for ServerBody {
    fn from(stream: RecvStream) -> Self {
        Self::Http2(stream.into())
    }
}

impl Body for ServerBody {
    type Data = Bytes;
    type Error = ServerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ServerError>>> {
        match self.get_mut() {
            Self::Http1(body) => body.poll_frame(cx).map_err(ServerError::Http1),
            Self::Switched(_) => Poll::Ready(None),
            Self::Http2(body) => body
                .poll_frame(cx)
                .map(|frame| frame.and_then(unless_over))
                .map_err(ServerError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Switched(_) => true,
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Switched(_) => SizeHint::with_exact(0),
            // Its length, if it has said one, stands in its head.
            Self::Http2(_) => SizeHint::default(),
        }
    }
}

/// A server that resets a stream without an error has sent its whole response and wants no more of the request
/// (RFC 9113, §8.1).
fn unless_over(frame: Result<Frame<Bytes>, h2::Error>) -> Option<Result<Frame<Bytes>, h2::Error>> {
    let over = |error: &h2::Error| error.reason() == Some(Reason::NO_ERROR);
    (!frame.as_ref().is_err_and(over)).then_some(frame)
}

/// What a server or its connection broke off with.
#[derive(Debug)]
pub enum ServerError {
    /// On a connection of its own.
    Http1(Broken),
    /// On a stream of a shared connection, or with the whole of it.
    Http2(h2::Error),
}

impl ServerError {
    /// Why what the server sent is not HTTP/1.1, if that is it.
    pub fn unreadable(&self) -> Option<&'static str> {
        match self {
            Self::Http1(Broken::Unreadable(why)) => Some(why),
            Self::Http1(_) | Self::Http2(_) => None,
        }
    }

    /// Whether the server says that it did nothing with the stream: RFC 9113, §8.7 (`REFUSED_STREAM`, or a GOAWAY with a
    /// lower last stream; h2 fails just the streams above it with the GOAWAY).
    pub fn refused_stream(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(error) => {
                error.reason() == Some(Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
            }
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1(error) => write!(f, "{error}"),
            Self::Http2(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ServerError {}
