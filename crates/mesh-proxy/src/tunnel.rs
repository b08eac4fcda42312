//! A stream of HTTP/2 that carries another protocol: what a CONNECT becomes once it is answered with success (RFC 9113,
//! §8.5, and RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::body::poll_room;

/// How many bytes are taken of one write at most.
const PIECE: usize = 16 << 10;

/// A tunnel that opens when its CONNECT is answered.
#[derive(Debug)]
pub struct Opening {
    incoming: RecvStream,
    outgoing: oneshot::Receiver<SendStream<Bytes>>,
}

impl Opening {
    /// On the stream that `incoming` comes by; it is open when what is returned is sent the way back.
    pub fn new(incoming: RecvStream) -> (oneshot::Sender<SendStream<Bytes>>, Self) {
        let (opens, outgoing) = oneshot::channel();
        (opens, Self { incoming, outgoing })
    }

    /// Waits until it is open; none: it never will be.
    pub async fn opened(self) -> Option<Tunnel> {
        let outgoing = self.outgoing.await.ok()?;
        Some(Tunnel {
            incoming: self.incoming,
            piece: Bytes::new(),
            outgoing,
            closed: false,
        })
    }
}

/// An open tunnel. Let go of, it tells the client that nothing more comes.
#[derive(Debug)]
pub struct Tunnel {
    incoming: RecvStream,
    /// Came and was not read yet.
    piece: Bytes,
    outgoing: SendStream<Bytes>,
    /// Whether the client was told that nothing more comes.
    closed: bool,
}

