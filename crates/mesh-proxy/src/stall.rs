//! How long the client of an HTTP/2 stream may take nothing of its response.
//!
//! HTTP/2's implementation takes no more of a response while the stream's window is closed, so that neither the response
//! nor the connection notices that nothing moves: the client may be reading its other streams. So the task of each stream
//! looks, when it has to wait, whether it waits for the server or for the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Sees that the client of a stream takes nothing of it for too long.
pub struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// A part of the response may wait for so long.
    pub fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Ready when a part has waited for too long. `since`: since when one waits for the client; none: none does.
    pub fn poll_over(&mut self, since: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = since else {
            return Poll::Pending;
        };
        let at = since + self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// In which second a stream stalls for 10 s whose parts wait from and to these seconds, if it does.
    async fn over(waits: &[(u64, u64)]) -> Option<u64> {
        let began = Instant::now();
        let second = |second| began + Duration::from_secs(second);
        let mut stall = Stall::new(Duration::from_secs(10));
        for (from, to) in waits {
            tokio::time::sleep_until(second(*from)).await;
            let waiting = poll_fn(|cx| stall.poll_over(Some(second(*from)), cx));
            if tokio::time::timeout_at(second(*to), waiting).await.is_ok() {
                return Some(began.elapsed().as_secs());
            }
            let idle = poll_fn(|cx| stall.poll_over(None, cx));
            assert!(tokio::time::timeout_at(second(*to), idle).await.is_err());
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        for (waits, expected) in [
            (&[(1, 100)][..], Some(11)),
            (&[(1, 10), (10, 19), (19, 20)], None),
            (&[(1, 10), (10, 60)], Some(20)),
            (&[(1, 2), (102, 103)], None),
            (&[(1, 2), (100, 200)], Some(110)),
            (&[], None),
        ] {
            assert_eq!(over(waits).await, expected, "{waits:?}");
        }
    }
}
