//! An HTTP/2 connection's writes, held back until the end of its turn, so that frames of many streams go out as one
//! system call and one TLS record instead of one each.
//!
//! h2 writes, and flushes, every DATA frame by itself. [`Corked`] takes small writes into a buffer and calls them
//! flushed; [`Turn`] polls the connection and then sends what was gathered. Only the one future that drives the
//! connection may be a `Turn`: whoever waits for a socket to take more must be the one that is woken.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes are gathered at most: a TLS record's worth (RFC 8446, §5.1).
const FULL: usize = 16 << 10;
/// Writes from this size on are not copied: they fill records and system calls by themselves.
const LARGE: usize = 8 << 10;
/// How many empty buffers a worker keeps for the next turns.
const SPARE: usize = 16;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A connection that gathers small writes. Clones are the same connection.
pub struct Corked<I>(Rc<RefCell<Inner<I>>>);

impl<I> Clone for Corked<I> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

struct Inner<I> {
    io: I,
    gathered: Vec<u8>,
    /// How many of the gathered bytes are sent.
    sent: usize,
    /// Why nothing can be sent any more, until the connection was told.
    broken: Option<io::Error>,
}

impl<I: AsyncWrite + Unpin> Corked<I> {
    /// Gathers what is written to `io`.
    pub fn new(io: I) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            io,
            gathered: Vec::new(),
            sent: 0,
            broken: None,
        })))
    }
}

impl<I: AsyncWrite + Unpin> Inner<I> {
    /// Sends what was gathered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        if self.gathered.capacity() == 0 {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.gathered.len() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.sent = 0;
        self.gathered.clear();
        put_back(std::mem::take(&mut self.gathered));
        Poll::Ready(Ok(()))
    }

    /// Whether that many bytes more can be gathered.
    fn room(&mut self, bytes: usize) -> bool {
        if self.gathered.capacity() == 0 {
            self.gathered = spare();
        }
        self.gathered.len() + bytes <= FULL
    }
}

fn spare() -> Vec<u8> {
    let spare = SPARES.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(FULL))
}

fn put_back(buffer: Vec<u8>) {
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARE {
            spares.push(buffer);
        }
    });
}

impl<I: AsyncRead + Unpin> AsyncRead for Corked<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Corked<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if bytes < LARGE && inner.room(bytes) {
            bufs.iter().for_each(|buf| inner.gathered.extend_from_slice(buf));
            return Poll::Ready(Ok(bytes));
        }
        ready!(inner.poll_send(cx))?;
        if bytes < LARGE && inner.room(bytes) {
            bufs.iter().for_each(|buf| inner.gathered.extend_from_slice(buf));
            return Poll::Ready(Ok(bytes));
        }
        Pin::new(&mut inner.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was gathered goes out at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        if let Some(error) = inner.broken.take() {
            return Poll::Ready(Err(error));
        }
        if inner.gathered.is_empty() {
            return Pin::new(&mut inner.io).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

pin_project! {
    /// Drives a connection, and at the end of each turn sends what it wrote.
    pub struct Turn<F, I> {
        #[pin]
        connection: F,
        io: Corked<I>,
    }
}

impl<F, I> Turn<F, I> {
    /// `connection` is the future that reads and writes `io`.
    pub fn new(connection: F, io: Corked<I>) -> Self {
        Self { connection, io }
    }

    /// The future inside.
    pub fn connection(self: Pin<&mut Self>) -> Pin<&mut F> {
        self.project().connection
    }
}

impl<F: Future, I: AsyncWrite + Unpin> Future for Turn<F, I> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let polled = this.connection.as_mut().poll(cx);
        let sent = this.io.0.borrow_mut().poll_send(cx);
        match sent {
            // It learns of it by its next flush, which every turn of a connection ends with.
            Poll::Ready(Err(error)) if polled.is_pending() => {
                let mut inner = this.io.0.borrow_mut();
                inner.gathered = Vec::new();
                inner.sent = 0;
                inner.broken = Some(error);
                drop(inner);
                this.connection.poll(cx)
            }
            _ => polled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Takes what is written, counting the calls.
    #[derive(Default)]
    struct Sink {
        writes: Vec<usize>,
        bytes: Vec<u8>,
        fails: bool,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            if self.fails {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.writes.push(buf.len());
            self.bytes.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_one_turn_writes_goes_out_as_one() {
        for (sizes, expected) in [
            (&[9, 1024, 9, 1024][..], &[2066][..]),
            (&[100, LARGE], &[100, LARGE]),
            (&[LARGE - 1, LARGE - 1, LARGE - 1], &[2 * (LARGE - 1), LARGE - 1]),
            (&[3 * FULL], &[3 * FULL]),
            (&[], &[]),
        ] {
            let io = Corked::new(Sink::default());
            let mut written = io.clone();
            let turn = async move {
                for (number, size) in sizes.iter().enumerate() {
                    written.write_all(&vec![number as u8; *size]).await.unwrap();
                    written.flush().await.unwrap();
                }
            };
            Turn::new(turn, io.clone()).await;
            let inner = io.0.borrow();
            assert_eq!(inner.io.writes, expected, "{sizes:?}");
            let whole: Vec<u8> = sizes
                .iter()
                .enumerate()
                .flat_map(|(number, size)| vec![number as u8; *size])
                .collect();
            assert_eq!(inner.io.bytes, whole, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_learns_that_its_turn_could_not_be_sent() {
        let io = Corked::new(Sink {
            fails: true,
            ..Sink::default()
        });
        let mut written = io.clone();
        let mut begun = false;
        let connection = poll_fn(move |cx| {
            if !begun {
                begun = true;
                assert!(Pin::new(&mut written).poll_write(cx, b"frame").is_ready());
                assert!(matches!(
                    Pin::new(&mut written).poll_flush(cx),
                    Poll::Ready(Ok(()))
                ));
                return Poll::Pending;
            }
            Pin::new(&mut written).poll_flush(cx)
        });
        let error = Turn::new(connection, io).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_slow_peer_gets_all_of_it_in_order() {
        let (near, mut far) = tokio::io::duplex(100);
        let io = Corked::new(near);
        let mut written = io.clone();
        let writing = async move {
            for byte in 0..50_u8 {
                written.write_all(&[byte; 1000]).await.unwrap();
            }
            written.shutdown().await.unwrap();
        };
        let reading = async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = tokio::join!(Turn::new(writing, io), reading);
        let expected: Vec<u8> = (0..50).flat_map(|byte| [byte; 1000]).collect();
        assert_eq!(all, expected);
    }
}
