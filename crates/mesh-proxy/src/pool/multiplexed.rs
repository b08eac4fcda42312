//! HTTP/2 connections to a server, each shared by many requests.
//!
//! `h2` is driven without hyper's client: a request is sent, and its response received, by the task that the request
//! already has, where hyper's client would take three more; and h2's limit for small frames can be set.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Lease, Lent, Unanswered};
use crate::body::{RequestBody, ServerBody, ServerError, Upload};
use crate::connect::connect;
use crate::cork::{Corked, Turn};
use crate::cut::Cut;
use crate::error::{Failure, Reason};
use crate::guard::Guarded;
use crate::io::Io;
use crate::limits::SEND_BUFFER;
use crate::observe::Direction;
use crate::table::{Endpoint, EndpointSet};
use crate::tls::Alpn;
use crate::worker::Worker;

/// How many streams a connection carries before another is opened, unless the server allows fewer: what servers allow
/// at least (RFC 9113, §6.5.2, advises them to allow no fewer).
const STREAMS: usize = 100;
/// How many streams are given up before their end until a connection takes no more, at most. h2 counts what still arrives on
/// them against [`SMALL_FRAMES`] and never gives it back; a stream that is given up leaves a few frames.
const MAX_ABANDONED: usize = 500;
/// What small DATA frames that nobody has read yet may cost, in bytes, counted by h2 as 256 less their length for each.
/// A client that reads nothing can't spend it alone, and break the connection for others: a stream's window full of gRPC
/// messages of 4 bytes (9 with their prefix) costs 28 MB.
const SMALL_FRAMES: usize = 32 << 20;

/// The connections whose streams have windows of one size.
pub(super) struct Shared {
    window: u32,
    connections: RefCell<Vec<Rc<Multiplexed>>>,
    /// Where it is told how opening another one ended, while that goes on.
    opening: RefCell<Option<watch::Receiver<Opened>>>,
    /// How many streams were lent.
    lent: Cell<u64>,
}

/// How opening a connection ended; none: it goes on.
type Opened = Option<Result<(), Failure>>;

impl Shared {
    /// None yet; `window`: how many bytes a stream may send ahead of its reader.
    pub(super) fn new(window: u32) -> Rc<Self> {
        Rc::new(Self {
            window,
            connections: RefCell::default(),
            opening: RefCell::default(),
            lent: Cell::new(0),
        })
    }

    /// A stream of one of them, or of a new one.
    ///
    /// # Errors
    /// When there is none and none can be made.
    pub(super) async fn lease(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        set: &EndpointSet,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Lease, Failure> {
        let mut opened_for = None;
        loop {
            if let Some(lease) = self.take_stream() {
                self.lent.set(self.lent.get() + 1);
                return Ok(lease);
            }
            // One that closes before anybody had a stream of it is not opened again and again.
            if opened_for.replace(self.lent.get()) == Some(self.lent.get()) {
                let detail = format!(
                    "{} closed the connection before it carried a request",
                    endpoint.address
                );
                return Err(Failure::new(Reason::ConnectFailed, detail));
            }
            let mut opening = self.opening(worker, set, endpoint);
            match opening.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(Err(failure))) => return Err(failure.clone()),
                Ok(_) => {}
                Err(_) => return Err(Failure::new(Reason::ConnectFailed, "connecting was given up")),
            }
        }
    }

    /// The opening of a connection. There is one at a time for all who wait, and it belongs to none of them: a client that
    /// leaves ends its own request, and all are served, or fail, at the same time.
    fn opening(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        set: &EndpointSet,
        endpoint: &Arc<Endpoint>,
    ) -> watch::Receiver<Opened> {
        let mut opening = self.opening.borrow_mut();
        // One without a sender ended without a word.
        if let Some(opening) = opening.as_ref().filter(|it| it.has_changed().is_ok()) {
            return opening.clone();
        }
        let (tell, told) = watch::channel(None);
        *opening = Some(told.clone());
        let (shared, worker, endpoint) = (Rc::clone(self), Rc::clone(worker), Arc::clone(endpoint));
        let within = set.policy().connect_timeout;
        tokio::task::spawn_local(async move {
            let opened = shared.open(&worker, &endpoint, within).await;
            shared.opening.take();
            tell.send_replace(Some(opened));
        });
        told
    }

    async fn open(&self, worker: &Worker, endpoint: &Endpoint, within: Duration) -> Result<(), Failure> {
        let io = connect(worker, endpoint, Alpn::Http2, within).await?;
        if endpoint.identity.is_some() && !io.agreed_on_http2() {
            return Err(Failure::new(
                Reason::PeerRefused,
                format!("{} does not speak HTTP/2", endpoint.address),
            ));
        }
        let connection = Multiplexed::begin(worker, io, self.window).await?;
        self.connections.borrow_mut().push(connection);
        Ok(())
    }

    fn take_stream(&self) -> Option<Lease> {
        let mut connections = self.connections.borrow_mut();
        // One that takes no more ends with the streams that it has.
        connections.retain(|connection| connection.takes_more());
        connections
            .iter()
            .find(|connection| connection.has_room())
            .map(Multiplexed::lease)
    }

    /// Closes those that carry nothing and are not `fresh`, or, once the endpoint is `gone`, those that carry nothing.
    pub(super) fn sweep(&self, fresh: impl Fn(Instant) -> bool, gone: bool) {
        self.connections
            .borrow_mut()
            .retain(|connection| match connection.idle_since() {
                Some(since) => connection.takes_more() && fresh(since),
                // One that is in use ends with its streams.
                None => !gone,
            });
    }
}

