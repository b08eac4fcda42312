//! A client's connection in HTTP/1.1: read by whoever serves it and, while it lasts, by whoever holds the body of its request.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::ended::Ended;
use crate::body::{BrokenOff, ClientBody, Incoming};
use crate::connections::Seat;
use crate::guard::Guarded;
use crate::handover::Switched;
use crate::http1::{Asked, Framing, Out, Piece, RequestReader};
use crate::inbox::Inbox;
use crate::io::{Duplex, Prefixed, poll_write_out};

/// What a client hears that waits with its body until somebody wants it.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// How many pieces are read of a body that nobody wants, to see whether it is over.
const DISCARDED: usize = 4;

/// A connection.
pub(super) struct Connection<I> {
    state: RefCell<State<I>>,
    seat: Arc<Seat>,
    /// Whether it takes no more requests.
    finishing: Cell<bool>,
    /// To whom it is handed over, once its last answer is sent.
    switched: Cell<Option<oneshot::Sender<Switched>>>,
}

struct State<I> {
    io: Guarded<I>,
    inbox: Inbox,
    /// The body of the request.
    body: Framing,
    held: Held,
    /// Whether the client waits until somebody wants the body.
    expects: bool,
    /// Whether the answer has begun, before which alone the client may be told.
    answering: bool,
    /// What is to be written before the answer.
    interim: &'static [u8],
    /// Who serves the connection, while another task may read the body.
    server: Option<Waker>,
}

/// Who reads the body of the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Nobody: it is over.
    Over,
    /// Who holds it.
    Open,
    /// Nobody, and it is not over.
    GivenUp,
    /// Nobody: it broke off.
    Broken,
}

