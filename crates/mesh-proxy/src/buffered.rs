//! A socket under TLS, read in large pieces.
//!
//! rustls asks for 4 KiB at a time, so that a full record takes five system calls. Here it takes one, or a part of one; and a
//! connection holds a buffer only while there is something in it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are read at once: two full records (RFC 8446, §5.2).
const PIECE: usize = 2 * (16 << 10) + 512;
/// How many empty buffers a worker keeps for the next reads.
const SPARE: usize = 4;

thread_local! {
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A socket that is read in large pieces.
pub struct Buffered<S> {
    inner: S,
    /// What was read, from `taken` to `filled`; none: nothing is left of it.
    piece: Option<Box<[u8]>>,
    taken: usize,
    filled: usize,
}

impl<S> Buffered<S> {
    /// Reads from `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            piece: None,
            taken: 0,
            filled: 0,
        }
    }

    /// Gives what is left.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(piece) = self.piece.take() else {
            return false;
        };
        let left = &piece[self.taken..self.filled];
        let now = left.len().min(buf.remaining());
        buf.put_slice(&left[..now]);
        self.taken += now;
        if self.taken < self.filled {
            self.piece = Some(piece);
        } else {
            put_back(piece);
        }
        true
    }
}

fn spare() -> Box<[u8]> {
    let spare = SPARES.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| vec![0; PIECE].into())
}

fn put_back(piece: Box<[u8]>) {
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARE {
            spares.push(piece);
        }
    });
}

impl<S: AsFd> AsFd for Buffered<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Buffered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.give(buf) {
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() >= PIECE {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let mut piece = spare();
        let mut read = ReadBuf::new(&mut piece);
        let polled = Pin::new(&mut this.inner).poll_read(cx, &mut read);
        let filled = read.filled().len();
        if filled == 0 {
            put_back(piece);
            return polled;
        }
        (this.piece, this.taken, this.filled) = (Some(piece), 0, filled);
        this.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Counts the reads of what is inside.
    struct Counted<S>(S, usize);

    impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let polled = Pin::new(&mut self.0).poll_read(cx, buf);
            self.1 += usize::from(polled.is_ready());
            polled
        }
    }

    #[tokio::test]
    async fn small_reads_are_served_from_a_large_one() {
        for (bytes, step, reads) in [
            (1_usize, 4096_usize, 1_usize),
            (PIECE, 4096, 1),
            (PIECE + 1, 4096, 2),
            (3 * PIECE, 5, 3),
            (2 * PIECE, PIECE, 2),
            (3 * PIECE, 3 * PIECE, 1),
            (0, 4096, 0),
        ] {
            let sent: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
            let (mut near, far) = tokio::io::duplex(bytes.max(1));
            near.write_all(&sent).await.unwrap();
            drop(near);
            let mut buffered = Buffered::new(Counted(far, 0));
            let (mut received, mut part) = (Vec::new(), vec![0; step]);
            loop {
                let read = buffered.read(&mut part).await.unwrap();
                if read == 0 {
                    break;
                }
                received.extend_from_slice(&part[..read]);
            }
            assert_eq!(received, sent, "{bytes} in steps of {step}");
            // And the one that says that it is over.
            assert_eq!(buffered.inner.1, reads + 1, "{bytes} in steps of {step}");
            assert!(buffered.piece.is_none());
        }
    }

    #[tokio::test]
    async fn nothing_is_held_while_there_is_nothing_to_read() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut buffered = Buffered::new(far);
        let mut part = [0; 3];
        let mut read = Box::pin(buffered.read(&mut part));
        assert!(futures_util::poll!(&mut read).is_pending());
        drop(read);
        assert!(buffered.piece.is_none());
        near.write_all(b"abcd").await.unwrap();
        assert_eq!(buffered.read(&mut part).await.unwrap(), 3);
        assert!(buffered.piece.is_some());
        assert_eq!(buffered.read(&mut part).await.unwrap(), 1);
        assert_eq!((part[0], buffered.piece.is_none()), (b'd', true));
    }
}
