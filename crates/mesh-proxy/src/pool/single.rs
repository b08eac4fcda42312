//! HTTP/1.1 connections to a server, each lent to one request at a time.
//!
//! There is no task for a connection: a request is written, and its response read, by the task that the request already
//! has. What lies idle holds no buffer, and whether it was closed is asked when it is taken; that costs no system call
//! where nothing was heard of it.

use std::cell::{RefCell, RefMut};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{Pool, Unanswered};
use crate::body::{RequestBody, ServerBody, ServerError};
use crate::http1::{Broken, Encoder, Head, HeadLimits, HeadReader, write_head};
use crate::io::{Io, Prefixed};

mod receiving;
mod rest;
mod sending;

use receiving::Incoming;
pub use receiving::Receiving;
use rest::Rest;
use sending::Sending;

/// How many idle connections are kept for an endpoint.
const MAX_IDLE: usize = 256;

/// A connection. Clones are the same one, and it is closed with the last: a request that goes on beside its response
/// needs it as long.
#[derive(Clone)]
pub(super) struct Connection(Rc<RefCell<Io>>);

impl Connection {
    /// A new one.
    pub(super) fn new(io: Io) -> Self {
        Self(Rc::new(RefCell::new(io)))
    }

    fn io(&self) -> RefMut<'_, Io> {
        self.0.borrow_mut()
    }

    /// Ready when the server says something, or closes, although no answer is awaited.
    fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        Pin::new(&mut *self.io()).poll_read(cx, &mut read).map(drop)
    }

    /// Whether nothing was heard of it since its last answer: it can carry another request.
    fn is_quiet(&self) -> bool {
        self.poll_heard(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    /// Takes leave of the server, as far as that is done without waiting.
    fn close(&self) {
        let _ = Pin::new(&mut *self.io()).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }

    /// The connection itself, if this is the last of it.
    fn into_io(self) -> Option<Io> {
        Rc::try_unwrap(self.0).ok().map(RefCell::into_inner)
    }
}

/// The connections that carry nothing, the one used last at the end.
#[derive(Default)]
pub(super) struct Idle(RefCell<Vec<(Connection, Instant)>>);

impl Idle {
    /// The one used last that is open: it is the least likely to be closed by the other side. `fresh`: whether one that
    /// was used last then may be used.
    pub(super) fn take(&self, fresh: impl Fn(Instant) -> bool) -> Option<Connection> {
        let mut idle = self.0.borrow_mut();
        while let Some((connection, used)) = idle.pop() {
            if !fresh(used) {
                connection.close();
                return None;
            }
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps one whose request and response are over.
    pub(super) fn put(&self, connection: Connection) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push((connection, Instant::now()));
        }
    }

    /// Lets go of those that are not `fresh`, and of those that the server closed.
    pub(super) fn sweep(&self, fresh: impl Fn(Instant) -> bool) {
        self.0.borrow_mut().retain(|(connection, used)| {
            let fresh = fresh(*used);
            if !fresh {
                connection.close();
            }
            fresh && connection.is_quiet()
        });
    }
}

/// A connection lent to a request.
pub(super) struct Single {
    connection: Connection,
    home: Rc<Pool>,
    limits: HeadLimits,
}

impl Single {
    /// Lends it; `home`: where it goes when the response is over.
    pub(super) fn new(connection: Connection, home: Rc<Pool>, limits: HeadLimits) -> Self {
        Self {
            connection,
            home,
            limits,
        }
    }

    /// Sends a request. The connection goes with the response, and closes when that is dropped before its end.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn send(
        self,
        request: Request<RequestBody>,
    ) -> Result<Response<ServerBody>, Unanswered> {
        let (head, body) = request.into_parts();
        let Parts {
            method,
            uri,
            mut headers,
            ..
        } = head;
        let (over, exact) = (
            http_body::Body::is_end_stream(&body),
            http_body::Body::size_hint(&body).exact(),
        );
        let encoder = Encoder::choose(&method, &mut headers, over, exact);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let written = write_head(&method, target, &headers);
        let sending = Sending::new(self.connection.clone(), written, encoder, body);
        let mut exchange = Exchange {
            sending: Some(sending),
            headers: Some(headers),
            incoming: Incoming::new(self.connection.clone()),
            reader: HeadReader::new(self.limits, method == Method::HEAD),
            failed: None,
        };
        match poll_fn(|cx| exchange.poll(cx)).await {
            Ok(head) => Ok(self.answered(head, exchange)),
            Err(Failed { error, unsent }) => Err(Unanswered {
                error: ServerError::Http1(error),
                unsent: exchange.headers.filter(|_| unsent),
            }),
        }
    }

    /// The response to a request, whose rest, if there is one, goes on beside it.
    fn answered(self, head: Head, exchange: Exchange) -> Response<ServerBody> {
        let Exchange {
            sending,
            incoming,
            failed,
            ..
        } = exchange;
        let body = if head.status == StatusCode::SWITCHING_PROTOCOLS {
            drop((sending, self));
            let (connection, ahead) = incoming.into_parts();
            let io = connection.into_io();
            ServerBody::Switched(io.map(|io| Prefixed::new(ahead, io)))
        } else {
            let rest = sending.map(Rest::begin);
            let keeps = head.keeps && failed.is_none();
            ServerBody::Http1(Receiving::new(
                incoming,
                head.framing,
                rest,
                keeps.then_some(self.home),
            ))
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        if let Some(phrase) = head.phrase {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}

/// A request that is being sent while its answer is awaited.
struct Exchange {
    /// None: it is sent.
    sending: Option<Sending>,
    /// The request's, until any of it is sent.
    headers: Option<HeaderMap>,
    incoming: Incoming,
    reader: HeadReader,
    /// Why no more of it can be sent. What the server said before may still be read.
    failed: Option<io::Error>,
}

/// Why there is no answer, and whether nothing of the request was sent, and it can be sent again.
struct Failed {
    error: Broken,
    unsent: bool,
}

impl Exchange {
    /// Sends what there is, and ready with the head of the response.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Failed>> {
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(cx)
        {
            let unsent = sending.is_unsent();
            match sent {
                Err(error @ Broken::Io(_)) if unsent => return Poll::Ready(Err(Failed { error, unsent })),
                Err(Broken::Io(error)) => self.failed = Some(error),
                Err(error) => return Poll::Ready(Err(Failed { error, unsent: false })),
                Ok(()) => {}
            }
            self.sending = None;
        }
        let begun = self.sending.as_ref().is_none_or(Sending::has_begun);
        if let Some(headers) = self.headers.take_if(|_| begun) {
            self.reader.reuse(headers);
        }
        loop {
            match self.incoming.read_head(&mut self.reader) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(Failed { error, unsent: false })),
            }
            let error = match std::task::ready!(self.incoming.poll_read(cx)) {
                Ok(1..) => continue,
                Ok(0) => self.failed.take().map_or(Broken::Closed, Broken::Io),
                Err(error) => Broken::Io(self.failed.take().unwrap_or(error)),
            };
            return Poll::Ready(Err(Failed { error, unsent: false }));
        }
    }
}