impl<I> Connection<I> {
    /// With what was read of it already.
    pub(super) fn new(io: Guarded<I>, ahead: BytesMut, seat: Arc<Seat>) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                io,
                inbox: Inbox::new(ahead),
                body: Framing::Length(0),
                held: Held::Over,
                expects: false,
                answering: false,
                interim: b"",
                server: None,
            }),
            seat,
            finishing: Cell::new(false),
            switched: Cell::new(None),
        })
    }

    /// Takes no more requests.
    pub(super) fn finish(&self) {
        self.finishing.set(true);
    }

    /// Whether it takes no more requests.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.get()
    }

    /// Hands it over when it is served no more.
    pub(super) fn switch(&self, to: Option<oneshot::Sender<Switched>>) {
        self.switched.set(to);
    }

    /// Whether nothing was read that is not used yet.
    pub(super) fn is_exhausted(&self) -> bool {
        self.state.borrow().inbox.buf.is_empty()
    }

    /// The connection itself, if nobody holds the body of a request.
    pub(super) fn into_io(self: Rc<Self>) -> Option<Guarded<I>> {
        Rc::into_inner(self).map(|this| this.state.into_inner().io)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + 'static> Connection<I> {
    /// Hands it over, if that was asked for and nobody holds the body of a request.
    pub(super) fn hand_over(self: Rc<Self>) {
        let Some(to) = self.switched.take() else { return };
        let Some(this) = Rc::into_inner(self) else { return };
        let State { io, inbox, .. } = this.state.into_inner();
        let io: Box<dyn Duplex> = Box::new(io);
        // Who does not wait for it any more does not want it.
        let _ = to.send(Prefixed::new(inbox.buf.freeze(), io));
    }

    /// The body of a request that was read just now.
    pub(super) fn begin(self: &Rc<Self>, framing: Framing, expects: bool) -> Option<ClientBody> {
        let mut state = self.state.borrow_mut();
        let has_body = !framing.is_over();
        self.seat.has_body(has_body);
        state.held = if has_body { Held::Open } else { Held::Over };
        state.body = framing;
        state.expects = expects;
        state.answering = false;
        has_body.then(|| ClientBody::new(Rc::clone(self) as Rc<dyn Incoming>))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    /// The head of the next request; none: there is no next one.
    pub(super) fn poll_head(
        &self,
        reader: &mut RequestReader,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Asked>, Ended>> {
        let state = &mut *self.state.borrow_mut();
        loop {
            if let Some(asked) = reader.read(&mut state.inbox.buf).map_err(Ended::Refused)? {
                return Poll::Ready(Ok(Some(asked)));
            }
            let first = state.inbox.buf.is_empty();
            if first && self.finishing.get() {
                return Poll::Ready(Ok(None));
            }
            if !first {
                // It may have come in one piece with the last request, when it was not yet known to be a head.
                self.seat.read(0, true);
            }
            match ready!(state.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) if first => return Poll::Ready(Ok(None)),
                Ok(0) => return Poll::Ready(Err(Ended::Left)),
                Err(error) => return Poll::Ready(Err(Ended::Broken(error))),
            }
        }
    }

    /// Ready when the client has left, as far as that can be seen: what it sends ahead hides it. What was not sent before the
    /// answer is sent meanwhile.
    pub(super) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<Ended> {
        let state = &mut *self.state.borrow_mut();
        if let Poll::Ready(Err(error)) = state.poll_interim(cx) {
            return Poll::Ready(Ended::Broken(error));
        }
        match state.held {
            Held::Over if state.inbox.buf.is_empty() => {}
            Held::Open => {
                state.served_by(cx);
                return Poll::Pending;
            }
            Held::Over | Held::GivenUp | Held::Broken => return Poll::Pending,
        }
        match ready!(state.poll_read(cx)) {
            Ok(1..) => Poll::Pending,
            Ok(0) => Poll::Ready(Ended::Left),
            Err(error) => Poll::Ready(Ended::Broken(error)),
        }
    }

    /// Sends an answer, or a part of it: what there is.
    pub(super) fn poll_write(&self, out: &mut Out, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        ready!(state.poll_interim(cx))?;
        while !out.is_empty() {
            ready!(poll_write_out(out, &mut state.io, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sees that everything written is handed to the system.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.state.borrow_mut().io).poll_flush(cx)
    }

    /// Tells the client that nothing more comes.
    pub(super) fn poll_shut_down(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.state.borrow_mut().io).poll_shutdown(cx)
    }

    /// From here on only the answer is written.
    pub(super) fn begin_answer(&self) {
        self.state.borrow_mut().answering = true;
    }

    /// Whether another request may follow this one. It may not if nobody wants its body and that has no end.
    pub(super) fn may_go_on(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        match state.held {
            Held::Over | Held::Open => true,
            Held::Broken => false,
            // It waits to be told that the body is wanted, and may send it or not.
            Held::GivenUp if state.expects => false,
            Held::GivenUp => {
                let over = state.discard();
                if over {
                    state.held = Held::Over;
                    self.seat.body_ended();
                }
                over
            }
        }
    }

    /// Ready when nobody holds the body of the request any more.
    pub(super) fn poll_body_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.held == Held::Open {
            state.served_by(cx);
            return Poll::Pending;
        }
        state.inbox.rest();
        Poll::Ready(())
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> State<I> {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbox.buf.is_empty() {
            self.inbox.poll_first(&mut self.io, cx)
        } else {
            self.inbox.poll_read(&mut self.io, cx)
        }
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim = &self.interim[written..];
            if self.interim.is_empty() {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What comes next of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BrokenOff>> {
        loop {
            match self.body.next(&mut self.inbox.buf).map_err(BrokenOff::Http1)? {
                Piece::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Piece::Trailers(trailers) => return Poll::Ready(Ok(Some(Frame::trailers(trailers)))),
                Piece::Over => return Poll::Ready(Ok(None)),
                Piece::More => {}
            }
            match ready!(self.inbox.poll_read(&mut self.io, cx)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Err(BrokenOff::Left)),
                Err(error) => return Poll::Ready(Err(BrokenOff::Io(error))),
            }
        }
    }

    /// Looks for the end of a body that nobody wants, without waiting for it.
    fn discard(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..DISCARDED {
            match self.poll_body(cx) {
                Poll::Ready(Ok(_)) if self.body.is_over() => return true,
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Ok(None) | Err(_)) | Poll::Pending => return false,
            }
        }
        false
    }

    fn served_by(&mut self, cx: &Context<'_>) {
        if !self
            .server
            .as_ref()
            .is_some_and(|server| server.will_wake(cx.waker()))
        {
            self.server = Some(cx.waker().clone());
        }
    }

    /// Tells who serves the connection that nobody holds the body any more. `but`: who knows.
    fn let_go(&mut self, held: Held, but: Option<&Waker>) {
        self.held = held;
        let server = self.server.take();
        if let Some(server) = server.filter(|server| !but.is_some_and(|but| but.will_wake(server))) {
            server.wake();
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Incoming for Connection<I> {
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let state = &mut *self.state.borrow_mut();
        if state.expects && !state.answering {
            state.expects = false;
            state.interim = CONTINUE;
        }
        if let Poll::Ready(Err(error)) = state.poll_interim(cx) {
            state.let_go(Held::Broken, Some(cx.waker()));
            return Poll::Ready(Some(Err(BrokenOff::Io(error))));
        }
        let next = ready!(state.poll_body(cx));
        let held = match &next {
            Err(_) => Held::Broken,
            Ok(None) => Held::Over,
            Ok(Some(_)) if state.body.is_over() => Held::Over,
            Ok(Some(_)) => Held::Open,
        };
        if held != Held::Open {
            state.let_go(held, Some(cx.waker()));
        }
        if held == Held::Over {
            self.seat.body_ended();
        }
        Poll::Ready(next.transpose())
    }

    fn is_over(&self) -> bool {
        self.state.borrow().held == Held::Over
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.state.borrow().body.left();
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn give_up(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.held == Held::Open {
            state.let_go(Held::GivenUp, None);
        }
    }
}
