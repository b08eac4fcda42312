//! Reports to the control plane: all series, once a second, for `meshctl routes` and `meshctl stat`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mesh_api::wire::telemetry as wire;
use mesh_api::wire::telemetry::telemetry_client::TelemetryClient;
use tokio::sync::watch;
use tokio_stream::wrappers::IntervalStream;

use super::process::unix_seconds;
use super::series::{Labels, Totals};
use super::{Direction, Observe};
use crate::control::backoff::Backoff;
use crate::control::dial::Dialer;
use crate::tls::CredentialsCell;

/// The most series in one report; the busiest go first.
const MAX_REPORTED: usize = 5_000;

/// How often a report is made.
const EVERY: Duration = Duration::from_secs(1);

/// Reports for as long as the proxy lives. While the control plane is away, nothing is kept: counts are cumulative.
pub async fn run(
    observe: Arc<Observe>,
    dialer: Arc<Dialer>,
    credentials: Arc<CredentialsCell>,
    mut renewed: watch::Receiver<u64>,
) {
    let mut backoff = Backoff::control();
    while renewed.wait_for(|generation| *generation > 0).await.is_ok() {
        let began = tokio::time::Instant::now();
        let ended = stream(&observe, &dialer, &credentials).await;
        tracing::debug!(
            "reports: {}",
            ended
                .err()
                .unwrap_or_else(|| "the control plane ended them".into())
        );
        if began.elapsed() > 5 * EVERY {
            backoff.reset();
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn stream(
    observe: &Arc<Observe>,
    dialer: &Dialer,
    credentials: &Arc<CredentialsCell>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let channel = dialer.connect(credentials.load_full().as_deref()).await?;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (observe, credentials) = (Arc::clone(observe), Arc::clone(credentials));
    let reports = IntervalStream::new(ticks).map(move |_| {
        let expiry = credentials
            .load()
            .as_ref()
            .map(|credentials| credentials.not_after);
        snapshot(&observe, expiry)
    });
    TelemetryClient::new(channel).report(reports).await?;
    Ok(())
}

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
