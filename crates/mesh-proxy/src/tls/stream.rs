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

use mesh_api::identity::Identity;
use rustls::crypto::cipher::OutboundChunks;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Protocol;
use super::buffers::{self, Outgoing};
use super::handshake::{Agreed, Handshake};
use super::records::{AT_ONCE, End, RECORD, Records};

/// How much is read at least, in bytes, behind the beginning of something that has come before.
const PIECE: usize = 4 << 10;
/// How much plaintext becomes records at once, in bytes: four full ones, in one system call.
const FULL: usize = AT_ONCE * (16 << 10);
/// How many slices become records at once, at most.
const SLICES: usize = 64;

/// A TLS connection, either side of it.
pub struct TlsStream<I> {
    io: I,
    records: Records,
    /// The beginning of a record.
    held: Vec<u8>,
    outgoing: Outgoing,
    protocol: Option<Protocol>,
    /// Why the socket can't be read any more, until that was told.
    broken: Option<io::Error>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> TlsStream<I> {
    /// The handshake of the side that connects. How long it may take is up to the caller.
    ///
    /// # Errors
    /// When the handshake fails: then the error holds a [`rustls::Error`]. When the connection does.
    pub async fn connect(io: I, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let handshake = Handshake::client(config, name).map_err(io::Error::other)?;
        let (stream, _) = Self::shake(io, handshake).await?;
        Ok(stream)
    }

    /// The handshake of the side that accepts, and who the other side proved to be: the identity of its leaf, as long as the
    /// leaf holds. How long it may take is up to the caller.
    ///
    /// # Errors
    /// When the handshake fails: then the error holds a [`rustls::Error`]. When the connection does.
    pub async fn accept(io: I, config: Arc<ServerConfig>) -> io::Result<(Self, Option<Identity>)> {
        let handshake = Handshake::server(config).map_err(io::Error::other)?;
        Self::shake(io, handshake).await
    }

    async fn shake(mut io: I, mut handshake: Handshake) -> io::Result<(Self, Option<Identity>)> {
        let (mut held, mut outgoing) = (Vec::new(), Outgoing::default());
        // The side that connects speaks first.
        handshake.receive(&mut [], &mut outgoing).map_err(invalid)?;
        poll_fn(|cx| poll_handshake(&mut io, cx, &mut handshake, &mut held, &mut outgoing)).await?;
        let (Agreed { protocol, peer }, records) = handshake.finish().map_err(invalid)?;
        let mut stream = Self {
            io,
            records,
            held: Vec::new(),
            outgoing,
            protocol,
            broken: None,
        };
        // What came along with the end of the handshake.
        let used = stream
            .records
            .receive(&mut held, &mut ReadBuf::new(&mut []), &mut stream.outgoing);
        keep(&mut stream.held, &held[used..]);
        Ok((stream, peer))
    }
}

fn poll_handshake<I: AsyncRead + AsyncWrite + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    handshake: &mut Handshake,
    held: &mut Vec<u8>,
    outgoing: &mut Outgoing,
) -> Poll<io::Result<()>> {
    loop {
        let sent = poll_send(io, cx, outgoing)?;
        if handshake.is_over() {
            ready!(sent);
            return Pin::new(io).poll_flush(cx);
        }
        if sent.is_ready() {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
        }
        let mut taken = Ok(0);
        let read = ready!(poll_more(io, cx, held, |bytes| {
            taken = handshake.receive(bytes, outgoing);
            *taken.as_ref().unwrap_or(&bytes.len())
        }))?;
        if let Err(error) = taken {
            warn(io, cx, outgoing);
            return Poll::Ready(Err(invalid(error)));
        }
        if !read {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
            return Poll::Ready(Err(error));
        }
    }
}

/// Reads once, behind what is held, gives all of it to `take` and holds what that has not used up. False: there is no more.
fn poll_more<I: AsyncRead + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    held: &mut Vec<u8>,
    take: impl FnOnce(&mut [u8]) -> usize,
) -> Poll<io::Result<bool>> {
    let begin = held.len();
    buffers::lend(RECORD.max(begin + PIECE), |room| {
        let mut piece = ReadBuf::new(&mut room[begin..]);
        ready!(Pin::new(io).poll_read(cx, &mut piece))?;
        let read = piece.filled().len();
        if read > 0 {
            room[..begin].copy_from_slice(held);
            let all = &mut room[..begin + read];
            let used = take(all);
            keep(held, &all[used..]);
        }
        Poll::Ready(Ok(read > 0))
    })
}

