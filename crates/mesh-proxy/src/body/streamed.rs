//! A body as it comes on a stream of HTTP/2: a client's request or a server's response.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::Frame;

/// A body on a stream. What is read of it gives its sender room to send as much again.
pub struct Streamed {
    stream: RecvStream,
    data_over: bool,
}

impl From<RecvStream> for Streamed {
    fn from(stream: RecvStream) -> Self {
        Self {
            stream,
            data_over: false,
        }
    }
}

impl Streamed {
    /// The next piece, or the trailers.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Whoever asked for it takes it. There is nothing left to give back on a stream that is over.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    /// Whether its sender has ended it, and all of it was read.
    pub(super) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
