//! The series of requests: one set of counters for each path requests take, found without allocating.
//!
//! Each worker counts in series of its own, so that cores never write to the same line of memory; whoever reads adds
//! them up. How many there can be is bounded: what goes beyond is counted under the label value `other`.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use hashbrown::HashMap;
use mesh_api::identity::Identity;
use mesh_api::inference::Operation;

use super::Direction;
use super::code::Code;
use super::names::OTHER;
use super::registry::{Counts, Histogram, add_alone};
use super::series_key::{SeriesKey, SeriesKeyRef};

/// The most (model, version) pairs told apart for each service and direction.
pub const MAX_MODELS: usize = 1_000;
/// The most callers told apart for each service and direction.
pub const MAX_PEERS: usize = 1_000;
/// The most series of a proxy, for each worker.
pub const MAX_SERIES: usize = 10_000;
/// The most entries of a worker's cache.
const MAX_CACHED: usize = 4_096;
/// How many different (code, reason) pairs a series tells apart.
const OUTCOMES: usize = 24;

/// A series' labels, bounded: what is exposed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// Which listener.
    pub direction: Direction,
    /// The service called.
    pub service: Box<str>,
    /// The rule that matched.
    pub rule: Box<str>,
    /// The backend given.
    pub backend: Box<str>,
    /// The model asked for, or `other`.
    pub model: Box<str>,
    /// The version asked for, or `other`.
    pub version: Box<str>,
    /// What is asked of the model; empty: nothing known.
    pub operation: &'static str,
    /// Who calls, inbound, or `other`; empty: unknown.
    pub peer: Box<str>,
}

impl Labels {
    fn other(direction: Direction) -> Self {
        Self {
            direction,
            service: OTHER.into(),
            rule: OTHER.into(),
            backend: OTHER.into(),
            model: OTHER.into(),
            version: OTHER.into(),
            operation: OTHER,
            peer: OTHER.into(),
        }
    }
}

/// How a request ended, counted.
#[derive(Debug)]
struct Outcome {
    code: Code,
    reason: &'static str,
    requests: AtomicU64,
}

/// One worker's counts of one path. Only its worker writes.
#[derive(Debug)]
pub struct Series {
    in_flight: AtomicI64,
    failures: AtomicU64,
    retries: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    latency: Histogram,
    first_byte: Histogram,
    outcomes: [OnceLock<Outcome>; OUTCOMES],
    beyond: AtomicU64,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            in_flight: AtomicI64::default(),
            failures: AtomicU64::default(),
            retries: AtomicU64::default(),
            request_bytes: AtomicU64::default(),
            response_bytes: AtomicU64::default(),
            latency: Histogram::default(),
            first_byte: Histogram::default(),
            outcomes: [const { OnceLock::new() }; OUTCOMES],
            beyond: AtomicU64::default(),
        }
    }
}

/// What a finished request adds to its series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub code: Code,
    pub reason: &'static str,
    pub failed: bool,
    pub retries: u32,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub latency: std::time::Duration,
    pub first_byte: Option<std::time::Duration>,
}

