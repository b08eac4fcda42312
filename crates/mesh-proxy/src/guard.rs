//! A connection as its limits see it: each read and write leaves a mark in its [`Seat`], and the frames of HTTP/2 are
//! counted, those that say nothing left out. A peer that floods is heard no further than the end of its last good frame,
//! and told to calm down.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connections::Seat;
use crate::frames::{Calm, Frames, Seen};
use crate::limits::Limits;

/// A connection, watched.
pub struct Guarded<I> {
    inner: I,
    seat: Arc<Seat>,
    speaks: Speaks,
}

enum Speaks {
    Http1,
    Http2(Box<Frames>),
    /// What is read from now on instead of what the peer sends.
    Calm(Calm),
}

impl<I> Guarded<I> {
    /// A client's connection.
    pub fn client(inner: I, seat: Arc<Seat>, http2: bool, limits: &Limits) -> Self {
        seat.ready();
        let speaks = if http2 {
            Speaks::Http2(Box::new(Frames::of_client(
                limits.max_empty_frames,
                limits.max_resets,
                seat.now(),
            )))
        } else {
            Speaks::Http1
        };
        Self { inner, seat, speaks }
    }

    /// A connection to a server that speaks HTTP/2.
    pub fn server(inner: I, seat: Arc<Seat>, limits: &Limits) -> Self {
        let frames = Frames::of_server(limits.max_empty_frames, seat.now());
        Self {
            inner,
            seat,
            speaks: Speaks::Http2(Box::new(frames)),
        }
    }

    /// What was read: it goes on but for what says nothing, up to where the peer is told to go.
    fn read(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let bytes = &buf.filled()[before..];
        match &mut self.speaks {
            Speaks::Http1 => self.seat.read(bytes.len(), self.seat.awaits_head()),
            Speaks::Calm(_) => {}
            Speaks::Http2(frames) => match frames.read(bytes, self.seat.now()) {
                Seen::Fine(mid_head) => {
                    self.seat.read(bytes.len(), mid_head);
                    let kept = frames.leave_out(&mut buf.filled_mut()[before..]);
                    buf.set_filled(before + kept);
                }
                Seen::Torn(cut) => {
                    self.seat.blame(cut);
                    return Err(io::Error::other(cut.as_str()));
                }
                Seen::Enough(cut, good) => {
                    self.seat.blame(cut);
                    buf.set_filled(before + good);
                    let mut calm = Calm::new(frames.block());
                    calm.fill(buf.initialize_unfilled());
                    let room = buf.remaining();
                    buf.advance(room);
                    self.speaks = Speaks::Calm(calm);
                }
            },
        }
        Ok(())
    }

    /// Notes that there is something for the peer, and whether it takes it.
    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.seat.unsent(true);
        self.seat.stalled(result.is_pending());
        if let (Poll::Ready(Ok(bytes)), Speaks::Http2(frames)) = (&result, &mut self.speaks) {
            frames.wrote(*bytes);
        }
        result
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Speaks::Calm(calm) = &mut this.speaks {
            calm.fill(buf.initialize_unfilled());
            let room = buf.remaining();
            buf.advance(room);
            return Poll::Ready(Ok(()));
        }
        if this.seat.paused(cx.waker()) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        loop {
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let ended = buf.filled().len() == before;
            this.read(buf, before)?;
            // Nothing read means the end: what was left out whole is not one.
            if ended || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.wrote(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_flush(cx);
        match result {
            Poll::Pending => this.seat.stalled(true),
            // Whoever flushes has written everything there was before.
            Poll::Ready(_) => this.seat.unsent(false),
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The peer is told that this is the end: nothing comes after it.
        this.seat.unsent(true);
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}
