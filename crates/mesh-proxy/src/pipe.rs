//! Bytes both ways between two connections, counted, until both sides are done or nothing has moved for too long.
//!
//! A side that has no more to say is told to the other, which may go on (half-close); a side that breaks off ends both.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::Instant;

use crate::error::Reason;

/// How many bytes are held, at most, each way.
const BUFFER_BYTES: usize = 16 << 10;

/// What has passed between a client and a server.
#[derive(Debug)]
pub struct Passed {
    /// Bytes from the client.
    pub from_client: Cell<u64>,
    /// Bytes to the client.
    pub to_client: Cell<u64>,
    last_moved: Cell<Instant>,
}

impl Passed {
    /// Nothing yet.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            from_client: Cell::new(0),
            to_client: Cell::new(0),
            last_moved: Cell::new(Instant::now()),
        })
    }

    fn count(&self, way: &Cell<u64>, bytes: usize) {
        if bytes > 0 {
            way.set(way.get() + bytes as u64);
            self.last_moved.set(Instant::now());
        }
    }
}

/// How long a pipe may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long nothing may move either way.
    pub idle: Duration,
    /// When all must be over, and why, if ever.
    pub deadline: Option<(Instant, Reason)>,
}

/// Passes bytes both ways until both sides are done, or one breaks off. It may be dropped at any time.
///
/// # Errors
/// The deadline's reason, or [`Reason::IdleTimeout`], when it took longer than it may.
pub async fn pipe<C, S>(
    client: C,
    mut server: S,
    passed: &Rc<Passed>,
    patience: Patience,
) -> Result<(), Reason>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Counted {
        inner: client,
        passed: Rc::clone(passed),
    };
    let copying = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES);
    let mut copying = pin!(copying);
    loop {
        let idle = passed.last_moved.get() + patience.idle;
        let at = patience.deadline.map_or(idle, |(deadline, _)| deadline.min(idle));
        if let Ok(ended) = tokio::time::timeout_at(at, copying.as_mut()).await {
            // A side that broke off has left: there is nobody else to tell.
            return ended.map_or(Ok(()), |_| Ok(()));
        }
        let now = Instant::now();
        if let Some((deadline, reason)) = patience.deadline
            && now >= deadline
        {
            return Err(reason);
        }
        if now >= passed.last_moved.get() + patience.idle {
            return Err(Reason::IdleTimeout);
        }
    }
}

/// The client's side, whose bytes are counted.
struct Counted<I> {
    inner: I,
    passed: Rc<Passed>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.passed
            .count(&self.passed.from_client, buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.passed.count(&self.passed.to_client, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.passed.count(&self.passed.to_client, written);
        Poll::Ready(Ok(written))
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LONG: Patience = Patience {
        idle: Duration::from_secs(3_600),
        deadline: None,
    };

    #[tokio::test]
    async fn a_side_that_is_done_still_hears_the_other() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let passed = Passed::new();
        let talk = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut asked = Vec::new();
            server.read_to_end(&mut asked).await.unwrap();
            server.write_all(b"the answer").await.unwrap();
            drop(server);
            let mut answered = Vec::new();
            client.read_to_end(&mut answered).await.unwrap();
            (asked, answered)
        };
        let (ended, (asked, answered)) = tokio::join!(pipe(near, far, &passed, LONG), talk);
        assert_eq!(ended, Ok(()));
        assert_eq!(
            (&asked[..], &answered[..]),
            (&b"question"[..], &b"the answer"[..])
        );
        assert_eq!((passed.from_client.get(), passed.to_client.get()), (8, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_so_does_the_deadline() {
        for (idle, deadline, expected) in [(5, None, Reason::IdleTimeout), (5, Some(3), Reason::TotalTimeout)]
        {
            let (mut client, near) = duplex(64);
            let (far, mut server) = duplex(64);
            let patience = Patience {
                idle: Duration::from_secs(idle),
                deadline: deadline
                    .map(|after| (Instant::now() + Duration::from_secs(after), Reason::TotalTimeout)),
            };
            let passed = Passed::new();
            let begun = Instant::now();
            let talk = async {
                // A byte in between begins the wait anew.
                tokio::time::sleep(Duration::from_secs(2)).await;
                client.write_all(b"x").await.unwrap();
                server.read_u8().await.unwrap();
            };
            let (ended, ()) = tokio::join!(pipe(near, far, &passed, patience), talk);
            assert_eq!(ended, Err(expected));
            assert_eq!(begun.elapsed().as_secs(), deadline.unwrap_or(2 + idle));
        }
    }
}
