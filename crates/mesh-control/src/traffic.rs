//! What proxies saw of requests, over the last seconds: pure, with time passed in.
//!
//! Proxies report counts since their start; what is kept is how much they grew, second by second for a while, then in
//! coarser steps. What is kept is bounded, whatever proxies report.

use std::collections::{BTreeMap, VecDeque};

use mesh_api::telemetry::BUCKETS;
use mesh_api::wire::admin::Path;
use mesh_api::wire::telemetry::{Series, Snapshot};

use crate::proxies::{MAX_OF_WORKLOAD, ProxyKey};

/// The longest span that is answered for, in seconds.
pub const MAX_WINDOW: u64 = 300;
/// The span when none is asked for, in seconds.
pub const DEFAULT_WINDOW: u64 = 10;
/// The most series of a proxy.
const MAX_SERIES: usize = 2_000;
/// The most series of all proxies.
const MAX_TOTAL: usize = 10_000;
/// The longest text of a series, in bytes.
const MAX_TEXT: usize = 512;
/// How long growth is kept by the second.
const FINE: u64 = 15;
/// The steps it is kept in after that, in seconds.
const COARSE: u64 = 10;
/// How long a proxy that is silent still counts as having requests in flight, in seconds.
const SILENT: u64 = 10;

/// What is known of all proxies' requests.
#[derive(Debug, Default)]
pub struct TrafficLog {
    proxies: BTreeMap<ProxyKey, Reported>,
}

#[derive(Debug)]
struct Reported {
    first: u64,
    last: u64,
    series: BTreeMap<SeriesKey, Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SeriesKey {
    inbound: bool,
    /// Service, rule, backend, model, version, operation, peer.
    labels: [Box<str>; 7],
}

#[derive(Debug, Default)]
struct Kept {
    /// The counts last reported.
    total: Counts,
    in_flight: i64,
    /// How much they grew, by the second the step begins at, oldest first.
    steps: VecDeque<(u64, Counts)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    requests: u64,
    failures: u64,
    retries: u64,
    request_bytes: u64,
    response_bytes: u64,
    latency: Buckets,
    first_byte: Buckets,
}

type Buckets = [u64; BUCKETS];

impl TrafficLog {
    /// Takes a report in. `now` is in seconds and only rises. How many of its series were left out, being too many.
    pub fn report(&mut self, key: &ProxyKey, report: &Snapshot, now: u64) -> usize {
        self.forget(now);
        let mut room = MAX_TOTAL.saturating_sub(self.proxies.values().map(|it| it.series.len()).sum());
        let known = self.proxies.contains_key(key);
        if !known {
            self.make_room(key);
        }
        let proxy = self.proxies.entry(key.clone()).or_insert(Reported {
            first: now,
            last: now,
            series: BTreeMap::new(),
        });
        proxy.last = now;
        let mut left_out = 0;
        for series in &report.series {
            let Some(name) = SeriesKey::of(series) else {
                left_out += 1;
                continue;
            };
            let is_new = !proxy.series.contains_key(&name);
            if is_new && (room == 0 || proxy.series.len() >= MAX_SERIES) {
                left_out += 1;
                continue;
            }
            room -= usize::from(is_new);
            let kept = proxy.series.entry(name).or_default();
            // Of a proxy that is new here nobody knows when it counted what it has.
            kept.grow(series, now, known);
        }
        left_out
    }

    /// How requests went in the last `window` seconds, and the span that this is really about, in seconds.
    pub fn over(&mut self, window: u64, now: u64) -> (f64, Vec<Path>) {
        self.forget(now);
        let window = match window {
            0 => DEFAULT_WINDOW,
            window => window.min(MAX_WINDOW),
        };
        let oldest = self
            .proxies
            .values()
            .map(|proxy| proxy.first)
            .min()
            .unwrap_or(now);
        let seconds = now.saturating_sub(oldest).clamp(1, window);
        let since = now.saturating_sub(window);
        let mut paths = Vec::new();
        for (key, proxy) in &self.proxies {
            let silent = now.saturating_sub(proxy.last) > SILENT;
            for (name, kept) in &proxy.series {
                let mut sum = Counts::default();
                for (_, grown) in kept.steps.iter().filter(|(at, _)| *at > since) {
                    sum.add(grown);
                }
                let in_flight = if silent { 0 } else { kept.in_flight };
                if sum != Counts::default() || in_flight != 0 {
                    paths.push(name.path(key, &sum, in_flight));
                }
            }
        }
        (seconds as f64, paths)
    }

