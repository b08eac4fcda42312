//! `MeshConfig`: what holds for the whole mesh. There is at most one; without it, the defaults hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::identity::TrustDomain;

/// Mesh-wide settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MeshConfigSpec {
    /// The trust domain of every identity; it must be the one the control plane was started with; default: that one
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
    /// What inbound listeners accept; default: `strict`
    pub mtls: MtlsMode,
    /// How model requests are read
    pub inference: InferenceSpec,
    /// How it is found out what connections speak
    pub detection: DetectionSpec,
    /// What proxies tell about requests
    pub telemetry: TelemetrySpec,
}

/// What inbound listeners accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MtlsMode {
    /// Mutual TLS with an identity of the trust domain, nothing else
    #[default]
    Strict,
    /// Mutual TLS, and plaintext from callers without a sidecar. TLS without a mesh identity is refused all the same
    Permissive,
}

/// How model requests are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InferenceSpec {
    /// The most bytes of a body that are held while its model name is looked for, 16 KiB to 64 MiB; default: 1 MiB
    #[schemars(range(min = 16384, max = 67108864))]
    pub read_ahead_bytes: u32,
    /// What happens to a request whose model name does not stand within `readAheadBytes`; default: `route-without-model`
    pub beyond_read_ahead: BeyondReadAhead,
}

impl Default for InferenceSpec {
    fn default() -> Self {
        Self {
            read_ahead_bytes: 1 << 20,
            beyond_read_ahead: BeyondReadAhead::default(),
        }
    }
}

/// How it is found out what connections speak, where no port declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DetectionSpec {
    /// How long a client has for its first bytes, 1ms to 10s, before it is taken for one that waits for the server to
    /// speak first, and passed on as opaque bytes; default: 500ms
    pub wait: Duration,
}

impl Default for DetectionSpec {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(500),
        }
    }
}

/// What happens to a request whose model name can't be read in time (too far in the body, or in an encoding that is
/// not read).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BeyondReadAhead {
    /// It is routed by the rules that ask for no model
    #[default]
    RouteWithoutModel,
    /// It is refused with 413 and `mesh-error: beyond-read-ahead`
    Refuse,
}

/// What proxies tell about requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TelemetrySpec {
    /// A line for each request; default: off
    pub access_log: AccessLogSpec,
    /// Spans to an OpenTelemetry collector; default: off. Trace context is passed on either way
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracingSpec>,
}

/// The access log: JSON lines with OpenTelemetry's attribute names on the proxy's standard output. Bodies are never logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessLogSpec {
    /// Whether lines are written; default: false
    pub enabled: bool,
    /// The percentage of successful requests that are logged, 0 to 100; failures are logged always; default: 100
    #[schemars(range(min = 0, max = 100))]
    pub percent: f64,
}

impl Default for AccessLogSpec {
    fn default() -> Self {
        Self {
            enabled: false,
            percent: 100.0,
        }
    }
}

/// Spans to an OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TracingSpec {
    /// The collector's OTLP gRPC address, such as `http://127.0.0.1:4317`
    pub endpoint: String,
    /// The percentage of requests without a sampling decision of their caller that are sampled, 0 to 100; default: 1
    #[serde(default = "one_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: f64,
}

fn one_percent() -> f64 {
    1.0
}
