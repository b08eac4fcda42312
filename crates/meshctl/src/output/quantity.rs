//! How numbers, shares, latencies and spans of time are written: short, with a unit, the same everywhere.

use std::time::Duration;

/// What stands where there is nothing to say.
const NOTHING: &str = "–";

/// A latency in seconds: `0.84ms`, `12ms`, `1.3s`.
pub(crate) fn latency(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return NOTHING.into();
    };
    let millis = seconds * 1e3;
    match millis {
        m if m < 9.95 => format!("{m:.1}ms"),
        m if m < 999.5 => format!("{m:.0}ms"),
        m if m < 99_950.0 => format!("{:.1}s", m / 1e3),
        m => format!("{:.0}s", m / 1e3),
    }
}

/// Something per second: `0.4`, `39.8`, `1203`.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        r if r < 0.05 && r > 0.0 => "<0.1".into(),
        r if r < 99.95 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

/// A part of a whole in percent, never rounded up to all: `99.99%`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NOTHING.into();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        p if part == whole || p == 0.0 => format!("{p:.0}%"),
        p if p > 99.99 => "99.99%".into(),
        p if p > 99.0 => format!("{p:.2}%"),
        p => format!("{p:.1}%"),
    }
}

/// A weight's part of all weights in percent: `95%`, `0.5%`, `33.3%`.
pub(crate) fn share(weight: u32, total: u64) -> String {
    let weight = u64::from(weight);
    if total > 0 && weight * 100 % total == 0 {
        return format!("{}%", weight * 100 / total);
    }
    percent(weight, total)
}

/// A span of time by its two largest units: `41ms`, `3.2s`, `5m12s`, `23h59m`, `3650d`.
pub(crate) fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..=9 => format!("{:.1}s", span.as_secs_f64()),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..=172_799 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago a moment was, both in seconds since 1970; nothing for 0.
pub(crate) fn ago(then: i64, now: i64) -> String {
    if then == 0 {
        return NOTHING.into();
    }
    in_words(Duration::from_secs(
        u64::try_from(now.saturating_sub(then)).unwrap_or(0),
    ))
}

/// Seconds since 1970.
pub(crate) fn clock() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short_and_honest() {
        for (seconds, text) in [
            (Some(0.00084), "0.8ms"),
            (Some(0.00994), "9.9ms"),
            (Some(0.0123), "12ms"),
            (Some(0.9996), "1.0s"),
            (Some(1.34), "1.3s"),
            (Some(600.0), "600s"),
            (None, "–"),
        ] {
            assert_eq!(latency(seconds), text);
        }
        for (part, whole, text) in [
            (0, 0, "–"),
            (0, 7, "0%"),
            (7, 7, "100%"),
            (999_999, 1_000_000, "99.99%"),
            (995, 1000, "99.50%"),
            (1, 3, "33.3%"),
        ] {
            assert_eq!(percent(part, whole), text);
        }
        for (per_second, text) in [(0.0, "0.0"), (0.01, "<0.1"), (39.84, "39.8"), (1203.4, "1203")] {
            assert_eq!(rate(per_second), text);
        }
        for (millis, text) in [
            (41, "41ms"),
            (3_240, "3.2s"),
            (59_000, "59s"),
            (312_000, "5m12s"),
            (86_340_000, "23h59m"),
            (315_360_000_000, "3650d"),
        ] {
            assert_eq!(in_words(Duration::from_millis(millis)), text);
        }
        assert_eq!(ago(0, 100), "–");
        assert_eq!(ago(200, 100), "0ms");
    }
}