    /// Of a workload's many starts, the one that was heard of least lately goes.
    fn make_room(&mut self, key: &ProxyKey) {
        let of_workload = || {
            self.proxies
                .iter()
                .filter(|(other, _)| other.workload == key.workload)
        };
        if of_workload().count() >= MAX_OF_WORKLOAD
            && let Some((oldest, _)) = of_workload().min_by_key(|(_, proxy)| proxy.last)
        {
            let oldest = oldest.clone();
            self.proxies.remove(&oldest);
        }
    }

    fn forget(&mut self, now: u64) {
        self.proxies
            .retain(|_, proxy| now.saturating_sub(proxy.last) <= MAX_WINDOW);
    }
}

impl SeriesKey {
    fn of(series: &Series) -> Option<Self> {
        let labels = [
            &series.service,
            &series.rule,
            &series.backend,
            &series.model,
            &series.version,
            &series.operation,
            &series.peer,
        ];
        if labels.iter().any(|label| label.len() > MAX_TEXT) {
            return None;
        }
        Some(Self {
            inbound: series.inbound,
            labels: labels.map(|label| label.as_str().into()),
        })
    }

    fn path(&self, key: &ProxyKey, sum: &Counts, in_flight: i64) -> Path {
        let [service, rule, backend, model, version, operation, peer] = self.labels.clone().map(String::from);
        Path {
            workload: key.workload.to_string(),
            inbound: self.inbound,
            service,
            rule,
            backend,
            model,
            version,
            operation,
            peer,
            requests: sum.requests,
            failures: sum.failures,
            retries: sum.retries,
            in_flight,
            request_bytes: sum.request_bytes,
            response_bytes: sum.response_bytes,
            latency: sum.latency.to_vec(),
            first_byte: sum.first_byte.to_vec(),
        }
    }
}

impl Kept {
    fn grow(&mut self, series: &Series, now: u64, count: bool) {
        let total = Counts::of(series);
        let grown = total.since(&self.total);
        self.total = total;
        self.in_flight = series.in_flight.max(0);
        if count && grown != Counts::default() {
            match self.steps.back_mut() {
                Some((at, last)) if *at == now => last.add(&grown),
                _ => self.steps.push_back((now, grown)),
            }
        }
        while self.steps.front().is_some_and(|(at, _)| at + MAX_WINDOW < now) {
            self.steps.pop_front();
        }
        self.coarsen(now);
    }

    /// Puts neighbours together that have become too old to be told apart.
    fn coarsen(&mut self, now: u64) {
        let mut index = 1;
        while index < self.steps.len() {
            let (at, before) = (self.steps[index].0, self.steps[index - 1].0);
            if at + FINE >= now {
                return;
            }
            if at / COARSE != before / COARSE {
                index += 1;
                continue;
            }
            if let Some((_, counts)) = self.steps.remove(index) {
                self.steps[index - 1].1.add(&counts);
            }
        }
    }
}

impl Counts {
    fn of(series: &Series) -> Self {
        Self {
            requests: series.requests,
            failures: series.failures,
            retries: series.retries,
            request_bytes: series.request_bytes,
            response_bytes: series.response_bytes,
            latency: buckets(&series.latency),
            first_byte: buckets(&series.first_byte),
        }
    }

    /// How much it grew; counts that fell began anew, and did not grow.
    fn since(&self, before: &Self) -> Self {
        let each = |now: &Buckets, before: &Buckets| {
            let mut grown = *now;
            for (now, before) in grown.iter_mut().zip(before) {
                *now = now.saturating_sub(*before);
            }
            grown
        };
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
            retries: self.retries.saturating_sub(before.retries),
            request_bytes: self.request_bytes.saturating_sub(before.request_bytes),
            response_bytes: self.response_bytes.saturating_sub(before.response_bytes),
            latency: each(&self.latency, &before.latency),
            first_byte: each(&self.first_byte, &before.first_byte),
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.requests, other.requests),
            (&mut self.failures, other.failures),
            (&mut self.retries, other.retries),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.response_bytes, other.response_bytes),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.first_byte, &other.first_byte),
        ] {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine = mine.saturating_add(*theirs);
            }
        }
    }
}

fn buckets(counts: &[u64]) -> Buckets {
    let mut buckets = [0; BUCKETS];
    for (bucket, count) in buckets.iter_mut().zip(counts) {
        *bucket = *count;
    }
    buckets
}

#[cfg(test)]
mod tests;
