//! Idle HTTP/1.1 connections at rest: without hyper, its buffers, and the room for a request, until the next one comes.
//!
//! A connection that has been idle for a second or two is told to rest by its [`Seat`]. hyper then gives back the
//! connection with whatever it has read and not used, so that no byte can be lost. It is taken from hyper only when
//! nothing is left there: no request is open, the last one's body came to its end, and everything written was flushed.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::server::conn::http1::{Connection, Parts, UpgradeableConnection};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::body::Served;
use crate::connections::{Seat, Told};
use crate::guard::Guarded;
use crate::io::Prefixed;
use crate::listen::Client;

/// A connection in HTTP/1.1 whose requests hyper serves with `S`.
pub struct Http1<I, S: HttpService<Incoming>> {
    connection: Driven<I, S>,
    upgrades: Rc<Upgrades>,
}

/// hyper gives a connection back, or hands it over when it becomes another protocol, but not both.
enum Driven<I, S: HttpService<Incoming>> {
    Returnable(Connection<TokioIo<I>, S>),
    Upgradeable(UpgradeableConnection<TokioIo<I>, S>),
    Gone,
}

/// Whether a connection may become another protocol. Most never ask to.
#[derive(Default)]
pub struct Upgrades(Cell<Possible>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Possible {
    #[default]
    No,
    Asked,
    Yes,
}

impl Upgrades {
    /// Waits until it may. Before, its request must not be answered.
    pub async fn made_possible(&self) {
        poll_fn(|_| match self.0.get() {
            Possible::Yes => Poll::Ready(()),
            // Who polls the connection looks at this as soon as it returns.
            Possible::No | Possible::Asked => {
                self.0.set(Possible::Asked);
                Poll::Pending
            }
        })
        .await;
    }
}

impl<I, S> Http1<Prefixed<Guarded<I>>, S>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = Served> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Takes a connection that hyper is to serve. From now on it may be told to rest.
    pub fn new(
        connection: Connection<TokioIo<Prefixed<Guarded<I>>>, S>,
        upgrades: Rc<Upgrades>,
        seat: &Seat,
    ) -> Self {
        seat.may_rest(true);
        Self {
            connection: Driven::Returnable(connection),
            upgrades,
        }
    }

    /// Takes the connection from hyper, if nothing is left there and it was polled just now. What hyper has read of a next
    /// request is in front of it.
    pub fn let_go(&mut self, seat: &Seat) -> Option<Prefixed<Guarded<I>>> {
        let returnable = matches!(self.connection, Driven::Returnable(_));
        seat.may_rest(returnable);
        if !seat.is_quiet() {
            return None;
        }
        let Driven::Returnable(connection) = std::mem::replace(&mut self.connection, Driven::Gone) else {
            return None;
        };
        seat.may_rest(false);
        let Parts { io, read_buf, .. } = connection.into_parts();
        let mut io = io.into_inner();
        if !read_buf.is_empty() {
            // It came in one piece with the last request, when it was not yet known to be a head.
            seat.read(0, true);
            io.give_back(&read_buf);
        }
        Some(io)
    }

    /// Ends the connection when its request is finished.
    pub fn shut_down(&mut self) {
        match &mut self.connection {
            Driven::Returnable(connection) => Pin::new(connection).graceful_shutdown(),
            Driven::Upgradeable(connection) => Pin::new(connection).graceful_shutdown(),
            Driven::Gone => {}
        }
    }
}

impl<I, S> Future for Http1<Prefixed<Guarded<I>>, S>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = Served> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        if let Driven::Returnable(connection) = &mut this.connection {
            let polled = Pin::new(connection).poll(cx);
            if polled.is_ready() || this.upgrades.0.get() != Possible::Asked {
                return polled;
            }
            if let Driven::Returnable(connection) = std::mem::replace(&mut this.connection, Driven::Gone) {
                this.connection = Driven::Upgradeable(connection.with_upgrades());
                this.upgrades.0.set(Possible::Yes);
            }
        }
        match &mut this.connection {
            Driven::Upgradeable(connection) => Pin::new(connection).poll(cx),
            Driven::Returnable(_) | Driven::Gone => Poll::Ready(Ok(())),
        }
    }
}

/// Lets a connection rest until the client says something, which stands in front of it then. False: it is over.
pub async fn rest<I>(client: &Client, io: &mut Prefixed<Guarded<I>>) -> bool
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let _resting = client.worker.observe.shared().resting(client.direction);
    let told = tokio::select! {
        biased;
        // A client that has gone is told the same as one that is told to go.
        read = io.read_ahead() => match read {
            Ok(true) => return true,
            Ok(false) => Told::Finish,
            Err(_) => Told::Close,
        },
        told = client.seat.told() => told,
    };
    if told != Told::Close {
        tokio::select! {
            _ = io.shutdown() => {}
            () = client.seat.closed() => {}
        }
    }
    false
}
