//! Writes a request: its head and what its body begins with as one, then a piece of the body at a time, each in its frame.
//! The next piece is asked for when the connection has taken the last.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite as _;

use super::Connection;
use crate::body::{BodyError, RequestBody};
use crate::http1::{Broken, Encoder, Out, Short};
use crate::io::{Io, poll_write_out};

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
        Self {
            connection,
            out: Out::new(head),
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
        let before = self.out.len();
        while self.more && self.out.len() == before {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(frame) => self.take(frame)?,
            }
        }
        Ok(false)
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Result<(), Broken> {
        let out = &mut self.out;
        let trailers = match frame {
            Some(Err(error)) => return Err(Broken::Request(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => return Ok(()),
                Ok(data) => {
                    let last = self.body.is_end_stream();
                    self.encoder.piece(data, last, out).map_err(short)?;
                    self.more = !last && !self.encoder.is_over();
                    return Ok(());
                }
                Err(frame) => frame.into_trailers().ok(),
            },
            None => None,
        };
        self.more = false;
        self.encoder.end(trailers.as_ref(), out).map_err(short)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.connection.io();
        while !self.out.is_empty() {
            // What TLS has taken it may have sent, even when the write fails.
            self.sent |= matches!(*io, Io::Tls(_));
            ready!(poll_write_out(&mut self.out, &mut *io, cx))?;
            self.sent = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn short(short: Short) -> Broken {
    Broken::Request(short.into())
}
