//! Reports to the control plane: all series, once a second, for `meshctl routes` and `meshctl stat`.

use mesh_api::wire::telemetry as wire;

use super::process::unix_seconds;
use super::series::{Labels, Totals};
use super::{Direction, Observe};

/// The most series in one report; the busiest go first.
const MAX_REPORTED: usize = 5_000;

/// What is counted now, as the control plane reads it.
pub fn snapshot(observe: &Observe, certificate_expiry: Option<std::time::SystemTime>) -> wire::Snapshot {
    let mut all = observe.series().read();
    if all.len() > MAX_REPORTED {
        all.sort_by_key(|(_, totals)| std::cmp::Reverse(totals.requests()));
        all.truncate(MAX_REPORTED);
    }
    wire::Snapshot {
        workload: observe.workload.to_string(),
        proxy_id: observe.proxy_id.clone(),
        series: all
            .iter()
            .map(|(labels, totals)| series(labels, totals))
            .collect(),
        certificate_expiry: certificate_expiry.map_or(0, |expiry| unix_seconds(expiry) as i64),
    }
}

fn series(labels: &Labels, totals: &Totals) -> wire::Series {
    wire::Series {
        inbound: labels.direction == Direction::Inbound,
        service: labels.service.to_string(),
        rule: labels.rule.to_string(),
        backend: labels.backend.to_string(),
        model: labels.model.to_string(),
        version: labels.version.to_string(),
        operation: labels.operation.to_owned(),
        peer: labels.peer.to_string(),
        requests: totals.requests(),
        failures: totals.failures,
        retries: totals.retries,
        in_flight: totals.in_flight,
        request_bytes: totals.request_bytes,
        response_bytes: totals.response_bytes,
        latency: totals.latency.buckets.to_vec(),
        first_byte: totals.first_byte.buckets.to_vec(),
    }
}
