//! A body on its way out on a stream of HTTP/2: a request to a server or a response to a client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use tokio::time::Instant;

/// Sends a body piece by piece, each when the window is open.
pub struct Sending<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Taken from the body and waiting for the window; whether it is the last.
    piece: Option<(Bytes, bool)>,
    /// How long the next piece may be that is handed to h2 before there is a window for it, in bytes.
    at_once: usize,
    /// Since when a piece waits for the window.
    waits_since: Option<Instant>,
    /// What the stream is reset with if the body breaks off.
    broken_off: Reason,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `body` on the stream, which is reset with `broken_off` if the body breaks off. The first piece, if it has no
    /// more than `at_once` bytes, is handed to h2 before there is a window for it.
    pub fn new(body: B, stream: SendStream<Bytes>, at_once: usize, broken_off: Reason) -> Self {
        Self {
            body,
            stream,
            piece: None,
            at_once,
            waits_since: None,
            broken_off,
        }
    }

    /// What is sent.
    pub(super) fn body(&self) -> &B {
        &self.body
    }

    /// Gives the stream up.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Since when a piece waits for the peer, which takes nothing of the stream; none: it waits for the body.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// Sends what there is, until the whole body is sent, or has broken off.
    ///
    /// # Errors
    /// When the peer wants no more of it, or is gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Poll::Ready(sent) = self.poll_pieces(cx) {
            return Poll::Ready(sent);
        }
        // A stream that was reset takes nothing, so it is enough to ask when there is nothing to send.
        let reason = ready!(self.stream.poll_reset(cx))?;
        Poll::Ready(Err(reason.into()))
    }

    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if let Some((piece, last)) = self.piece.take() {
                if piece.len() > self.at_once && !ready_to_send(&mut self.stream, cx)? {
                    self.waits_since.get_or_insert_with(Instant::now);
                    self.piece = Some((piece, last));
                    return Poll::Pending;
                }
                self.at_once = 0;
                self.waits_since = None;
                self.stream.send_data(piece, last)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    self.reset(self.broken_off);
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
            };
            match frame.into_data() {
                // A part of the window is asked for only when there is something to send: what is kept in reserve
                // is kept from other streams.
                Ok(piece) => {
                    self.stream.reserve_capacity(1);
                    self.piece = Some((piece, self.body.is_end_stream()));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        return Poll::Ready(self.stream.send_trailers(trailers));
                    }
                }
            }
        }
    }
}

/// Whether the window is open; h2 asks for as much of it as a piece is long once it has the piece.
pub(crate) fn ready_to_send(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Result<bool, h2::Error> {
    while stream.capacity() == 0 {
        match stream.poll_capacity(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Some(capacity)) => capacity.map(drop)?,
            // It was reset, or is over.
            Poll::Ready(None) => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
    Ok(true)
}
