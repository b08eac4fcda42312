//! A connection, in plaintext or TLS, as one type: static dispatch, vectored writes.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http1::{Out, SLICES};
use crate::tls::{Protocol, TlsStream};

/// Any connection.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<I: AsyncRead + AsyncWrite + Unpin> Duplex for I {}

/// Up to how many bytes in several pieces are brought together, so that `send` takes them: the kernel has less to do for it
/// than for `writev`, by more than such a copy costs.
const LITTLE: usize = 4 << 10;

/// A connection.
pub enum Io {
    /// In plaintext.
    Plain(TcpStream),
    /// In TLS, either side of it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// The protocol that was agreed on in the handshake.
    pub fn agreed_on(&self) -> Option<Protocol> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.protocol(),
        }
    }

    /// Whether HTTP/2 was agreed on.
    pub fn agreed_on_http2(&self) -> bool {
        self.agreed_on() == Some(Protocol::Http2)
    }

    /// Lets the kernel acknowledge two pieces together, instead of each as it is read. That holds until the peer has waited
    /// for an acknowledgement once (40 ms in Linux).
    pub fn acknowledge_late(&self) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.io(),
        };
        // It spares work, and nothing depends on it.
        let _ = stream.set_quickack(false);
    }
}

impl AsFd for Io {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            Self::Tls(tls) => tls.io().as_fd(),
        }
    }
}

macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Io::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Io::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => send(Pin::new(stream), cx, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => stream.poll_shutdown(cx))
    }
}

/// Sends pieces in one system call.
fn send(
    stream: Pin<&mut TcpStream>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length > LITTLE {
        return stream.poll_write_vectored(cx, pieces);
    }
    let mut room = [MaybeUninit::uninit(); LITTLE];
    let mut together = ReadBuf::uninit(&mut room);
    for piece in pieces {
        together.put_slice(piece);
    }
    stream.poll_write(cx, together.filled())
}

/// Writes once of what is to be written.
///
/// # Errors
/// Those of writing.
pub fn poll_write_out<I: AsyncWrite + Unpin>(
    out: &mut Out,
    io: &mut I,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let written = match out.slices(&mut slices) {
        0 => return Poll::Ready(Ok(())),
        1 => ready!(Pin::new(io).poll_write(cx, &slices[0]))?,
        count => ready!(Pin::new(io).poll_write_vectored(cx, &slices[..count]))?,
    };
    if written == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    out.advance(written);
    Poll::Ready(Ok(()))
}

/// A connection of which some bytes were read already.
pub struct Prefixed<I> {
    prefix: Bytes,
    inner: I,
}

impl<I> Prefixed<I> {
    /// Gives the bytes back to whoever reads next.
    pub fn new(prefix: Bytes, inner: I) -> Self {
        Self { prefix, inner }
    }
}

impl<I: AsFd> AsFd for Prefixed<I> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let take = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
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
