//! Which endpoint of a set takes a request.
//!
//! The default is the better of two random endpoints (M. Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing", 2001) by peak-sensitive moving average of latency times requests in flight (Finagle's Peak EWMA). A
//! request is in flight until the last byte of its response, so a long generation weighs for as long as it runs.
//!
//! Decisions are pure: time and randomness are passed in.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use mesh_api::document::BalancerKind;

use crate::table::Endpoint;

/// How fast the average forgets: after this time, a latency weighs 1/e.
const DECAY: Duration = Duration::from_secs(10);
/// How long an endpoint that could not be reached is passed over, at first; doubled with each failure in a row.
const FIRST_REST: Duration = Duration::from_millis(500);
/// How often the rest is doubled: to 16 s at most.
const MAX_DOUBLINGS: u32 = 5;
/// How many endpoints are looked at for one that does not rest. Of a set in which nearly all do, one that rests may be
/// tried though another does not: choosing must not cost more with the size of the set.
const LOOK: usize = 256;

/// One in so many parts of the average of requests in flight is the last request's.
const CROWD_WEIGHT: i64 = 32;
/// More requests in flight than these are averaged as these.
const MAX_CROWD: u32 = 1 << 16;

/// A moment, in microseconds since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// What is known of an endpoint's load, shared by all workers without a lock. Races lose an observation at worst.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU32,
    /// How many were in flight when the last ones began, on average, in 256ths.
    crowd: AtomicU32,
    /// The average latency, in microseconds.
    latency_us: AtomicU64,
    /// When it was last observed, in microseconds.
    observed_us: AtomicU64,
    /// Until when the endpoint is passed over, in microseconds.
    resting_until_us: AtomicU64,
    failures: AtomicU32,
}

impl Load {
    /// A request begins.
    pub fn begin(&self) {
        let with_it = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let (average, now) = (self.crowd.load(Ordering::Relaxed), with_it.min(MAX_CROWD) << 8);
        let next = (i64::from(average) * (CROWD_WEIGHT - 1) + i64::from(now)) / CROWD_WEIGHT;
        self.crowd.store(next as u32, Ordering::Relaxed);
    }

    /// A request ends: the last byte has passed, or nobody waits for it any more.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many requests are in flight, from all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many requests were in flight when the last few dozen began, on average, from all workers. What is in flight at
    /// the moment says less: answers, and the requests that follow them, come in bursts.
    pub fn crowd(&self) -> u32 {
        self.crowd.load(Ordering::Relaxed) >> 8
    }

    /// A response head came after so long: the endpoint is there. A rise counts at once, a fall is averaged in.
    pub fn answered(&self, now: Moment, latency: Duration) {
        let latency = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        let average = self.latency_us.load(Ordering::Relaxed);
        let since = now
            .0
            .saturating_sub(self.observed_us.swap(now.0, Ordering::Relaxed));
        let next = if latency >= average {
            latency
        } else {
            let keep = (-(since as f64) / DECAY.as_micros() as f64).exp();
            (average as f64 * keep + latency as f64 * (1.0 - keep)) as u64
        };
        self.latency_us.store(next.max(1), Ordering::Relaxed);
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.resting_until_us.store(0, Ordering::Relaxed);
        }
    }

    /// The endpoint could not be reached, or died: it is passed over for a while.
    pub fn failed(&self, now: Moment) {
        let doublings = self.failures.fetch_add(1, Ordering::Relaxed).min(MAX_DOUBLINGS);
        let rest = FIRST_REST.as_micros() as u64 * (1 << doublings);
        self.resting_until_us.store(now.0 + rest, Ordering::Relaxed);
    }

    fn resting(&self, now: Moment) -> bool {
        self.resting_until_us.load(Ordering::Relaxed) > now.0
    }

    /// The average latency as it weighs now, in microseconds; none before the first answer.
    fn latency(&self, now: Moment) -> Option<f64> {
        let average = Some(self.latency_us.load(Ordering::Relaxed)).filter(|average| *average > 0)?;
        let since = now.0.saturating_sub(self.observed_us.load(Ordering::Relaxed));
        let weight = (-(since as f64) / DECAY.as_micros() as f64).exp();
        Some((average as f64 * weight).max(1.0))
    }
}

