//! Writes a request: its head and what its body begins with as one, then a piece of the body at a time, each in its frame.
//! The next piece is asked for when the connection has taken the last.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::Connection;
use crate::body::{BodyError, RequestBody};
use crate::http1::{Broken, Encoder};
use crate::io::Io;

/// A request on its way.
pub(super) struct Sending {
    connection: Connection,
    out: Out,
    encoder: Encoder,
    body: RequestBody,
    /// Whether more of the body is to come.
    more: bool,
    /// Whether a write was tried.
    begun: bool,
    /// Whether any byte may have left this process.
    sent: bool,
}

impl Sending {
    /// A request with this head, written already, and this body.
    pub(super) fn new(connection: Connection, head: Vec<u8>, encoder: Encoder, body: RequestBody) -> Self {
        let out = Out {
            before: head,
            written: 0,
            piece: Bytes::new(),
            after: b"",
        };
        Self {
            connection,
            out,
            more: !encoder.is_over(),
            encoder,
            body,
            begun: false,
            sent: false,
        }
    }

    /// What it is sent on.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether any of it may have left this process.
    pub(super) fn has_begun(&self) -> bool {
        self.sent
    }

    /// Whether nothing of it left this process, and all of it can be sent again.
    pub(super) fn is_unsent(&self) -> bool {
        !self.sent && self.body.replayable()
    }

    /// Sends what there is; ready when that is all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let mut waits = false;
            if !self.begun || self.out.is_empty() {
                waits = self.fill(cx)?;
            }
            self.begun = true;
            ready!(self.poll_write(cx))?;
            if !self.more {
                return Pin::new(&mut *self.connection.io())
                    .poll_flush(cx)
                    .map_err(Broken::Io);
            }
            if waits {
                // What TLS has not written yet, it writes before the next piece.
                let _ = Pin::new(&mut *self.connection.io()).poll_flush(cx)?;
                return Poll::Pending;
            }
        }
    }

    /// Takes the next piece of the body. True: there is none yet.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        while self.more && self.out.piece.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(frame) => self.take(frame)?,
            }
        }
        Ok(false)
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Result<(), Broken> {
        let out = &mut self.out;
        if out.written == out.before.len() {
            out.before.clear();
            out.written = 0;
        }
        let trailers = match frame {
            Some(Err(error)) => return Err(Broken::Request(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => return Ok(()),
                Ok(mut data) => {
                    let last = self.body.is_end_stream();
                    out.after = self.encoder.piece(&mut data, last, &mut out.before)?;
                    out.piece = data;
                    self.more = !last && !self.encoder.is_over();
                    return Ok(());
                }
                Err(frame) => frame.into_trailers().ok(),
            },
            None => None,
        };
        self.more = false;
        self.encoder.end(trailers.as_ref(), &mut out.before)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.connection.io();
        while !self.out.is_empty() {
            // What TLS has taken it may have sent, even when the write fails.
            self.sent |= matches!(*io, Io::Tls(_));
            let written = ready!(self.out.poll_write(&mut io, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent = true;
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// What is to be written next: a piece of a body, and what goes before and behind it.
struct Out {
    before: Vec<u8>,
    /// How much of it is written.
    written: usize,
    piece: Bytes,
    after: &'static [u8],
}

impl Out {
    fn is_empty(&self) -> bool {
        self.written == self.before.len() && self.piece.is_empty() && self.after.is_empty()
    }

    fn poll_write(&self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let parts = [&self.before[self.written..], &self.piece, self.after];
        match parts.map(<[u8]>::is_empty) {
            [false, true, true] => Pin::new(io).poll_write(cx, parts[0]),
            [true, false, true] => Pin::new(io).poll_write(cx, parts[1]),
            _ => Pin::new(io).poll_write_vectored(cx, &parts.map(IoSlice::new)),
        }
    }

    fn advance(&mut self, written: usize) {
        let before = written.min(self.before.len() - self.written);
        self.written += before;
        let piece = (written - before).min(self.piece.len());
        self.piece.advance(piece);
        self.after = &self.after[written - before - piece..];
    }
}
