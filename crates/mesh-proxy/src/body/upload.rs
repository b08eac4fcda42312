//! Sends a request's body on a stream to an HTTP/2 server, and gives the stream up when nobody waits for the response
//! any more.
//!
//! While the window to the server is closed nothing of the body is asked for, and so the body can't tell that its client
//! has left: the server would go on for nobody until it reads on. So whoever lets go of the response says so.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::{RequestBody, Sending};

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
    sending: Sending<RequestBody>,
    waiting: Option<Rc<Waiting>>,
}

impl Upload {
    /// Sends `body` on the stream.
    pub fn new(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        // The stream is opened, and given a part of the window, when the connection is driven next. A small body goes out
        // with its head, as one record, if it is there by then.
        Self {
            sending: Sending::new(body, stream, WITH_HEAD, Reason::CANCEL),
            waiting: None,
        }
    }

    /// Goes on by itself, beside the response.
    pub fn detach(mut self) {
        self.waiting = Some(self.sending.body().waiting());
        tokio::task::spawn_local(self);
    }
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
            this.sending.reset(Reason::CANCEL);
            return Poll::Ready(());
        }
        this.sending.poll_send(cx).map(|sent| {
            if let Err(error) = sent {
                // The body's errors, and the stream's end, tell whoever waits for the response.
                tracing::debug!(%error, "a request was not sent whole");
            }
        })
    }
}
