//! The end of a proxy: no new connections, no new requests on old ones, and time for what is in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};

/// Whether the proxy is about to end, and how many connections are still open. Cheap to clone, one for all.
#[derive(Clone)]
pub struct Drain(Arc<Inner>);

struct Inner {
    started: watch::Sender<bool>,
    /// What `started` says, for requests to read.
    begun: AtomicBool,
    open: AtomicUsize,
    closed: Notify,
}

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(Inner {
            started: watch::Sender::new(false),
            begun: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            closed: Notify::new(),
        }))
    }
}

/// An open connection, until it is dropped.
pub struct Open(Drain);

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.closed.notify_waiters();
        }
    }
}

impl Drain {
    /// Begins the end. Saying it twice changes nothing.
    pub fn start(&self) {
        self.0.begun.store(true, Ordering::Release);
        self.0.started.send_replace(true);
    }

    /// Whether the end has begun.
    pub fn is_started(&self) -> bool {
        self.0.begun.load(Ordering::Acquire)
    }

    /// Waits until the end begins.
    pub async fn started(&self) {
        let mut started = self.0.started.subscribe();
        // The sender lives as long as this.
        let _ = started.wait_for(|started| *started).await;
    }

    /// Counts a connection as open.
    pub fn open(&self) -> Open {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        Open(self.clone())
    }

    /// How many connections are open.
    pub fn open_count(&self) -> usize {
        self.0.open.load(Ordering::Acquire)
    }

    /// Waits until no connection is open.
    pub async fn done(&self) {
        loop {
            let closed = self.0.closed.notified();
            let mut closed = std::pin::pin!(closed);
            // Registered before looking, so that a close in between is not missed.
            closed.as_mut().enable();
            if self.open_count() == 0 {
                return;
            }
            closed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_the_last_connection() {
        let drain = Drain::default();
        drain.done().await;
        let (one, two) = (drain.open(), drain.open());
        drain.start();
        drain.started().await;
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.done().await }
        });
        drop(one);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(two);
        waiting.await.unwrap();
    }
}
