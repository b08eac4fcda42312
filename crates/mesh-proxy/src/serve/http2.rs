//! Serving the streams of a client's connection in HTTP/2.
//!
//! `h2` is driven without hyper's server, as it is to servers (`pool/multiplexed.rs`): a stream's task is one small future,
//! and an answer goes from the server's body to the stream without a body in between.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake};
use tokio::io::{AsyncRead, AsyncWrite};

use super::stream;
use super::{until_finished, until_told};
use crate::connections::Told;
use crate::cork::{Corked, Turn};
use crate::guard::Guarded;
use crate::limits::{Limits, SEND_BUFFER};
use crate::listen::Client;
use crate::pool::STREAM_WINDOW;

/// How many streams h2 resets, for what the client does wrong on them, until it ends the connection.
const MALFORMED_STREAMS: usize = 1024;

/// The window of a client's connection, in bytes: what its requests may make this proxy hold.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Serves the streams of a connection.
pub(super) async fn streams<I>(client: Rc<Client>, io: Guarded<I>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Arc::clone(&client.worker.shared);
    let io = Corked::new(io);
    let handshake = settings(&shared.limits).handshake(io.clone());
    let serving = Serving {
        client: Rc::clone(&client),
        stage: Stage::Beginning(Box::new(handshake)),
        finishing: false,
    };
    let mut turns = pin!(Turn::new(serving, io));
    let told = tokio::select! {
        biased;
        told = until_told(&client, turns.as_mut()) => told,
        () = shared.drain.started() => Some(Told::Finish),
    };
    if told == Some(Told::Finish) {
        turns.as_mut().connection().finish();
        until_finished(&client, turns).await;
    }
}

fn settings(limits: &Limits) -> Builder {
    let mut settings = Builder::new();
    settings
        .max_concurrent_streams(limits.max_streams)
        .enable_connect_protocol()
        .max_header_list_size(limits.max_head_bytes)
        // Resets are counted by `Guarded`. h2 would end a connection after 20 that come right behind their streams.
        .max_pending_accept_reset_streams(limits.max_resets as usize)
        .max_local_error_reset_streams(Some(MALFORMED_STREAMS))
        .max_send_buffer_size(SEND_BUFFER)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    settings
}

/// A connection whose streams are served, each by a task of its own, until it ends.
struct Serving<I> {
    client: Rc<Client>,
    stage: Stage<I>,
    /// Whether it takes no more streams.
    finishing: bool,
}

#[expect(clippy::large_enum_variant, reason = "it is open for as long as it lives")]
enum Stage<I> {
    /// The client has not said yet that it speaks HTTP/2.
    Beginning(Box<Handshake<Corked<Guarded<I>>, Bytes>>),
    Open(Connection<Corked<Guarded<I>>, Bytes>),
}

impl<I: AsyncRead + AsyncWrite + Unpin> Serving<I> {
    /// Tells the client to open no more streams, and ends when those that are open have.
    fn finish(mut self: Pin<&mut Self>) {
        self.finishing = true;
        if let Stage::Open(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Future for Serving<I> {
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let this = &mut *self;
        loop {
            match &mut this.stage {
                Stage::Beginning(handshake) => {
                    let mut connection = ready!(Pin::new(&mut **handshake).poll(cx))?;
                    if this.finishing {
                        connection.graceful_shutdown();
                    }
                    this.stage = Stage::Open(connection);
                }
                Stage::Open(connection) => match ready!(connection.poll_accept(cx)?) {
                    Some((request, reply)) => stream::serve(&this.client, request, reply),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}
