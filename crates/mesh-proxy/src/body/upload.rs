//! The task that sends a request's body to an HTTP/2 server, let go of when nobody waits for the response any more.
//!
//! While the window to the server is closed, HTTP/2's implementation asks for no more of the body, and so the body can't
//! tell that its client has left: the server would go on for nobody until it reads on. So the task itself is told. It
//! learns whose body it sends when it, or the connection that makes it, first asks for a part of it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

thread_local! {
    /// Whose body was asked for last, and for the first time.
    static ASKED: RefCell<Option<Rc<Waiting>>> = const { RefCell::new(None) };
}

/// Whether anybody waits for the response to a request.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    nobody: Cell<bool>,
    sending: RefCell<Option<Waker>>,
}

impl Waiting {
    /// Says, of the body that is asked for the first time, whose it is.
    pub(super) fn asked(self: &Rc<Self>) {
        ASKED.set(Some(Rc::clone(self)));
    }

    /// Whom to wake at the end.
    fn wakes(&self, sending: &Waker) {
        let mut known = self.sending.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(sending)) {
            *known = Some(sending.clone());
        }
    }

    /// Nobody waits any more.
    pub(super) fn end(&self) {
        self.nobody.set(true);
        let sending = self.sending.take();
        if let Some(sending) = sending {
            sending.wake();
        }
    }
}

pin_project! {
    /// A task that hyper makes for a request to an HTTP/2 server.
    pub struct Upload<F> {
        #[pin]
        task: F,
        of: Option<Rc<Waiting>>,
    }
}

impl<F> Upload<F> {
    /// The task for the request whose body the connection has just asked for, if it has.
    pub fn new(task: F) -> Self {
        Self {
            task,
            of: ASKED.take(),
        }
    }
}

impl<F: Future<Output = ()>> Future for Upload<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.of.as_ref().is_some_and(|of| of.nobody.get()) {
            // Letting go of the stream resets it (CANCEL).
            return Poll::Ready(());
        }
        let polled = this.task.poll(cx);
        let asked = ASKED.take();
        if polled.is_pending() {
            let of = this.of.take().or(asked);
            if let Some(of) = &of {
                of.wakes(cx.waker());
            }
            *this.of = of;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_task_ends_when_nobody_waits_for_what_it_sends() {
        let (one, other) = (Rc::<Waiting>::default(), Rc::<Waiting>::default());
        // The connection asks for the body, and makes the task.
        one.asked();
        let mut of_one = Box::pin(Upload::new(pending()));
        let mut of_nobody = Box::pin(Upload::new(pending()));
        // The task itself asks first.
        let asks = Rc::clone(&other);
        let mut of_other = Box::pin(Upload::new(poll_fn(move |_| {
            asks.asked();
            Poll::Pending
        })));
        for task in [of_one.as_mut().now_or_never(), of_nobody.as_mut().now_or_never()] {
            assert_eq!(task, None);
        }
        assert_eq!(of_other.as_mut().now_or_never(), None);
        one.end();
        assert_eq!(of_one.as_mut().now_or_never(), Some(()));
        assert_eq!(of_other.as_mut().now_or_never(), None);
        other.end();
        assert_eq!(of_other.as_mut().now_or_never(), Some(()));
        assert_eq!(of_nobody.as_mut().now_or_never(), None);
    }
}