/// Whether one more request would wait less at `b` than at `a`. One that has not answered yet is thought as fast as the
/// other, so that it is tried at once, and not by everybody at once.
fn waits_less(a: &Load, b: &Load, now: Moment) -> bool {
    let (of_a, of_b) = (a.latency(now), b.latency(now));
    let cost =
        |load: &Load, latency: Option<f64>| latency.unwrap_or(1.0) * (f64::from(load.in_flight()) + 1.0);
    cost(b, of_b.or(of_a)) < cost(a, of_a.or(of_b))
}

/// Chooses an endpoint. Those in `tried` and those that rest are passed over while there are others.
///
/// `random` gives numbers uniform over `u64`; `turn` counts up for round robin.
pub fn pick<'a, E: AsRef<Endpoint>>(
    endpoints: &'a [E],
    kind: BalancerKind,
    tried: &[crate::table::EndpointId],
    now: Moment,
    turn: u64,
    mut random: impl FnMut() -> u64,
) -> Option<&'a E> {
    let fresh = |endpoint: &E| !tried.contains(&endpoint.as_ref().id);
    let awake = |endpoint: &E| fresh(endpoint) && !endpoint.as_ref().load.resting(now);
    match endpoints {
        [] => None,
        [only] => fresh(only).then_some(only),
        _ => {
            let start = match kind {
                BalancerKind::RoundRobin => (turn % endpoints.len() as u64) as usize,
                BalancerKind::Random | BalancerKind::PeakEwma | BalancerKind::LeastRequest => {
                    below(random(), endpoints.len())
                }
            };
            let first = next_from(endpoints, start, awake).or_else(|| next_from(endpoints, start, fresh))?;
            let better: fn(&Load, &Load, Moment) -> bool = match kind {
                BalancerKind::RoundRobin | BalancerKind::Random => return Some(&endpoints[first]),
                BalancerKind::PeakEwma => waits_less,
                BalancerKind::LeastRequest => |a, b, _| b.in_flight() < a.in_flight(),
            };
            // A second one, different from the first: any of the others with the same chance.
            let offset = 1 + below(random(), endpoints.len() - 1);
            let second = next_from(endpoints, (first + offset) % endpoints.len(), awake).unwrap_or(first);
            let [a, b] = [first, second].map(|at| &endpoints[at].as_ref().load);
            Some(&endpoints[if better(a, b, now) { second } else { first }])
        }
    }
}

/// The first endpoint at or after `start`, going round once, of which `good` holds; of the first [`LOOK`] endpoints.
fn next_from<E>(endpoints: &[E], start: usize, good: impl Fn(&E) -> bool) -> Option<usize> {
    (0..endpoints.len().min(LOOK))
        .map(|step| (start + step) % endpoints.len())
        .find(|at| good(&endpoints[*at]))
}

