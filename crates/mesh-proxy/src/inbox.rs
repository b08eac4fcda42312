//! What was read of a connection and is not used yet.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

/// How much is read at a time, at least and at most, in bytes.
const LEAST: usize = 8 << 10;
const MOST: usize = 64 << 10;

/// Bytes that were read. Who has much to say is listened to in larger pieces.
#[derive(Debug)]
pub struct Inbox {
    /// What is not used yet.
    pub buf: BytesMut,
    /// How much to read at a time.
    at_once: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new(BytesMut::new())
    }
}

impl Inbox {
    /// With what was read already.
    pub fn new(buf: BytesMut) -> Self {
        Self { buf, at_once: LEAST }
    }

    /// Reads more, behind what was read; 0 is the end.
    ///
    /// # Errors
    /// Those of reading.
    pub fn poll_read<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buf.capacity() - self.buf.len() < self.at_once / 2 {
            self.buf.reserve(self.at_once);
        }
        let room = self.buf.capacity() - self.buf.len();
        let read = ready!(poll_read_buf(Pin::new(io), cx, &mut self.buf))?;
        if read == room {
            self.at_once = (2 * self.at_once).min(MOST);
        } else if read < self.at_once / 4 {
            self.at_once = (self.at_once / 2).max(LEAST);
        }
        Poll::Ready(Ok(read))
    }

    /// The same where nothing was read yet, without holding memory for what may be long in coming.
    ///
    /// # Errors
    /// Those of reading.
    pub fn poll_first<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); LEAST];
        let mut piece = ReadBuf::uninit(&mut room);
        ready!(Pin::new(io).poll_read(cx, &mut piece))?;
        if !piece.filled().is_empty() {
            self.buf = BytesMut::from(piece.filled());
        }
        Poll::Ready(Ok(piece.filled().len()))
    }

    /// Lets go of memory that holds nothing.
    pub fn rest(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
    }
}
