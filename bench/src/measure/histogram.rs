//! A histogram of latencies with logarithmic buckets, in the manner of HdrHistogram.
//!
//! Every power of two is cut into 128 equal parts, so that a value is known to better than 1 % over the whole
//! range of `u64` nanoseconds, and recording is a shift and an increment.

use std::time::Duration;

const PART_BITS: u32 = 7;
const PARTS: u64 = 1 << PART_BITS;
const BUCKETS: usize = ((64 - PART_BITS as usize) + 1) << PART_BITS;

/// Counts of latencies, in nanoseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The largest latency recorded, exactly.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// The latency that a share `q` (0 to 1) of all records stays within; `None` when nothing was recorded.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_nanos(middle(index).min(self.max)));
            }
        }
        Some(self.max())
    }
}

/// The bucket of a value: values below 128 have one each; above, the top eight bits choose.
fn bucket(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let shift = 63 - nanos.leading_zeros() - PART_BITS;
    let part = (nanos >> shift) - PARTS;
    ((u64::from(shift) + 1) * PARTS + part) as usize
}

/// The value in the middle of a bucket.
fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < PARTS {
        return index;
    }
    let shift = index / PARTS - 1;
    let low = (PARTS + index % PARTS) << shift;
    low + ((1u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_within_one_percent_of_every_value_in_it() {
        let mut value: u64 = 1;
        while value < u64::MAX / 3 {
            for v in [value - 1, value, value + 1, value * 3 / 2] {
                let back = middle(bucket(v));
                let error = back.abs_diff(v) as f64 / (v.max(1)) as f64;
                assert!(error < 0.01, "{v} came back as {back}");
            }
            value = value * 2 + 1;
        }
    }

    #[test]
    fn buckets_grow_with_the_value_and_the_largest_value_has_one() {
        let samples = [0, 1, 127, 128, 129, 255, 256, 1000, 1 << 20, 1 << 40, u64::MAX];
        for pair in samples.windows(2) {
            assert!(bucket(pair[0]) < bucket(pair[1]), "{pair:?}");
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_of_a_thousand_even_steps() {
        let mut histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (q, micros) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = histogram.quantile(q).expect("recorded").as_secs_f64() * 1e6;
            assert!(
                (got - micros).abs() / micros < 0.01,
                "q {q}: {got} instead of {micros}"
            );
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.max(), Duration::from_millis(1));
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::new().quantile(0.5), None);
    }

    #[test]
    fn one_outlier_is_the_last_percent_and_not_the_median() {
        let mut histogram = Histogram::new();
        for _ in 0..99 {
            histogram.record(Duration::from_micros(100));
        }
        histogram.record(Duration::from_secs(1));
        assert!(histogram.quantile(0.99).expect("recorded") < Duration::from_micros(102));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_secs(1)));
    }
}
