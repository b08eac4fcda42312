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

    /// The same of a stream whose pieces come one by one: as long as they are small, each has memory of its own that is just
    /// as large, and between two of them none is held.
    ///
    /// # Errors
    /// Those of reading.
    pub fn poll_piece<I: AsyncRead + Unpin>(
        &mut self,
        io: &mut I,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !self.buf.is_empty() || self.at_once > LEAST {
            return self.poll_read(io, cx);
        }
        self.rest();
        let read = ready!(self.poll_first(io, cx))?;
        if read == LEAST {
            self.at_once = 2 * LEAST;
        }
        Poll::Ready(Ok(read))
    }

    /// Lets go of memory that holds nothing.
    pub fn rest(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn small_pieces_hold_only_themselves_and_large_ones_are_read_in_large_pieces() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let mut inbox = Inbox::default();
        for (length, reads) in [
            (1, 1),
            (263, 1),
            (LEAST - 1, 1),
            (400 << 10, 10),
            // One by one they are read in smaller pieces again, until the memory is let go.
            (263, 1),
            (263, 1),
            (263, 1),
            (263, 1),
        ] {
            far.write_all(&vec![b'x'; length]).await.unwrap();
            let (mut read, mut times) = (0, 0);
            while read < length {
                read += poll_fn(|cx| inbox.poll_piece(&mut near, cx)).await.unwrap();
                times += 1;
                assert!(inbox.buf.split().iter().all(|byte| *byte == b'x'));
            }
            assert_eq!(read, length);
            assert!(times <= reads, "{length}: read in {times}");
        }
        let waits = poll_fn(|cx| Poll::Ready(inbox.poll_piece(&mut near, cx).is_pending())).await;
        assert!(waits && inbox.buf.capacity() == 0, "{}", inbox.buf.capacity());
        far.write_all(&[b'x'; 100]).await.unwrap();
        poll_fn(|cx| inbox.poll_piece(&mut near, cx)).await.unwrap();
        assert_eq!(inbox.buf.capacity(), 100);
    }
}