/// A connection.
struct Multiplexed {
    sender: RefCell<SendRequest<Bytes>>,
    streams: Cell<usize>,
    abandoned: Cell<usize>,
    /// How many streams may be given up, and as many may be open then. A server that has this proxy's limit of resets bears
    /// all of them: what some clients break off breaks nothing of others.
    bearable: usize,
    last_used: Cell<Instant>,
}

impl Multiplexed {
    /// Begins a connection; what drives it is a task of its own, until it ends.
    ///
    /// # Errors
    /// When the connection can't be written to.
    async fn begin(worker: &Worker, io: Io, window: u32) -> Result<Rc<Self>, Failure> {
        let limits = &worker.shared.limits;
        let seat = worker.connections.to_server();
        let io = Corked::new(Guarded::server(io, Arc::clone(&seat), limits));
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(window)
            // What all of its streams may have on their way fits: clients that read nothing hold up nobody else.
            .initial_connection_window_size(window * STREAMS as u32)
            .initial_max_send_streams(STREAMS)
            .max_header_list_size(limits.max_head_bytes)
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(SMALL_FRAMES)
            .handshake(io.clone())
            .await
            .map_err(|error| Failure::new(Reason::ConnectFailed, error.to_string()))?;
        let observe = Rc::clone(&worker.observe);
        tokio::task::spawn_local(async move {
            let error = Turn::new(connection, io).await.err();
            if let Some(cut) = seat.blamed().or_else(|| flooded(error.as_ref()?)) {
                observe.shared().cut(Direction::Outbound, cut);
            }
            if let Some(error) = error {
                tracing::debug!(%error, "a connection to a server ended");
            }
        });
        Ok(Rc::new(Self {
            sender: RefCell::new(sender),
            streams: Cell::new(0),
            abandoned: Cell::new(0),
            bearable: (limits.max_resets as usize / 2).clamp(1, MAX_ABANDONED),
            last_used: Cell::new(Instant::now()),
        }))
    }

    /// Whether it takes new streams: it is not closed, the server has not said that it closes it, and not too many
    /// streams were given up.
    fn takes_more(&self) -> bool {
        let ready = self
            .sender
            .borrow_mut()
            .poll_ready(&mut Context::from_waker(Waker::noop()));
        self.abandoned.get() < self.bearable && matches!(ready, Poll::Ready(Ok(())))
    }

    /// Whether it takes another stream now.
    fn has_room(&self) -> bool {
        let allowed = self.sender.borrow().current_max_send_streams();
        self.streams.get() < STREAMS.min(allowed.max(1)).min(self.bearable)
    }

    /// Since when it carries no stream; none: it does.
    fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.last_used.get())
    }

    /// A stream for a request.
    fn lease(self: &Rc<Self>) -> Lease {
        self.streams.set(self.streams.get() + 1);
        Lease(Lent::Http2(Stream {
            of: Rc::clone(self),
            finished: false,
        }))
    }
}

/// Whether h2 has ended the connection because the server's frames are too many.
fn flooded(error: &h2::Error) -> Option<Cut> {
    let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    (calm && !error.is_remote()).then_some(Cut::ServerFlood)
}

/// A stream of a connection, counted until it is dropped.
pub(super) struct Stream {
    of: Rc<Multiplexed>,
    finished: bool,
}

impl Stream {
    /// Sends a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<ServerBody>, Unanswered> {
        // A clone waits for no other stream.
        let mut sender = self.of.sender.borrow().clone();
        let (head, body) = request.into_parts();
        let ready = poll_fn(|cx| sender.poll_ready(cx)).await;
        if let Err(error) = ready {
            return Err(Unanswered {
                error: ServerError::Http2(error),
                unsent: Some(head.headers),
            });
        }
        let broken = |error| Unanswered {
            error: ServerError::Http2(error),
            unsent: None,
        };
        let over = http_body::Body::is_end_stream(&body);
        let (mut response, stream) = sender
            .send_request(Request::from_parts(head, ()), over)
            .map_err(broken)?;
        let mut upload = (!over).then(|| Upload::new(body, stream));
        let response = poll_fn(|cx| {
            if let Some(sending) = &mut upload
                && Pin::new(sending).poll(cx).is_ready()
            {
                upload = None;
            }
            Pin::new(&mut response).poll(cx)
        })
        .await
        .map_err(broken)?;
        // What a client sends while it is answered does not wait until it reads on.
        if let Some(upload) = upload {
            upload.detach();
        }
        Ok(response.map(ServerBody::from))
    }

    /// The response is over.
    pub(super) fn finished(mut self) {
        self.finished = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let of = &self.of;
        of.streams.set(of.streams.get() - 1);
        of.abandoned.set(of.abandoned.get() + usize::from(!self.finished));
        of.last_used.set(Instant::now());
    }
}
