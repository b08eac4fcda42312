//! Spans of sampled requests, exported to an OpenTelemetry collector by OTLP over gRPC.
//!
//! Workers hand finished spans over by a bounded channel; the exporter runs beside them and follows the settings. When
//! the collector is away, spans are dropped and counted.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc::{Receiver, Sender};

use super::record::Closed;
use super::trace::Span;
use super::{Direction, Observe};

/// How many spans may wait for the exporter.
const WAITING: usize = 2_048;
/// How many spans go in one message.
const BATCH: usize = 512;
/// How long a span may wait for others to travel with.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A finished span, as the worker hands it over.
#[derive(Clone, Debug)]
pub struct FinishedSpan {
    span: Span,
    direction: Direction,
    start: SystemTime,
    end: SystemTime,
    name: String,
    failed: bool,
    reason: &'static str,
    endpoint: Option<SocketAddr>,
    texts: Vec<(&'static str, String)>,
    numbers: Vec<(&'static str, i64)>,
}

/// The workers' end.
pub(super) struct SpanSender(Sender<FinishedSpan>);

pub(super) fn channel() -> (SpanSender, Receiver<FinishedSpan>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
    (SpanSender(sender), receiver)
}

impl SpanSender {
    /// Sends a request's span on its way; false: it was dropped.
    pub(super) fn send(&self, closed: &Closed<'_>) -> bool {
        let (Some(span), Some(start)) = (closed.span, closed.details.time) else {
            return true;
        };
        // Building it costs; when nobody takes spans, don't.
        let Ok(place) = self.0.try_reserve() else {
            return false;
        };
        place.send(finished(closed, span, start));
        true
    }
}

fn finished(closed: &Closed<'_>, span: Span, start: SystemTime) -> FinishedSpan {
    let details = closed.details;
    let method = details.method.as_ref().map_or("", |method| method.as_str());
    let texts = [
        ("http.request.method", method),
        ("url.path", &details.path),
        ("server.address", &details.authority),
        ("mesh.service", &details.service),
        ("mesh.rule", &details.rule),
        ("mesh.backend", &details.backend),
        ("mesh.model", &details.model),
        ("mesh.model_version", &details.version),
        ("mesh.operation", details.operation),
        ("mesh.caller", &details.caller),
        ("mesh.peer", &details.peer),
        ("error.type", closed.finished.reason),
        ("mesh.object", closed.object.unwrap_or_default()),
    ];
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let numbers = [
        (
            "http.response.status_code",
            closed.status.map(|status| i64::from(status.as_u16())),
        ),
        ("rpc.grpc.status_code", closed.grpc.map(i64::from)),
        ("mesh.retries", Some(i64::from(closed.finished.retries))),
        (
            "http.request.body.size",
            Some(number(closed.finished.request_bytes)),
        ),
        (
            "http.response.body.size",
            Some(number(closed.finished.response_bytes)),
        ),
    ];
    let verb = if details.operation.is_empty() {
        method
    } else {
        details.operation
    };
    FinishedSpan {
        span,
        direction: closed.direction,
        start,
        end: start + closed.finished.latency,
        name: format!("{verb} {}", details.service).trim_end().to_owned(),
        failed: closed.finished.failed,
        reason: closed.finished.reason,
        endpoint: closed.endpoint,
        texts: texts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| (key, text.to_owned()))
            .collect(),
        numbers: numbers
            .into_iter()
            .filter_map(|(key, number)| Some((key, number?)))
            .collect(),
    }
}

impl From<FinishedSpan> for SpanData {
    fn from(finished: FinishedSpan) -> Self {
        let FinishedSpan { span, direction, .. } = finished;
        let texts = finished
            .texts
            .into_iter()
            .map(|(key, text)| KeyValue::new(key, text));
        let numbers = finished
            .numbers
            .into_iter()
            .map(|(key, number)| KeyValue::new(key, number));
        let endpoint = finished.endpoint.into_iter().flat_map(|endpoint| {
            [
                KeyValue::new("network.peer.address", endpoint.ip().to_string()),
                KeyValue::new("network.peer.port", i64::from(endpoint.port())),
            ]
        });
        Self {
            span_context: SpanContext::new(
                TraceId::from(span.context.trace),
                SpanId::from(span.context.span),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: span.parent.is_some(),
            span_kind: match direction {
                Direction::Inbound => SpanKind::Server,
                Direction::Outbound => SpanKind::Client,
            },
            name: Cow::Owned(finished.name),
            start_time: finished.start,
            end_time: finished.end,
            attributes: texts.chain(numbers).chain(endpoint).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if finished.failed {
                Status::error(finished.reason)
            } else {
                Status::Unset
            },
            instrumentation_scope: InstrumentationScope::builder("mesh-proxy")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

/// Exports spans to the collector of the settings, for as long as the proxy lives.
pub async fn export(observe: Arc<Observe>, mut finished: Receiver<FinishedSpan>) {
    let mut exporter: Option<(String, SpanExporter)> = None;
    let mut batch = Vec::with_capacity(BATCH);
    while finished.recv_many(&mut batch, BATCH).await > 0 {
        let rest = async {
            while batch.len() < BATCH
                && let Some(span) = finished.recv().await
            {
                batch.push(span);
            }
        };
        let _ = tokio::time::timeout(LINGER, rest).await;
        let spans: Vec<SpanData> = batch.drain(..).map(Into::into).collect();
        let count = spans.len() as u64;
        if !send(&observe, &mut exporter, spans).await {
            observe.handles.spans_dropped.increment(count);
        }
    }
}

async fn send(
    observe: &Observe,
    exporter: &mut Option<(String, SpanExporter)>,
    spans: Vec<SpanData>,
) -> bool {
    let settings = observe.settings();
    let Some(endpoint) = settings.tracing.as_ref().map(|tracing| &tracing.endpoint) else {
        return false;
    };
    if exporter.as_ref().is_none_or(|(current, _)| current != endpoint) {
        match connect(observe, endpoint) {
            Ok(made) => *exporter = Some((endpoint.clone(), made)),
            Err(error) => {
                tracing::warn!(%endpoint, "tracing: the collector's endpoint can't be used: {error}");
                return false;
            }
        }
    }
    let Some((_, exporter)) = exporter else {
        return false;
    };
    match exporter.export(spans).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%endpoint, "tracing: spans were not taken: {error}");
            false
        }
    }
}

fn connect(
    observe: &Observe,
    endpoint: &str,
) -> Result<SpanExporter, opentelemetry_otlp::ExporterBuildError> {
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(TIMEOUT)
        .build()?;
    let workload = &observe.workload;
    let resource = Resource::builder_empty()
        .with_service_name(workload.name.to_string())
        .with_attribute(KeyValue::new("service.namespace", workload.namespace.to_string()))
        .with_attribute(KeyValue::new("service.instance.id", observe.proxy_id.clone()))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}