impl Series {
    pub(super) fn enter(&self) {
        self.in_flight
            .store(self.in_flight.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.in_flight
            .store(self.in_flight.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    pub(super) fn finish(&self, finished: &Finished) {
        self.count_outcome(finished.code, finished.reason);
        self.latency.add_alone(finished.latency);
        if let Some(first_byte) = finished.first_byte {
            self.first_byte.add_alone(first_byte);
        }
        for (cell, more) in [
            (&self.request_bytes, finished.request_bytes),
            (&self.response_bytes, finished.response_bytes),
            (&self.retries, u64::from(finished.retries)),
            (&self.failures, u64::from(finished.failed)),
        ] {
            if more > 0 {
                add_alone(cell, more);
            }
        }
    }

    fn count_outcome(&self, code: Code, reason: &'static str) {
        for slot in &self.outcomes {
            let outcome = slot.get_or_init(|| Outcome {
                code,
                reason,
                requests: AtomicU64::new(0),
            });
            if outcome.code == code && outcome.reason == reason {
                return add_alone(&outcome.requests, 1);
            }
        }
        add_alone(&self.beyond, 1);
    }
}

/// What all workers counted on one path.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Ended requests by code and reason, in order of the two.
    pub outcomes: Vec<(Code, &'static str, u64)>,
    /// Failed requests.
    pub failures: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Open requests.
    pub in_flight: i64,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
    /// Durations to the last byte.
    pub latency: Counts,
    /// Durations to the first byte.
    pub first_byte: Counts,
}

impl Totals {
    /// Ended requests.
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().map(|(_, _, count)| count).sum()
    }

    fn add(&mut self, series: &Series) {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for outcome in series.outcomes.iter().map_while(OnceLock::get) {
            self.add_outcome(outcome.code, outcome.reason, read(&outcome.requests));
        }
        self.add_outcome(Code::None, OTHER, read(&series.beyond));
        self.failures += read(&series.failures);
        self.retries += read(&series.retries);
        self.in_flight += series.in_flight.load(Ordering::Relaxed);
        self.request_bytes += read(&series.request_bytes);
        self.response_bytes += read(&series.response_bytes);
        self.latency.add(&series.latency.read());
        self.first_byte.add(&series.first_byte.read());
    }

    fn add_outcome(&mut self, code: Code, reason: &'static str, requests: u64) {
        match self
            .outcomes
            .iter_mut()
            .find(|(c, r, _)| (*c, *r) == (code, reason))
        {
            Some((_, _, count)) => *count += requests,
            None if requests > 0 => self.outcomes.push((code, reason, requests)),
            None => {}
        }
    }
}

type ServiceKey = (Direction, Box<str>);
type ModelKey = (Box<str>, Box<str>);

/// The series of all workers.
#[derive(Debug, Default)]
pub struct SeriesTable {
    shards: DashMap<Labels, Vec<(usize, Arc<Series>)>>,
    models: DashMap<ServiceKey, HashSet<ModelKey>>,
    peers: DashMap<ServiceKey, HashSet<Identity>>,
}

impl SeriesTable {
    /// What was counted until now, in the order of the labels.
    pub fn read(&self) -> Vec<(Labels, Totals)> {
        let mut all: Vec<_> = self
            .shards
            .iter()
            .map(|entry| {
                let mut totals = Totals::default();
                entry.value().iter().for_each(|(_, series)| totals.add(series));
                totals
                    .outcomes
                    .sort_unstable_by_key(|(code, reason, _)| (*code, *reason));
                (entry.key().clone(), totals)
            })
            .collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// The series of a path for one worker, made when there is none.
    fn series(&self, worker: usize, key: &SeriesKeyRef<'_>) -> Arc<Series> {
        let labels = self.bounded(key);
        let labels = if self.shards.len() < MAX_SERIES || self.shards.contains_key(&labels) {
            labels
        } else {
            Labels::other(key.direction)
        };
        let mut shards = self.shards.entry(labels).or_default();
        if let Some((_, series)) = shards.iter().find(|(owner, _)| *owner == worker) {
            return Arc::clone(series);
        }
        let series = Arc::new(Series::default());
        shards.push((worker, Arc::clone(&series)));
        series
    }

    fn bounded(&self, key: &SeriesKeyRef<'_>) -> Labels {
        let (mut model, mut version) = (key.model, key.version);
        if !(model.is_empty() && version.is_empty()) {
            let mut known = self
                .models
                .entry((key.direction, key.service.into()))
                .or_default();
            if !admit(&mut known, (model.into(), version.into()), MAX_MODELS) {
                (model, version) = (OTHER, OTHER);
            }
        }
        let peer = key.peer.map(|peer| {
            let mut known = self.peers.entry((key.direction, key.service.into())).or_default();
            if admit(&mut known, peer.clone(), MAX_PEERS) {
                peer.to_string()
            } else {
                OTHER.to_owned()
            }
        });
        Labels {
            direction: key.direction,
            service: key.service.into(),
            rule: key.rule.into(),
            backend: key.backend.into(),
            model: model.into(),
            version: version.into(),
            operation: key.operation.map_or("", Operation::as_str),
            peer: peer.unwrap_or_default().into(),
        }
    }
}

/// Whether `value` is among the first `most` seen.
fn admit<T: Eq + Hash>(known: &mut HashSet<T>, value: T, most: usize) -> bool {
    known.contains(&value) || (known.len() < most && known.insert(value))
}

/// A worker's way to its series: found by a borrowed key, without allocating, as long as it was found before.
#[derive(Debug)]
pub struct SeriesCache {
    table: Arc<SeriesTable>,
    worker: usize,
    cached: RefCell<HashMap<SeriesKey, Arc<Series>>>,
}

impl SeriesCache {
    /// Of one worker; no two may have the same number.
    pub(super) fn new(table: Arc<SeriesTable>, worker: usize) -> Self {
        Self {
            table,
            worker,
            cached: RefCell::default(),
        }
    }

    /// The worker's series of a path.
    pub fn get(&self, key: &SeriesKeyRef<'_>) -> Arc<Series> {
        let mut cached = self.cached.borrow_mut();
        if let Some(series) = cached.get(key) {
            return Arc::clone(series);
        }
        let series = self.table.series(self.worker, key);
        if cached.len() >= MAX_CACHED {
            // Somebody asks for ever new models: start again rather than remember them all.
            cached.clear();
        }
        cached.insert(key.into(), Arc::clone(&series));
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'a>(model: &'a str, version: &'a str) -> SeriesKeyRef<'a> {
        SeriesKeyRef {
            service: "ml/fraud",
            model,
            version,
            operation: Some(Operation::Infer),
            ..SeriesKeyRef::unrouted(Direction::Outbound)
        }
    }

    #[test]
    fn a_path_is_found_again_and_paths_are_told_apart() {
        let cache = SeriesCache::new(Arc::default(), 0);
        let first = cache.get(&key("a", "1"));
        assert!(Arc::ptr_eq(&first, &cache.get(&key("a", "1"))));
        assert!(!Arc::ptr_eq(&first, &cache.get(&key("a", "2"))));
        assert!(!Arc::ptr_eq(&first, &cache.get(&key("a1", ""))));
        let caller: Identity = "spiffe://mesh.local/ns/ml/sa/web".parse().unwrap();
        let of_caller = SeriesKeyRef {
            peer: Some(&caller),
            ..key("a", "1")
        };
        assert!(!Arc::ptr_eq(&first, &cache.get(&of_caller)));
    }

    #[test]
    fn workers_count_apart_and_are_read_together() {
        let table: Arc<SeriesTable> = Arc::default();
        let finished = Finished {
            code: Code::Http(200),
            reason: "",
            failed: false,
            retries: 1,
            request_bytes: 10,
            response_bytes: 20,
            latency: std::time::Duration::from_millis(3),
            first_byte: None,
        };
        for worker in 0..3 {
            SeriesCache::new(Arc::clone(&table), worker)
                .get(&key("a", "1"))
                .finish(&finished);
        }
        let all = table.read();
        assert_eq!(all.len(), 1);
        let totals = &all[0].1;
        assert_eq!(totals.outcomes, [(Code::Http(200), "", 3)]);
        assert_eq!(
            (totals.retries, totals.request_bytes, totals.response_bytes),
            (3, 30, 60)
        );
        assert_eq!(totals.latency.buckets[3], 3);
    }

    #[test]
    fn models_beyond_the_bound_are_other() {
        let cache = SeriesCache::new(Arc::default(), 0);
        for number in 0..5 * MAX_MODELS {
            cache.get(&key(&format!("m{number}"), "1"));
        }
        let all = cache.table.read();
        assert_eq!(all.len(), MAX_MODELS + 1);
        assert!(
            all.iter()
                .any(|(labels, _)| &*labels.model == OTHER && &*labels.version == OTHER)
        );
        assert!(cache.cached.borrow().len() <= MAX_CACHED);
    }

    #[test]
    fn outcomes_beyond_the_bound_are_still_requests() {
        let series = Series::default();
        for status in 200..300 {
            series.count_outcome(Code::Http(status), "");
        }
        let mut totals = Totals::default();
        totals.add(&series);
        assert_eq!(totals.requests(), 100);
    }
}
