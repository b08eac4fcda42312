//! The client's side of a connection, or of a stream, that stops being HTTP once the client has its answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::request::Parts;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::FromClient;
use crate::tunnel::{Opening, Tunnel};

/// What is handed over when the client has its answer.
#[derive(Debug)]
pub enum Handover {
    /// A connection in HTTP/1.1.
    Connection(OnUpgrade),
    /// A stream of HTTP/2.
    Stream(Opening),
}

impl Handover {
    /// Of the request with this head and this body, if its connection or stream can be handed over.
    pub fn of(head: &mut Parts, body: &mut FromClient) -> Option<Self> {
        let stream = body.take_tunnel().map(Self::Stream);
        stream.or_else(|| head.extensions.remove().map(Self::Connection))
    }

    /// Waits until the client has its answer; none: it has left.
    pub async fn done(self) -> Option<ClientIo> {
        match self {
            Self::Connection(connection) => {
                let upgraded = connection.await.ok()?;
                Some(ClientIo::Connection(TokioIo::new(upgraded)))
            }
            Self::Stream(opening) => opening.opened().await.map(ClientIo::Stream),
        }
    }
}

/// What a client says and is told in another protocol.
#[derive(Debug)]
pub enum ClientIo {
    /// On a connection of its own.
    Connection(TokioIo<Upgraded>),
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
