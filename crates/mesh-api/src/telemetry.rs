//! The buckets in which proxies count durations, and what is read from them.

/// Upper bounds of the duration buckets, in seconds; one more bucket counts what is longer.
///
/// From 0.5 ms (a cached prediction) to ten minutes (a long generation), steps of 1.5 to 2: fine enough for a p99,
/// and a superset of the bounds that OpenTelemetry's semantic conventions advise for HTTP servers (0.005 … 10 s).
pub const BOUNDS: [f64; 24] = [
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
    2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 180.0, 600.0,
];

/// How many buckets there are.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// The bucket that counts a duration of so many seconds.
pub fn bucket(seconds: f64) -> usize {
    BOUNDS.partition_point(|bound| *bound < seconds)
}

/// The duration in seconds below which the part `quantile` (0 to 1) of what was counted lies, interpolated within its
/// bucket; none when nothing was counted. What is above the last bound is told as the last bound.
pub fn quantile(counts: &[u64], quantile: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = quantile.clamp(0.0, 1.0) * total as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, upper) in counts.iter().zip(BOUNDS) {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            return Some(lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
        }
        below += count;
        lower = upper;
    }
    Some(BOUNDS[BOUNDS.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_belong_to_their_bucket() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
        for (index, bound) in BOUNDS.iter().enumerate() {
            assert_eq!(bucket(*bound), index);
            assert_eq!(bucket(bound * 1.0001), index + 1);
        }
        assert_eq!(bucket(0.0), 0);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let mut counts = [0; BUCKETS];
        assert_eq!(quantile(&counts, 0.5), None);
        counts[6] = 100; // 7.5 to 10 ms
        let p50 = quantile(&counts, 0.5).unwrap();
        assert!((p50 - 0.00875).abs() < 1e-9, "{p50}");
        counts[BUCKETS - 1] = 100;
        assert_eq!(quantile(&counts, 0.99), Some(600.0));
    }
}
