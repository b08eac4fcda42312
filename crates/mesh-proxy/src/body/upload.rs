//! Sends a request's body on a stream to an HTTP/2 server, and gives the stream up when nobody waits for the response
//! any more.
//!
//! While the window to the server is closed nothing of the body is asked for, and so the body can't tell that its client
//! has left: the server would go on for nobody until it reads on. So whoever lets go of the response says so.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use super::RequestBody;

/// How long the first piece of a body may be that is handed to h2 before there is a window for it, in bytes.
const WITH_HEAD: usize = 16 << 10;

/// Whether anybody waits for the response to a request.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    nobody: Cell<bool>,
    sending: RefCell<Option<Waker>>,
}

impl Waiting {
    /// Nobody waits any more.
    pub(super) fn end(&self) {
        self.nobody.set(true);
        let sending = self.sending.take();
        if let Some(sending) = sending {
            sending.wake();
        }
    }

    /// Whether nobody waits; until then, whom to wake.
    fn over(&self, sending: &Waker) -> bool {
        let mut known = self.sending.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(sending)) {
            *known = Some(sending.clone());
        }
        self.nobody.get()
    }
}

/// Sends a body. It is over when the whole body is sent or the server wants no more of it; let go of before, it resets
/// the stream as soon as nobody reads the response either.
pub struct Upload {
    body: RequestBody,
    stream: SendStream<Bytes>,
    /// Taken from the body and waiting for the window; whether it is the last.
    piece: Option<(Bytes, bool)>,
    /// Whether anything was sent.
    begun: bool,
    waiting: Option<Rc<Waiting>>,
}

impl Upload {
    /// Sends `body` on the stream.
    pub fn new(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            piece: None,
            begun: false,
            waiting: None,
        }
    }

    /// Goes on by itself, beside the response.
    pub fn detach(mut self) {
        self.waiting = Some(self.body.waiting());
        tokio::task::spawn_local(self);
    }

    /// Sends what there is. An error is the body's, or the stream is gone; both tell whoever waits for the response.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if let Poll::Ready(reason) = self.stream.poll_reset(cx)? {
                return Poll::Ready(Err(reason.into()));
            }
            if let Some((piece, last)) = self.piece.take() {
                // The stream is opened, and given a part of the window, when the connection is driven next. A small body
                // goes out with its head, as one record, if it is there by then.
                let at_once = !self.begun && piece.len() <= WITH_HEAD;
                if !at_once && !ready_to_send(&mut self.stream, cx)? {
                    self.piece = Some((piece, last));
                    return Poll::Pending;
                }
                self.begun = true;
                self.stream.send_data(piece, last)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(self.stream.send_data(Bytes::new(), true)),
            };
            match frame.into_data() {
                // A part of the window is asked for only when there is something to send: what is kept in reserve
                // is kept from other streams.
                Ok(piece) => {
                    self.stream.reserve_capacity(1);
                    self.piece = Some((piece, self.body.is_end_stream()));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        return Poll::Ready(self.stream.send_trailers(trailers));
                    }
                }
            }
        }
    }
}

/// Whether the window is open; h2 asks for as much of it as a piece is long once it has the piece.
fn ready_to_send(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Result<bool, h2::Error> {
    while stream.capacity() == 0 {
        match stream.poll_capacity(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Some(capacity)) => capacity.map(drop)?,
            // Whether it was reset is asked for before anything else is sent.
            Poll::Ready(None) => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
    Ok(true)
}

impl Future for Upload {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.over(cx.waker()))
        {
            this.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(());
        }
        this.poll_send(cx).map(|sent| {
            if let Err(error) = sent {
                tracing::debug!(%error, "a request was not sent whole");
            }
        })
    }
}