impl Tunnel {
    fn close(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.outgoing.send_data(Bytes::new(), true).map_err(broken)
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.piece.is_empty() {
            match ready!(this.incoming.poll_data(cx)) {
                Some(Ok(piece)) => this.piece = piece,
                None => return Poll::Ready(Ok(())),
                // A client that is done may say so by a reset too.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let read = this.piece.len().min(buf.remaining());
        buf.put_slice(&this.piece[..read]);
        this.piece.advance(read);
        // There is nothing left to give back on a stream that is over.
        let _ = this.incoming.flow_control().release_capacity(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let outgoing = &mut self.outgoing;
        // Only looked at: h2 would wake whoever waits for the stream as soon as it has room, which is asked for below.
        if let Poll::Ready(reset) = outgoing.poll_reset(&mut Context::from_waker(Waker::noop())) {
            return Poll::Ready(Err(broken(reset.map_or_else(|error| error, h2::Error::from))));
        }
        let piece = buf.len().min(PIECE);
        outgoing.reserve_capacity(piece);
        let written = piece.min(ready!(poll_room(outgoing, cx)).map_err(broken)?);
        outgoing
            .send_data(Bytes::copy_from_slice(&buf[..written]), false)
            .map_err(broken)?;
        Poll::Ready(Ok(written))
    }

    /// Whoever drives the connection sends what is written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.close())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // A stream that is over already needs no end.
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use http::{Method, Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;
    use tokio::task::{JoinHandle, spawn};
    use tokio::time::timeout;

    use super::*;

    /// A client's stream, what comes on it, and the tunnel at its other end.
    async fn open() -> (SendStream<Bytes>, RecvStream, Tunnel, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let client = async {
            let (sender, connection) = h2::client::handshake(near).await.unwrap();
            let driven = spawn(async { drop(connection.await) });
            let request = Request::builder().method(Method::CONNECT).uri("web:80");
            let mut sender = sender.ready().await.unwrap();
            let (answer, outgoing) = sender.send_request(request.body(()).unwrap(), false).unwrap();
            (outgoing, answer.await.unwrap().into_body(), driven)
        };
        let server = async {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (request, mut reply) = connection.accept().await.unwrap().unwrap();
            let (opens, opening) = Opening::new(request.into_body());
            let outgoing = reply.send_response(Response::new(()), false).unwrap();
            opens.send(outgoing).unwrap();
            spawn(async move { while connection.accept().await.is_some() {} });
            opening.opened().await.unwrap()
        };
        let ((outgoing, incoming, driven), tunnel) = tokio::join!(client, server);
        (outgoing, incoming, tunnel, driven)
    }

    /// All that comes, and whether that was the end of it.
    async fn all(mut incoming: RecvStream) -> (usize, bool) {
        let mut bytes = 0;
        while let Some(piece) = incoming.data().await {
            let Ok(piece) = piece else { return (bytes, false) };
            incoming.flow_control().release_capacity(piece.len()).unwrap();
            bytes += piece.len();
        }
        (bytes, true)
    }

    #[tokio::test]
    async fn bytes_pass_in_both_directions_however_many() {
        // More than a window, of 64 KiB.
        const MANY: usize = 300_000;
        let (mut outgoing, incoming, mut tunnel, _driven) = open().await;
        let talk = async {
            outgoing.send_data(Bytes::from(vec![1; MANY]), true).unwrap();
            let mut came = Vec::new();
            tunnel.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, vec![1; MANY]);
            let write = async {
                tunnel.write_all(&vec![2; MANY]).await.unwrap();
                tunnel.shutdown().await.unwrap();
                tunnel.shutdown().await.unwrap();
            };
            let ((), there) = tokio::join!(write, all(incoming));
            assert_eq!(there, (MANY, true));
        };
        timeout(Duration::from_secs(30), talk).await.unwrap();
    }

    #[tokio::test]
    async fn a_write_wakes_its_task_once() {
        const PIECES: usize = 50;
        let (_outgoing, mut incoming, mut tunnel, _driven) = open().await;
        let (pieces, mut live) = mpsc::channel::<Bytes>(1);
        let writing = spawn(async move {
            let mut polls = 0;
            let mut write = pin!(async {
                while let Some(piece) = live.recv().await {
                    tunnel.write_all(&piece).await.unwrap();
                }
            });
            poll_fn(|cx| {
                polls += 1;
                write.as_mut().poll(cx)
            })
            .await;
            polls
        });
        for _ in 0..PIECES {
            pieces.send(Bytes::from_static(b"a token")).await.unwrap();
            let piece = incoming.data().await.unwrap().unwrap();
            incoming.flow_control().release_capacity(piece.len()).unwrap();
            assert_eq!(piece, "a token");
        }
        drop(pieces);
        let polls = writing.await.unwrap();
        assert!(polls <= PIECES + 3, "{polls} polls for {PIECES} pieces");
    }

    #[tokio::test]
    async fn who_lets_go_of_it_ends_it() {
        let (_outgoing, incoming, mut tunnel, _driven) = open().await;
        tunnel.write_all(b"bye").await.unwrap();
        drop(tunnel);
        let there = timeout(Duration::from_secs(30), all(incoming)).await.unwrap();
        assert_eq!(there.0, 3);
    }

    #[tokio::test]
    async fn a_client_that_resets_it_is_told_no_more() {
        for (reason, ends) in [
            (Reason::CANCEL, true),
            (Reason::NO_ERROR, true),
            (Reason::INTERNAL_ERROR, false),
        ] {
            let (mut outgoing, incoming, mut tunnel, _driven) = open().await;
            outgoing.send_reset(reason);
            let mut room = [0; 9];
            let read = timeout(Duration::from_secs(30), tunnel.read(&mut room)).await;
            assert_eq!(matches!(read.unwrap(), Ok(0)), ends, "{reason:?}");
            let written = tunnel.write(b"too late").await;
            assert_eq!(
                written.unwrap_err().kind(),
                io::ErrorKind::BrokenPipe,
                "{reason:?}"
            );
            drop(incoming);
        }
    }

    #[tokio::test]
    async fn one_that_is_never_opened_is_none() {
        let (_outgoing, incoming, _tunnel, _driven) = open().await;
        let (opens, opening) = Opening::new(incoming);
        drop(opens);
        assert!(opening.opened().await.is_none());
    }
}
