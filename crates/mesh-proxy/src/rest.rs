//! Idle HTTP/1.1 connections at rest: without room for a request, until the next one comes.
//!
//! A connection that has been idle for a second or two is told to rest by its [`Seat`](crate::connections::Seat). It rests
//! only when nothing of it is left anywhere: no request is open, the last one's body came to its end, nothing was read that
//! is not used, and everything written was flushed.

use std::future::poll_fn;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::connections::Told;
use crate::inbox::Inbox;
use crate::listen::Client;

/// Lets a connection rest until the client says something, which is returned; none: it is over.
pub async fn rest<I>(client: &Client, io: &mut I) -> Option<BytesMut>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let _resting = client.worker.observe.shared().resting(client.direction);
    let told = {
        let mut inbox = Inbox::default();
        tokio::select! {
            biased;
            // A client that has gone is told the same as one that is told to go.
            read = poll_fn(|cx| inbox.poll_first(io, cx)) => match read {
                Ok(1..) => return Some(inbox.buf),
                Ok(0) => Told::Finish,
                Err(_) => Told::Close,
            },
            told = client.seat.told() => told,
        }
    };
    if told != Told::Close {
        tokio::select! {
            _ = io.shutdown() => {}
            () = client.seat.closed() => {}
        }
    }
    None
}