/// Holds `left` from here on. What a connection has used up, it does not keep.
fn keep(held: &mut Vec<u8>, left: &[u8]) {
    if left.is_empty() {
        *held = Vec::new();
    } else {
        held.clear();
        held.extend_from_slice(left);
    }
}

/// Sends what was kept.
fn poll_send<I: AsyncWrite + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    outgoing: &mut Outgoing,
) -> Poll<io::Result<()>> {
    while !outgoing.is_empty() {
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        let filled = outgoing.slices(&mut slices);
        let sent = ready!(poll_write(io, cx, &slices[..filled]))?;
        outgoing.advance(sent);
    }
    Poll::Ready(Ok(()))
}

fn poll_write<I: AsyncWrite + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    records: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let written = match records {
        [record] => Pin::new(io).poll_write(cx, record),
        records => Pin::new(io).poll_write_vectored(cx, records),
    };
    match ready!(written)? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        sent => Poll::Ready(Ok(sent)),
    }
}

/// Tells the peer what is wrong, if the socket takes it. If it does not, the error that led here counts all the same.
fn warn<I: AsyncWrite + Unpin>(io: &mut I, cx: &mut Context<'_>, outgoing: &mut Outgoing) {
    let _ = poll_send(io, cx, outgoing);
    let _ = Pin::new(io).poll_flush(cx);
}

impl<I> TlsStream<I> {
    /// What is beneath.
    pub fn io(&self) -> &I {
        &self.io
    }

    /// The protocol that was agreed on, if one was.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }
}

impl<I: AsyncRead + Unpin> TlsStream<I> {
    /// Takes what the peer has sent, with one read: as much of it as fits into `into`, the rest is kept.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (records, outgoing) = (&mut self.records, &mut self.outgoing);
        let take = |bytes: &mut [u8]| records.receive(bytes, into, outgoing);
        if !ready!(poll_more(&mut self.io, cx, &mut self.held, take))? {
            self.records.receive_end();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> TlsStream<I> {
    /// Sends what was kept.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_send(&mut self.io, cx, &mut self.outgoing)
    }

    /// Makes records of the front of `plain` and sends them, with one system call. What the socket does not take is kept, and
    /// counts as written.
    fn poll_seal(&mut self, cx: &mut Context<'_>, plain: &[&[u8]]) -> Poll<io::Result<usize>> {
        // One of them at a time: a peer that does not read must not make this side keep more.
        ready!(self.poll_send(cx))?;
        if self.records.has_said_goodbye() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (plain, _) = OutboundChunks::new(plain).split_at(FULL);
        if plain.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sealed = self.records.seal(&plain).map_err(invalid)?;
        let slices = sealed.each_ref().map(|record| IoSlice::new(record));
        let filled = sealed.iter().take_while(|record| !record.is_empty()).count();
        let mut sent = match poll_write(&mut self.io, cx, &slices[..filled])? {
            Poll::Ready(sent) => sent,
            Poll::Pending => 0,
        };
        for record in sealed {
            let gone = sent.min(record.len());
            sent -= gone;
            self.outgoing.push_rest(record, gone);
        }
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(plain.len()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let plain = &mut self.records.plain;
        let fits = plain.left().len().min(buf.remaining());
        buf.put_slice(&plain.left()[..fits]);
        plain.advance(fits);
        while buf.remaining() > 0 && self.records.end().is_none() && self.broken.is_none() {
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
        match self.records.end() {
            None | Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::CutOff) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection without saying so in TLS (close_notify)",
            ))),
            Some(End::Failed(error)) => {
                let error = invalid(rustls::Error::clone(error));
                let this = &mut *self;
                warn(&mut this.io, cx, &mut this.outgoing);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_seal(cx, &[buf])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices: [&[u8]; SLICES] = [&[]; SLICES];
        let filled = bufs.iter().filter(|buf| !buf.is_empty());
        let mut count = 0;
        for (slice, buf) in slices.iter_mut().zip(filled) {
            *slice = buf;
            count += 1;
        }
        self.poll_seal(cx, &slices[..count])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.records.say_goodbye(&mut this.outgoing).map_err(invalid)?;
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
