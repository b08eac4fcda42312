//! What proxies saw, added up: requests, success, latency of any group of paths.

use mesh_api::name::ObjectName;
use mesh_api::telemetry::quantile;
use mesh_api::wire::admin::{GetTrafficRequest, Path, Traffic};
use serde::Serialize;

use crate::client::{Admin, answer};
use crate::error::Outcome;
use crate::output::{self, Style, Text};

/// Counts of a group of paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// How many requests ended.
    pub(crate) requests: u64,
    /// How many of them failed.
    pub(crate) failures: u64,
    /// How often one was tried again.
    pub(crate) retries: u64,
    /// How many are under way now.
    pub(crate) in_flight: i64,
    latency: Vec<u64>,
    first_byte: Vec<u64>,
}

impl Counts {
    /// The counts of all these paths together.
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut counts = Self::default();
        for path in paths {
            counts.requests += path.requests;
            counts.failures += path.failures;
            counts.retries += path.retries;
            counts.in_flight += path.in_flight;
            add(&mut counts.latency, &path.latency);
            add(&mut counts.first_byte, &path.first_byte);
        }
        counts
    }

    /// The latency in seconds that the part `part` of requests stays below.
    pub(crate) fn latency(&self, part: f64) -> Option<f64> {
        quantile(&self.latency, part)
    }

    /// The time to the first byte in seconds that half the requests stay below.
    pub(crate) fn first_byte(&self) -> Option<f64> {
        quantile(&self.first_byte, 0.5)
    }

    /// For machines, over a span of `seconds`.
    pub(crate) fn figures(&self, seconds: f64) -> Figures {
        let millis = |seconds: Option<f64>| seconds.map(|it| (it * 1e6).round() / 1e3);
        Figures {
            requests: self.requests,
            failures: self.failures,
            retries: self.retries,
            in_flight: self.in_flight,
            rps: (self.per_second(seconds) * 1e3).round() / 1e3,
            success: (self.requests > 0)
                .then(|| (self.requests - self.failures.min(self.requests)) as f64 / self.requests as f64),
            latency_p50_ms: millis(self.latency(0.5)),
            latency_p95_ms: millis(self.latency(0.95)),
            latency_p99_ms: millis(self.latency(0.99)),
            first_byte_p50_ms: millis(self.first_byte()),
        }
    }

    /// Requests a second, over a span of `seconds`.
    pub(crate) fn per_second(&self, seconds: f64) -> f64 {
        if seconds > 0.0 {
            self.requests as f64 / seconds
        } else {
            0.0
        }
    }

    /// The rate as a cell.
    pub(crate) fn rate_cell(&self, seconds: f64) -> Text {
        if self.requests == 0 {
            return Text::styled(Style::Faint, "–");
        }
        output::rate(self.per_second(seconds)).into()
    }

    /// The part that succeeded as a cell.
    pub(crate) fn success_cell(&self) -> Text {
        let succeeded = self.requests.saturating_sub(self.failures);
        let text = output::percent(succeeded, self.requests);
        let style = match (self.requests, self.failures) {
            (0, _) => Style::Faint,
            (_, 0) => Style::Good,
            (requests, failures) if failures * 100 < requests => Style::Warn,
            _ => Style::Bad,
        };
        Text::styled(style, text)
    }
}

fn add(sum: &mut Vec<u64>, counts: &[u64]) {
    if sum.len() < counts.len() {
        sum.resize(counts.len(), 0);
    }
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum += count;
    }
}

/// Counts for machines.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    /// How many requests ended.
    pub(crate) requests: u64,
    /// How many of them failed.
    pub(crate) failures: u64,
    /// How often one was tried again.
    pub(crate) retries: u64,
    /// How many are under way now.
    pub(crate) in_flight: i64,
    /// Requests a second.
    pub(crate) rps: f64,
    /// The part that did not fail, 0 to 1.
    pub(crate) success: Option<f64>,
    /// Half are faster, in milliseconds.
    pub(crate) latency_p50_ms: Option<f64>,
    /// 95 % are faster.
    pub(crate) latency_p95_ms: Option<f64>,
    /// 99 % are faster.
    pub(crate) latency_p99_ms: Option<f64>,
    /// Half have their first byte sooner.
    pub(crate) first_byte_p50_ms: Option<f64>,
}

/// Asks what was seen in the last seconds.
pub(crate) async fn ask(admin: &mut Admin, window_seconds: u32) -> Outcome<Traffic> {
    answer(admin.get_traffic(GetTrafficRequest { window_seconds })).await
}

/// The workload whose proxy saw a path.
pub(crate) fn workload(path: &Path) -> Option<ObjectName> {
    path.workload.parse().ok()
}

/// The service a path is about; none for inbound requests that belong to none.
pub(crate) fn service(path: &Path) -> Option<ObjectName> {
    let namespace = workload(path)?.namespace;
    ObjectName::parse_in(&path.service, &namespace).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let path = |requests, failures, bucket| {
            let mut latency = vec![0; mesh_api::telemetry::BUCKETS];
            latency[bucket] = requests;
            Path {
                requests,
                failures,
                latency,
                ..Path::default()
            }
        };
        let counts = Counts::of(&[path(90, 0, 2), path(10, 1, 6)]);
        assert_eq!((counts.requests, counts.failures), (100, 1));
        let figures = counts.figures(10.0);
        assert_eq!((figures.rps, figures.success), (10.0, Some(0.99)));
        assert!(figures.latency_p50_ms.unwrap() < 2.0);
        assert!(figures.latency_p99_ms.unwrap() > 7.5);
        assert_eq!(figures.first_byte_p50_ms, None);
        let nothing = Counts::of([]).figures(0.0);
        assert_eq!((nothing.rps, nothing.success), (0.0, None));
    }
}
