//! The stream of an HTTP/2 client, given up when the client takes nothing of its response for too long.
//!
//! HTTP/2's implementation asks for no more of a response while the stream's window is closed, so that neither the
//! response nor the connection notices that nothing moves: the client may be reading its other streams. So the task of
//! each stream looks, when it has to wait, whether it waits for the server or for the client.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::cut::Cut;
use crate::observe::Direction;
use crate::worker::Worker;

thread_local! {
    /// What the response of the stream that runs last said: `true`: here is a part, and there may be more.
    static OWED: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Says of the response that is asked just now whether it gave a part of itself, behind which there may be more.
pub fn owed(more: bool) {
    OWED.set(Some(more));
}

/// Runs the streams of a connection, each as a task on this thread.
#[derive(Clone)]
pub struct Streams {
    worker: Rc<Worker>,
    direction: Direction,
}

impl Streams {
    /// Of a connection of this worker.
    pub fn new(worker: Rc<Worker>, direction: Direction) -> Self {
        Self { worker, direction }
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let limit = self.worker.shared.limits.stall_timeout.get();
        let (worker, direction) = (Rc::clone(&self.worker), self.direction);
        tokio::task::spawn_local(Patient {
            stream,
            limit,
            since: None,
            timer: None,
            given_up: Some(move || worker.observe.shared().cut(direction, Cut::SlowReader)),
        });
    }
}

pin_project! {
    /// A stream, as long as its client takes what there is.
    struct Patient<F, G> {
        #[pin]
        stream: F,
        limit: Duration,
        // Since when a part of the response waits for the client.
        since: Option<Instant>,
        timer: Option<Pin<Box<Sleep>>>,
        given_up: Option<G>,
    }
}

impl<F: Future<Output = ()>, G: FnOnce()> Future for Patient<F, G> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        OWED.set(None);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match OWED.take() {
            Some(true) => *this.since = Some(Instant::now()),
            Some(false) => *this.since = None,
            // It was not asked: what waited still waits.
            None => {}
        }
        let Some(since) = *this.since else {
            return Poll::Pending;
        };
        let at = since + *this.limit;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                if let Some(given_up) = this.given_up.take() {
                    given_up();
                }
                // Letting go of the stream resets it (CANCEL).
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use super::*;

    /// How long a stream lasts whose response says these things, each so many seconds after the one before.
    async fn lasts(says: &[(u64, Option<bool>)]) -> (u64, bool) {
        let given_up = Rc::new(Cell::new(false));
        let told = Rc::clone(&given_up);
        let says: RefCell<VecDeque<_>> = RefCell::new(says.iter().copied().collect());
        let mut next: Option<Pin<Box<Sleep>>> = None;
        let stream = poll_fn(move |cx| {
            loop {
                if let Some(sleep) = &mut next {
                    ready!(sleep.as_mut().poll(cx));
                    if let Some((_, Some(more))) = says.borrow_mut().pop_front() {
                        owed(more);
                    }
                }
                let Some((after, _)) = says.borrow().front().copied() else {
                    return Poll::Ready(());
                };
                next = Some(Box::pin(tokio::time::sleep(Duration::from_secs(after))));
            }
        });
        let began = Instant::now();
        Patient {
            stream,
            limit: Duration::from_secs(10),
            since: None,
            timer: None,
            given_up: Some(move || told.set(true)),
        }
        .await;
        (began.elapsed().as_secs(), given_up.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_given_up_when_its_client_takes_nothing() {
        for (says, expected) in [
            (&[(1, Some(true)), (100, None)][..], (11, true)),
            (
                &[
                    (1, Some(true)),
                    (9, Some(true)),
                    (9, Some(true)),
                    (1, Some(false)),
                ],
                (20, false),
            ),
            (&[(1, Some(true)), (9, Some(true)), (50, None)], (20, true)),
            (&[(1, Some(true)), (1, Some(false)), (100, None)], (102, false)),
            (&[(100, Some(true))], (100, false)),
            (&[(1, Some(true)), (5, None), (5, None), (5, None)], (11, true)),
        ] {
            assert_eq!(lasts(says).await, expected, "{says:?}");
        }
    }
}