/// A uniform number below `bound`: Lemire, "Fast random integer generation in an interval", 2019.
fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        (1..=count)
            .map(|port| Endpoint::new(([127, 0, 0, 1], port).into(), None))
            .collect()
    }

    /// A small generator (SplitMix64), so that runs repeat.
    fn seeded(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    const NOW: Moment = Moment(1_000_000);

    #[test]
    fn a_crowd_is_what_is_in_flight_again_and_again() {
        let load = Load::default();
        let burst = |size: u32, times: usize| {
            for _ in 0..times {
                (0..size).for_each(|_| load.begin());
                (0..size).for_each(|_| load.end());
            }
            load.crowd()
        };
        assert!(burst(1, 1000) <= 1, "alone");
        assert!(burst(8, 1) <= 2, "a burst that comes once is none");
        assert!((12..=20).contains(&burst(32, 100)), "on average half of a burst");
        assert!(burst(1, 200) <= 1, "it has gone");
        assert!(burst(1 << 17, 1) <= MAX_CROWD);
    }

    #[test]
    fn nothing_to_choose_from_is_no_panic() {
        let none: [Arc<Endpoint>; 0] = [];
        assert!(pick(&none, BalancerKind::PeakEwma, &[], NOW, 0, seeded(1)).is_none());
        let one = endpoints(1);
        assert!(pick(&one, BalancerKind::PeakEwma, &[one[0].id], NOW, 0, seeded(1)).is_none());
    }

    #[test]
    fn a_slow_stream_weighs_until_it_ends() {
        let both = endpoints(2);
        for endpoint in &both {
            endpoint.load.answered(NOW, Duration::from_millis(5));
        }
        for _ in 0..10 {
            both[0].load.begin();
        }
        let mut random = seeded(7);
        for _ in 0..100 {
            let chosen = pick(&both, BalancerKind::PeakEwma, &[], NOW, 0, &mut random).unwrap();
            assert_eq!(chosen.id, both[1].id);
        }
        for _ in 0..10 {
            both[0].load.end();
        }
        let hits = (0..1000)
            .filter(|_| {
                pick(&both, BalancerKind::PeakEwma, &[], NOW, 0, &mut random)
                    .unwrap()
                    .id
                    == both[0].id
            })
            .count();
        assert!((400..600).contains(&hits), "{hits}");
    }

    #[test]
    fn a_slow_endpoint_gets_less_and_is_forgiven() {
        let both = endpoints(2);
        both[0].load.answered(NOW, Duration::from_secs(2));
        both[1].load.answered(NOW, Duration::from_millis(2));
        let chosen = pick(&both, BalancerKind::PeakEwma, &[], NOW, 0, seeded(3)).unwrap();
        assert_eq!(chosen.id, both[1].id);
        let later = Moment(NOW.0 + 200_000_000);
        assert!(both[0].load.latency(later).unwrap() <= 1.0);
    }

    #[test]
    fn one_that_has_not_answered_is_tried_at_once_but_not_by_everybody() {
        let both = endpoints(2);
        both[0].load.answered(NOW, Duration::from_micros(100));
        both[0].load.begin();
        let chosen = pick(&both, BalancerKind::PeakEwma, &[], NOW, 0, seeded(3)).unwrap();
        assert_eq!(chosen.id, both[1].id);
        both[1].load.begin();
        both[1].load.begin();
        let chosen = pick(&both, BalancerKind::PeakEwma, &[], NOW, 0, seeded(3)).unwrap();
        assert_eq!(chosen.id, both[0].id);
    }

    #[test]
    fn the_unreachable_rest_and_the_tried_are_not_tried_again() {
        let three = endpoints(3);
        three[0].load.failed(NOW);
        let mut random = seeded(9);
        for _ in 0..200 {
            let chosen = pick(
                &three,
                BalancerKind::PeakEwma,
                &[three[1].id],
                NOW,
                0,
                &mut random,
            )
            .unwrap();
            assert_eq!(chosen.id, three[2].id);
        }
        // With nobody else left, one that rests is better than nobody.
        let tried = [three[1].id, three[2].id];
        assert_eq!(
            pick(&three, BalancerKind::PeakEwma, &tried, NOW, 0, &mut random)
                .unwrap()
                .id,
            three[0].id
        );
        let after = Moment(NOW.0 + 600_000);
        assert!(!three[0].load.resting(after));
    }

    #[test]
    fn of_ten_thousand_that_all_rest_few_are_looked_at_and_one_is_tried() {
        let many = endpoints(10_000);
        for endpoint in &many {
            endpoint.load.failed(NOW);
        }
        let looked = std::cell::Cell::new(0);
        let found = next_from(&many, 9_900, |endpoint| {
            looked.set(looked.get() + 1);
            !endpoint.load.resting(NOW)
        });
        assert_eq!((found, looked.get()), (None, LOOK));
        assert!(pick(&many, BalancerKind::PeakEwma, &[], NOW, 0, seeded(1)).is_some());
    }

    #[test]
    fn rests_grow_and_end_with_an_answer() {
        let load = Load::default();
        for _ in 0..20 {
            load.failed(NOW);
        }
        assert!(load.resting(Moment(NOW.0 + 15_000_000)));
        assert!(!load.resting(Moment(NOW.0 + 16_000_001)));
        load.answered(NOW, Duration::from_millis(1));
        assert!(!load.resting(NOW));
    }

    #[test]
    fn round_robin_takes_turns() {
        let three = endpoints(3);
        let order: Vec<_> = (0..6)
            .map(|turn| {
                pick(&three, BalancerKind::RoundRobin, &[], NOW, turn, seeded(1))
                    .unwrap()
                    .address
                    .port()
            })
            .collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn random_is_even() {
        let four = endpoints(4);
        let mut random = seeded(5);
        let mut hits = [0; 4];
        for _ in 0..40_000 {
            let chosen = pick(&four, BalancerKind::Random, &[], NOW, 0, &mut random).unwrap();
            hits[usize::from(chosen.address.port()) - 1] += 1;
        }
        assert!(hits.iter().all(|hits| (9_600..10_400).contains(hits)), "{hits:?}");
    }
}
