//! Which replica writes for all: the holder of Lease `mesh-control`.
//!
//! The rules are those of client-go's leader election: a holder renews every few seconds and lets go of the role by
//! itself, before anybody else may take it, when it can't. Others go by how long *they* have not seen the Lease change,
//! so that clocks need not agree.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiError, PATIENCE, within};
use crate::metrics::Metrics;

/// The Lease's name.
const NAME: &str = "mesh-control";
/// How long a Lease that is not renewed keeps others out.
const DURATION: Duration = Duration::from_secs(15);
/// How long the holder takes itself for it without having renewed.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the Lease is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// What one replica has seen of the Lease, and what follows.
#[derive(Debug)]
struct Election {
    me: String,
    /// The record that was seen last, and since when it is so.
    seen: Option<(LeaseSpec, Duration)>,
    /// When this replica renewed last; none: it is not the holder.
    renewed: Option<Duration>,
}

/// What to do about a Lease.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// Write this, in place of what was read.
    Write(LeaseSpec),
    /// Somebody else holds it.
    Wait,
}

impl Election {
    fn new(me: String) -> Self {
        Self {
            me,
            seen: None,
            renewed: None,
        }
    }

    /// What follows from the Lease as it was read `now`. `clock` is for the people who look at it.
    fn step(&mut self, lease: Option<&LeaseSpec>, now: Duration, clock: Timestamp) -> Step {
        let spec = lease.cloned().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let mine = holder == self.me;
        if !mine {
            self.renewed = None;
        }
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        let over = now.saturating_sub(since) > Duration::from_secs(seconds);
        if !mine && !holder.is_empty() && !over {
            return Step::Wait;
        }
        let stamp = Some(MicroTime(clock));
        let transitions = spec.lease_transitions.unwrap_or_default();
        Step::Write(LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if mine { spec.acquire_time } else { stamp.clone() },
            renew_time: stamp,
            lease_transitions: Some(if mine {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        })
    }

    /// What was decided has been written: the decision was taken `at`.
    fn written(&mut self, at: Duration) {
        self.renewed = Some(at);
    }

    fn holds(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|at| now.saturating_sub(at) < DEADLINE)
    }
}

/// Whether this replica is the one that writes.
pub type Held = watch::Receiver<bool>;

/// A replica that stands for election.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
    held: watch::Sender<bool>,
    epoch: Instant,
}

impl Candidate {
    /// The replica of this name.
    pub fn new(client: Client, namespace: &str, name: String) -> (Self, Held) {
        let (held, follow) = watch::channel(false);
        let candidate = Self {
            api: Api::namespaced(client, namespace),
            election: Election::new(name),
            held,
            epoch: Instant::now(),
        };
        (candidate, follow)
    }

    /// Stands until it is told to stop; lets go of the Lease then.
    pub async fn run(mut self, metrics: &Metrics, stop: CancellationToken) {
        loop {
            if let Err(error) = self.turn().await {
                tracing::warn!("lease: {error}");
            }
            self.tell(metrics);
            let pause = tokio::time::sleep(PERIOD);
            tokio::select! {
                () = stop.cancelled() => break,
                () = pause => {}
            }
        }
        self.held.send_replace(false);
        metrics.lease(false);
        if self.election.holds(self.epoch.elapsed())
            && let Err(error) = self.release().await
        {
            tracing::warn!("lease: not released, others wait {DURATION:?}: {error}");
        }
    }

    /// Reads the Lease and does what follows, both in time or not at all.
    async fn turn(&mut self) -> Result<(), ApiError> {
        let read = within(self.left(), self.api.get_opt(NAME)).await?;
        let at = self.epoch.elapsed();
        let spec = read.as_ref().and_then(|lease| lease.spec.as_ref());
        let Step::Write(spec) = self.election.step(spec, at, Timestamp::now()) else {
            return Ok(());
        };
        let metadata = match &read {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta {
                name: Some(NAME.into()),
                ..ObjectMeta::default()
            },
        };
        let lease = Lease {
            metadata,
            spec: Some(spec),
        };
        let (api, post) = (&self.api, PostParams::default());
        // The resource version that was read goes along: who was first has it.
        let written = match read {
            Some(_) => within(self.left(), api.replace(NAME, &post, &lease)).await,
            None => within(self.left(), api.create(&post, &lease)).await,
        };
        written?;
        self.election.written(at);
        Ok(())
    }

