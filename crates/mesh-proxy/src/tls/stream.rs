//! TLS on a socket. A connection that lies idle holds its keys and nothing else: records are read, decrypted and made in
//! room that the connections of a thread share ([`super::buffers`]), and what is over is freed once it is used up.
//!
//! Reading never writes, but for the alert that tells the peer what it did wrong: the answer to a new key leaves with what is
//! written next, as RFC 8446 asks for (§4.6.3). So who reads and who writes may be two tasks.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{self, GATHERED, RECEIVED, SEALED};
use super::session::{End, Session};

/// The largest record there may be, in bytes (RFC 8446, §5.2).
const RECORD: usize = 5 + (16 << 10) + 256;
/// How much is read at least, in bytes, behind the beginning of something that has come before.
const PIECE: usize = 4 << 10;
/// How much plaintext becomes records at once, in bytes: four full ones, in one system call.
const FULL: usize = 64 << 10;
/// What four records have beside their plaintext, and the answer to a new key before them, in bytes.
const OVERHEAD: usize = 256;

/// A TLS connection, either side of it.
pub struct TlsStream<I> {
    io: I,
    session: Session,
    /// Why the socket can't be read any more, until that was told.
    broken: Option<io::Error>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> TlsStream<I> {
    /// The handshake of the side that connects. How long it may take is up to the caller.
    ///
    /// # Errors
    /// When the handshake fails: then the error holds a [`rustls::Error`]. When the connection does.
    pub async fn connect(io: I, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let session = Session::client(config, name).map_err(io::Error::other)?;
        Self::new(io, session).handshake().await
    }

    /// The handshake of the side that accepts. How long it may take is up to the caller.
    ///
    /// # Errors
    /// When the handshake fails: then the error holds a [`rustls::Error`]. When the connection does.
    pub async fn accept(io: I, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = Session::server(config).map_err(io::Error::other)?;
        Self::new(io, session).handshake().await
    }

    fn new(io: I, session: Session) -> Self {
        Self {
            io,
            session,
            broken: None,
        }
    }

    async fn handshake(mut self) -> io::Result<Self> {
        // The side that connects speaks first.
        self.session.receive(&mut [], &mut ReadBuf::new(&mut []));
        poll_fn(|cx| self.poll_handshake(cx)).await?;
        Ok(self)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(End::Failed(error)) = self.session.end() {
                let error = invalid(error.clone());
                self.warn(cx);
                return Poll::Ready(Err(error));
            }
            let sent = self.poll_send(cx)?;
            if !self.session.common().is_handshaking() {
                ready!(sent);
                return Pin::new(&mut self.io).poll_flush(cx);
            }
            if sent.is_ready() {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            }
            if self.session.end().is_some() {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
        }
    }
}

impl<I> TlsStream<I> {
    /// What is beneath.
    pub fn io(&self) -> &I {
        &self.io
    }

    /// What was agreed on, and who the peer is.
    pub fn common(&self) -> &CommonState {
        self.session.common()
    }
}

impl<I: AsyncRead + Unpin> TlsStream<I> {
    /// Takes what the peer has sent, with one read: as much of it as fits into `into`, the rest is kept.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let held = self.session.held().len();
        buffers::lend(&RECEIVED, RECORD.max(held + PIECE), |room| {
            let mut piece = ReadBuf::new(&mut room[held..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
            let read = piece.filled().len();
            if read == 0 {
                self.session.receive_end();
            } else {
                room[..held].copy_from_slice(self.session.held());
                self.session.receive(&mut room[..held + read], into);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl<I: AsyncWrite + Unpin> TlsStream<I> {
    /// Sends what was kept.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.outgoing.is_empty() {
            let left = self.session.outgoing.left();
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, left))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.outgoing.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer what is wrong, if the socket takes it. If it does not, the error that led here counts all the same.
    fn warn(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll_send(cx);
        let _ = Pin::new(&mut self.io).poll_flush(cx);
    }

    /// Makes records of `plain` and sends them. What the socket does not take is kept, and counts as written.
    fn poll_seal(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        // One of them at a time: a peer that does not read must not make this side keep more.
        ready!(self.poll_send(cx))?;
        if self.session.has_said_goodbye() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let plain = &plain[..plain.len().min(FULL)];
        if plain.is_empty() {
            return Poll::Ready(Ok(0));
        }
        buffers::lend(&SEALED, plain.len() + OVERHEAD, |room| {
            let sealed = self.session.seal(plain, room).map_err(invalid)?;
            let mut records = &room[..sealed];
            while !records.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, records)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(sent) => records = &records[sent..],
                    Poll::Pending => {
                        self.session.outgoing.push(records);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(plain.len()))
        })
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let plain = &mut self.session.plain;
        let fits = plain.left().len().min(buf.remaining());
        buf.put_slice(&plain.left()[..fits]);
        plain.advance(fits);
        while buf.remaining() > 0 && self.session.end().is_none() && self.broken.is_none() {
            match self.poll_receive(cx, buf) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.broken = Some(error),
                Poll::Pending if buf.filled().len() > before => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        // What came before the end is told before it.
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        match self.session.end() {
            None | Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::CutOff) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection without saying so in TLS (close_notify)",
            ))),
            Some(End::Failed(error)) => {
                let error = invalid(error.clone());
                self.warn(cx);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_seal(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        let Some(first) = filled.next() else {
            return Poll::Ready(Ok(0));
        };
        if first.len() >= FULL || filled.next().is_none() {
            return self.poll_seal(cx, first);
        }
        // Nothing is gathered for a socket that takes nothing.
        ready!(self.poll_send(cx))?;
        buffers::lend(&GATHERED, 0, |room| {
            room.clear();
            for buf in bufs {
                let fits = buf.len().min(FULL - room.len());
                room.extend_from_slice(&buf[..fits]);
            }
            self.poll_seal(cx, room)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.say_goodbye().map_err(invalid)?;
        ready!(self.poll_send(cx))?;
        match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
            // It is gone already, which is what was asked for.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
