//! What is left of a request when its response has begun: it goes on by itself, as a client sends it, whether or not that
//! client reads what it is answered.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::sending::Sending;
use crate::http1::Broken;

/// What a response and the rest of its request tell each other.
#[derive(Default)]
struct Both {
    response: Cell<Response>,
    request: Cell<Request>,
    sending: RefCell<Option<Waker>>,
    receiving: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Response {
    #[default]
    Goes,
    Over,
    /// Nobody reads it any more.
    GivenUp,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Request {
    #[default]
    Goes,
    Over,
    /// The server takes no more of it.
    Stopped,
    /// Its client broke it off, or it was refused.
    BrokenOff,
}

fn wake(waker: &RefCell<Option<Waker>>) {
    let waker = waker.take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The rest of a request, as its response sees it. Dropped, it ends the request.
pub(super) struct Beside(Rc<Both>);

impl Beside {
    /// Looks after the request.
    ///
    /// # Errors
    /// When it was broken off: the response to what the server has not seen whole means nothing.
    pub(super) fn check(&self, cx: &Context<'_>) -> Result<(), Broken> {
        if self.0.request.get() == Request::BrokenOff {
            return Err(Broken::Request("it was broken off".into()));
        }
        *self.0.receiving.borrow_mut() = Some(cx.waker().clone());
        Ok(())
    }

    /// The response is over, and the request goes on to its end. Returns whether it is there.
    pub(super) fn response_over(self) -> bool {
        self.0.response.set(Response::Over);
        wake(&self.0.sending);
        self.0.request.get() == Request::Over
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.0.response.get() == Response::Goes {
            self.0.response.set(Response::GivenUp);
            wake(&self.0.sending);
        }
    }
}

/// The rest of a request.
pub(super) struct Rest {
    sending: Sending,
    both: Rc<Both>,
}

impl Rest {
    /// Goes on beside the response.
    pub(super) fn begin(sending: Sending) -> Beside {
        let both: Rc<Both> = Rc::default();
        let beside = Beside(Rc::clone(&both));
        tokio::task::spawn_local(Self { sending, both });
        beside
    }

    /// How it ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Request> {
        match self.both.response.get() {
            Response::GivenUp => return Poll::Ready(Request::Stopped),
            // Nobody else would hear that the server closes.
            Response::Over if self.sending.connection().poll_heard(cx).is_ready() => {
                return Poll::Ready(Request::Stopped);
            }
            Response::Goes | Response::Over => {}
        }
        *self.both.sending.borrow_mut() = Some(cx.waker().clone());
        self.sending.poll(cx).map(|sent| match sent {
            Ok(()) => Request::Over,
            Err(error) => {
                tracing::debug!(%error, "a request was not sent whole");
                match error {
                    Broken::Request(_) => Request::BrokenOff,
                    _ => Request::Stopped,
                }
            }
        })
    }
}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_end(cx).map(|end| {
            self.both.request.set(end);
            wake(&self.both.receiving);
        })
    }
}
