//! The client's side of a connection, or of a stream, that stops being HTTP once the client has its answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::io::{Duplex, Prefixed};
use crate::tunnel::{Opening, Tunnel};

/// A connection that was in HTTP/1.1, with what was read of it ahead.
pub type Switched = Prefixed<Box<dyn Duplex>>;

/// What is handed over when the client has its answer.
pub enum Handover {
    /// A connection in HTTP/1.1.
    Connection(oneshot::Receiver<Switched>),
    /// A stream of HTTP/2.
    Stream(Opening),
}

impl Handover {
    /// Waits until the client has its answer; none: it has left.
    pub async fn done(self) -> Option<ClientIo> {
        match self {
            Self::Connection(switched) => switched.await.ok().map(ClientIo::Connection),
            Self::Stream(opening) => opening.opened().await.map(ClientIo::Stream),
        }
    }
}

/// What a client says and is told in another protocol.
pub enum ClientIo {
    /// On a connection of its own.
    Connection(Switched),
    /// On a stream.
    Stream(Tunnel),
}

macro_rules! on_io {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            ClientIo::Connection($io) => {
                let $io = Pin::new($io);
                $call
            }
            ClientIo::Stream($io) => {
                let $io = Pin::new($io);
                $call
            }
        }
    };
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_io!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_io!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_io!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Connection(io) => io.is_write_vectored(),
            Self::Stream(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, io => io.poll_shutdown(cx))
    }
}
