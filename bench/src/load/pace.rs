//! When the next request is due.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    fd::OwnedFd,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::{io::unix::AsyncFd, sync::Semaphore, task::spawn_local, time::Instant};

/// Tells workers when to send. Clones share one schedule.
#[derive(Clone)]
pub(super) struct Pace(Rc<Schedule>);

struct Schedule {
    /// Whether requests are due at fixed times; otherwise at once.
    is_open: bool,
    /// Requests that are due and that no worker has taken yet.
    due: RefCell<VecDeque<Instant>>,
    /// One permit per entry of `due`, and at the end one without an entry for every worker. Waiting workers are
    /// served first come, first served, which spreads requests over connections.
    ready: Semaphore,
    ended: Cell<bool>,
}

impl Pace {
    /// At most `rate` requests per second, evenly; or, with `None`, as fast as responses come.
    pub(super) fn new(rate: Option<u32>) -> Result<Self> {
        let schedule = Rc::new(Schedule {
            is_open: rate.is_some(),
            due: RefCell::default(),
            ready: Semaphore::new(0),
            ended: Cell::new(false),
        });
        if let Some(rate) = rate {
            ensure!(rate > 0, "the rate must be at least 1 request per second");
            let period = Duration::from_secs(1) / rate;
            let timer = Timer::start(period)?;
            spawn_local(tick(timer, Rc::clone(&schedule)));
        }
        Ok(Self(schedule))
    }

    /// Waits for the next request to be due, and tells when it was; `None` when the pace has ended and nothing that
    /// was due before is left.
    pub(super) async fn next(&self) -> Option<Instant> {
        let Schedule {
            is_open,
            due,
            ready,
            ended,
        } = &*self.0;
        if !is_open {
            return (!ended.get()).then(Instant::now);
        }
        ready.acquire().await.ok()?.forget();
        due.borrow_mut().pop_front()
    }

    /// Lets no further request become due, for up to `workers` that wait for one.
    pub(super) fn end(&self, workers: usize) {
        self.0.ended.set(true);
        self.0.ready.add_permits(workers);
    }
}

/// Puts down what became due at each tick, until the pace ends.
async fn tick(mut timer: Timer, schedule: Rc<Schedule>) {
    while let Ok(due) = timer.wait().await {
        if schedule.ended.get() {
            return;
        }
        let ticks = due.len();
        schedule.due.borrow_mut().extend(due);
        schedule.ready.add_permits(ticks);
    }
}

/// A periodic timer of the kernel: tokio's own goes by whole milliseconds, too coarse for 2,000 requests/s.
struct Timer {
    descriptor: AsyncFd<OwnedFd>,
    next: Instant,
    period: Duration,
}

impl Timer {
    fn start(period: Duration) -> Result<Self> {
        let descriptor = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .context("cannot make a timer")?;
        let spec = Timespec::try_from(period).context("the period is too long for a timer")?;
        let next = Instant::now() + period;
        timerfd_settime(
            &descriptor,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: spec,
                it_value: spec,
            },
        )
        .context("cannot start a timer")?;
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on, and neither replaced nor closed before it.
        let descriptor = unsafe { AsyncFd::register(descriptor) }.context("cannot wait for a timer")?;
        Ok(Self {
            descriptor,
            next,
            period,
        })
    }

    /// Waits for at least one tick, and gives the intended times of all that have passed since the last call.
    async fn wait(&mut self) -> Result<Vec<Instant>> {
        let ticks = loop {
            let mut ready = self
                .descriptor
                .readable()
                .await
                .context("cannot wait for a timer")?;
            let mut buffer = [0; 8];
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?));
            match read {
                Ok(read) => {
                    read.context("cannot read a timer")?;
                    break u64::from_ne_bytes(buffer);
                }
                Err(_not_yet) => {}
            }
        };
        Ok((0..ticks)
            .map(|_| {
                let due = self.next;
                self.next += self.period;
                due
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::block_on;

    #[test]
    fn an_open_pace_gives_even_times_in_order_and_ends() {
        block_on(async {
            let pace = Pace::new(Some(2_000)).expect("a timer");
            let mut last = pace.next().await.expect("a first request");
            for _ in 0..50 {
                let due = pace.next().await.expect("a request");
                assert_eq!(due - last, Duration::from_micros(500));
                last = due;
            }
            pace.end(1);
            // What was due before the end is still handed out; then there is nothing more.
            while let Some(due) = pace.next().await {
                assert_eq!(due - last, Duration::from_micros(500));
                last = due;
            }
        })
        .expect("a runtime");
    }

    #[test]
    fn a_closed_pace_is_always_ready_until_it_ends() {
        block_on(async {
            let pace = Pace::new(None).expect("no timer needed");
            assert!(pace.next().await.is_some());
            pace.end(1);
            assert_eq!(pace.next().await, None);
        })
        .expect("a runtime");
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        block_on(async { assert!(Pace::new(Some(0)).is_err()) }).expect("a runtime");
    }
}