    /// A holder does not wait for an answer beyond the moment at which it has to let go.
    fn left(&self) -> Duration {
        let now = self.epoch.elapsed();
        match self.election.renewed {
            Some(at) if self.election.holds(now) => (at + DEADLINE).saturating_sub(now).min(PATIENCE),
            _ => PATIENCE,
        }
    }

    fn tell(&self, metrics: &Metrics) {
        let holds = self.election.holds(self.epoch.elapsed());
        metrics.lease(holds);
        let changed = self
            .held
            .send_if_modified(|held| std::mem::replace(held, holds) != holds);
        if changed && holds {
            tracing::info!("lease: this replica writes for all from now on");
        } else if changed {
            tracing::warn!("lease: lost, another replica writes");
        }
    }

    async fn release(&self) -> Result<(), ApiError> {
        let mut lease = within(PATIENCE, self.api.get(NAME)).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.election.me) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        within(PATIENCE, self.api.replace(NAME, &PostParams::default(), &lease)).await?;
        tracing::info!("lease: released");
        Ok(())
    }
}

/// Runs work while the Lease is held: begun anew each time it is got, dropped where it stands when it is lost.
pub async fn while_held<W: Future<Output = ()>>(mut held: Held, mut work: impl FnMut() -> W) {
    loop {
        if held.wait_for(|held| *held).await.is_err() {
            return;
        }
        tokio::select! {
            () = work() => {}
            lost = held.wait_for(|held| !held) => {
                if lost.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn clock(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn written(step: &Step) -> LeaseSpec {
        match step {
            Step::Write(spec) => spec.clone(),
            Step::Wait => panic!("it should write"),
        }
    }

    #[test]
    fn one_holds_and_the_other_takes_over_when_it_is_silent() {
        let (mut a, mut b) = (Election::new("a".into()), Election::new("b".into()));
        let first = written(&a.step(None, at(0), clock(0)));
        a.written(at(0));
        assert_eq!(first.holder_identity.as_deref(), Some("a"));
        assert!(a.holds(at(9)) && !a.holds(at(10)), "it lets go by itself");

        // b's clock is a year off: only what b sees counts.
        let year = 31_536_000;
        assert_eq!(b.step(Some(&first), at(100), clock(year)), Step::Wait);
        let renewed = written(&a.step(Some(&first), at(8), clock(8)));
        a.written(at(8));
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_eq!(renewed.lease_transitions, first.lease_transitions);
        assert_eq!(b.step(Some(&renewed), at(108), clock(year)), Step::Wait);
        assert_eq!(b.step(Some(&renewed), at(123), clock(year)), Step::Wait);
        let taken = written(&b.step(Some(&renewed), at(124), clock(year)));
        b.written(at(124));
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
        assert_eq!(
            taken.lease_transitions,
            Some(first.lease_transitions.unwrap() + 1)
        );

        assert_eq!(a.step(Some(&taken), at(24), clock(24)), Step::Wait);
        assert!(!a.holds(at(8)), "who sees another holder is none");
    }

    #[test]
    fn a_lease_that_was_released_is_free_at_once() {
        let mut b = Election::new("b".into());
        let released = LeaseSpec {
            lease_duration_seconds: Some(1),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        };
        let taken = written(&b.step(Some(&released), at(0), clock(0)));
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
        assert_eq!(taken.lease_transitions, Some(5));
    }

    #[test]
    fn a_restarted_holder_of_the_same_name_goes_on() {
        let mut old = Election::new("a".into());
        let lease = written(&old.step(None, at(0), clock(0)));
        let mut new = Election::new("a".into());
        assert!(!new.holds(at(0)));
        written(&new.step(Some(&lease), at(0), clock(1)));
        new.written(at(0));
        assert!(new.holds(at(1)));
    }

    #[tokio::test]
    async fn work_runs_while_the_lease_is_held_and_no_longer() {
        struct Running(std::sync::Arc<std::sync::atomic::AtomicI32>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let (held, follow) = watch::channel(false);
        let running = std::sync::Arc::new(std::sync::atomic::AtomicI32::new(0));
        let count = || running.load(std::sync::atomic::Ordering::SeqCst);
        let counted = running.clone();
        let task = tokio::spawn(while_held(follow, move || {
            let running = counted.clone();
            async move {
                running.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _running = Running(running);
                std::future::pending::<()>().await;
            }
        }));
        for (now, wanted) in [(true, 1), (false, 0), (true, 1)] {
            held.send_replace(now);
            while count() != wanted {
                tokio::task::yield_now().await;
            }
        }
        drop(held);
        task.await.unwrap();
        assert_eq!(count(), 0);
    }
}
