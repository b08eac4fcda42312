//! What the workers have seen.

use std::{cell::RefCell, time::Duration};

use tokio::time::Instant;

use super::Outcome;
use crate::measure::histogram::Histogram;

/// Counts shared by the workers of one load.
pub(super) struct Tally(RefCell<Counts>);

struct Counts {
    opened: Option<Instant>,
    closed: Option<Instant>,
    completed: u64,
    failed: u64,
    failure: Option<String>,
    latency: Histogram,
    first: Histogram,
    gaps: Histogram,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self(RefCell::new(Counts {
            opened: None,
            closed: None,
            completed: 0,
            failed: 0,
            failure: None,
            latency: Histogram::new(),
            first: Histogram::new(),
            gaps: Histogram::new(),
        }))
    }

    /// From `now` on requests count.
    pub(super) fn open(&self, now: Instant) {
        self.0.borrow_mut().opened = Some(now);
    }

    /// From `now` on requests no longer count.
    pub(super) fn close(&self, now: Instant) {
        self.0.borrow_mut().closed = Some(now);
    }

    /// A request that was due at `due` was answered at `now`. Throughput counts what was *answered* within the
    /// window, because that is when the CPU was used; latency counts what was *due* within it, so that answers that
    /// come too late are not lost.
    pub(super) fn record(&self, due: Instant, now: Instant) {
        let mut counts = self.0.borrow_mut();
        let Some(opened) = counts.opened else { return };
        let within = |moment| moment >= opened && counts.closed.is_none_or(|closed| moment < closed);
        let (is_answered, is_due) = (within(now), within(due));
        if is_answered {
            counts.completed += 1;
        }
        if is_due {
            counts.latency.record(now.saturating_duration_since(due));
        }
    }

    /// A chunk of a stream arrived `now`, that long after it was sent and after the chunk before it; the first one of
    /// a stream has none before it, and was asked for at `asked`.
    pub(super) fn chunk(&self, now: Instant, delay: Duration, gap: Option<Duration>, asked: Instant) {
        let mut counts = self.0.borrow_mut();
        let Some(opened) = counts.opened else { return };
        if now < opened || counts.closed.is_some_and(|closed| now >= closed) {
            return;
        }
        counts.completed += 1;
        counts.latency.record(delay);
        match gap {
            Some(gap) => counts.gaps.record(gap),
            None => counts.first.record(now.saturating_duration_since(asked)),
        }
    }

    /// A request failed.
    pub(super) fn fail(&self, failure: String) {
        let mut counts = self.0.borrow_mut();
        counts.failed += 1;
        counts.failure.get_or_insert(failure);
    }

    pub(super) fn outcome(&self) -> Outcome {
        let counts = self.0.borrow();
        let window = match (counts.opened, counts.closed) {
            (Some(opened), Some(closed)) => closed.saturating_duration_since(opened),
            _ => Duration::ZERO,
        };
        let of = |histogram: &Histogram, q| histogram.quantile(q).unwrap_or_default().as_secs_f64() * 1e6;
        Outcome {
            completed: counts.completed,
            failed: counts.failed,
            failure: counts.failure.clone(),
            seconds: window.as_secs_f64(),
            due: counts.latency.count(),
            p50_us: of(&counts.latency, 0.5),
            p99_us: of(&counts.latency, 0.99),
            max_us: counts.latency.max().as_secs_f64() * 1e6,
            first_p50_us: of(&counts.first, 0.5),
            first_p99_us: of(&counts.first, 0.99),
            gap_p99_us: of(&counts.gaps, 0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let tally = Tally::new();
        tally.record(at(0), at(5)); // warm-up
        tally.open(at(100));
        tally.record(at(99), at(104)); // due before, answered within: counts as work, not as latency
        tally.record(at(110), at(120));
        tally.record(at(150), at(170));
        tally.close(at(200));
        tally.record(at(190), at(240)); // due within, answered after: counts as latency, not as work
        tally.record(at(205), at(210));
        let outcome = tally.outcome();
        assert_eq!((outcome.completed, outcome.due, outcome.seconds), (3, 3, 0.1));
        assert_eq!(outcome.max_us, 50_000.0);
        assert!((outcome.p50_us - 20_000.0).abs() < 200.0, "{}", outcome.p50_us);
    }

    #[test]
    fn the_first_failure_is_told() {
        let tally = Tally::new();
        tally.fail("first".to_owned());
        tally.fail("second".to_owned());
        let outcome = tally.outcome();
        assert_eq!((outcome.failed, outcome.failure.as_deref()), (2, Some("first")));
    }
}
