//! The recorder behind the `metrics` facade: counters and gauges are atomics, histograms have fixed buckets.
//!
//! The map is touched when a handle is made, never when it counts. (The stock Prometheus recorder keeps each sample of
//! a histogram until somebody reads it; this one's memory depends on the number of series only.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use mesh_api::telemetry::{BUCKETS, bucket};
use metrics::{Counter, Gauge, HistogramFn, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit};

use super::names::{Described, Kind};

/// Durations counted in the buckets of `mesh_api::telemetry::BOUNDS`.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// What was counted until now.
    pub fn read(&self) -> Counts {
        Counts {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            seconds: self.nanos.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }

    /// Counts a duration, when no other thread does.
    pub(super) fn add_alone(&self, duration: std::time::Duration) {
        add_alone(&self.buckets[bucket(duration.as_secs_f64())], 1);
        add_alone(
            &self.nanos,
            u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        );
    }
}

/// Adds without a locked instruction: right only when one thread writes, which others may read at any time.
pub(super) fn add_alone(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl HistogramFn for Histogram {
    fn record(&self, seconds: f64) {
        self.buckets[bucket(seconds)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }
}

/// What a histogram counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// Per bucket, not cumulative.
    pub buckets: [u64; BUCKETS],
    /// The sum of what was counted, in seconds.
    pub seconds: f64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            seconds: 0.0,
        }
    }
}

impl Counts {
    /// Adds what another histogram counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.seconds += other.seconds;
    }
}

/// One metric with its labels.
#[derive(Clone, Debug)]
enum Metric {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Histogram>),
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(f64),
    /// Of a histogram.
    Counts(Counts),
}

/// All metrics that are few: those of requests are in [`super::series`].
#[derive(Debug, Default)]
pub struct Registry {
    metrics: DashMap<Key, Metric>,
    help: DashMap<String, String>,
}

impl Registry {
    /// The counter of this name with these labels.
    pub fn counter(&self, name: Described, labels: &[(&'static str, &str)]) -> Counter {
        self.make_counter(&key(name, labels))
    }

    /// The gauge of this name with these labels.
    pub fn gauge(&self, name: Described, labels: &[(&'static str, &str)]) -> Gauge {
        self.make_gauge(&key(name, labels))
    }

    /// Everything, by name and labels, in order.
    pub fn read(&self) -> Vec<(Key, Value)> {
        let mut all: Vec<_> = self
            .metrics
            .iter()
            .map(|entry| (entry.key().clone(), entry.value().read()))
            .collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// What a metric that libraries made means.
    pub fn help(&self, name: &str) -> Option<String> {
        self.help.get(name).map(|text| text.clone())
    }

    fn make_counter(&self, key: &Key) -> Counter {
        let made = self
            .metrics
            .entry(key.clone())
            .or_insert_with(|| Metric::Counter(Arc::default()));
        match &*made {
            Metric::Counter(cell) => Counter::from_arc(Arc::clone(cell)),
            // A name has one kind; whoever uses it as another counts for nobody.
            Metric::Gauge(_) | Metric::Histogram(_) => Counter::noop(),
        }
    }

    fn make_gauge(&self, key: &Key) -> Gauge {
        let made = self
            .metrics
            .entry(key.clone())
            .or_insert_with(|| Metric::Gauge(Arc::default()));
        match &*made {
            Metric::Gauge(cell) => Gauge::from_arc(Arc::clone(cell)),
            Metric::Counter(_) | Metric::Histogram(_) => Gauge::noop(),
        }
    }
}

impl Metric {
    fn read(&self) -> Value {
        match self {
            Self::Counter(cell) => Value::Count(cell.load(Ordering::Relaxed)),
            Self::Gauge(cell) => Value::Level(f64::from_bits(cell.load(Ordering::Relaxed))),
            Self::Histogram(histogram) => Value::Counts(histogram.read()),
        }
    }
}

impl Value {
    /// The kind of a metric with such a value.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Count(_) => Kind::Counter,
            Self::Level(_) => Kind::Gauge,
            Self::Counts(_) => Kind::Histogram,
        }
    }
}

fn key((name, _, _): Described, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()))
        .collect();
    Key::from_parts(name, labels)
}

impl Recorder for Registry {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.help.insert(name.as_str().to_owned(), help.into_owned());
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.help.insert(name.as_str().to_owned(), help.into_owned());
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.help.insert(name.as_str().to_owned(), help.into_owned());
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.make_counter(key)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.make_gauge(key)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        let made = self
            .metrics
            .entry(key.clone())
            .or_insert_with(|| Metric::Histogram(Arc::default()));
        match &*made {
            Metric::Histogram(histogram) => metrics::Histogram::from_arc(Arc::clone(histogram)),
            Metric::Counter(_) | Metric::Gauge(_) => metrics::Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn handles_of_one_name_and_labels_count_together() {
        let registry = Registry::default();
        registry
            .counter(names::CONNECTIONS, &[("direction", "inbound")])
            .increment(2);
        registry
            .counter(names::CONNECTIONS, &[("direction", "inbound")])
            .increment(3);
        registry
            .counter(names::CONNECTIONS, &[("direction", "outbound")])
            .increment(1);
        let values: Vec<_> = registry.read().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [Value::Count(5), Value::Count(1)]);
    }

    #[test]
    fn a_name_used_as_another_kind_changes_nothing() {
        let registry = Registry::default();
        registry.gauge(names::CONFIG_VERSION, &[]).set(7.0);
        registry.counter(names::CONFIG_VERSION, &[]).increment(1);
        assert_eq!(registry.read()[0].1, Value::Level(7.0));
    }

    #[test]
    fn histograms_of_the_facade_have_the_mesh_s_buckets() {
        let registry = Registry::default();
        let metadata = Metadata::new("test", metrics::Level::INFO, None);
        let histogram = registry.register_histogram(&Key::from_name("x_seconds"), &metadata);
        histogram.record(0.004);
        histogram.record(10_000.0);
        let Value::Counts(counts) = registry.read().remove(0).1 else {
            panic!()
        };
        assert_eq!((counts.buckets[4], counts.buckets[BUCKETS - 1]), (1, 1));
    }
}
