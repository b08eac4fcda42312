//! `TrafficPolicy`: how endpoints of a service are connected to and chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::name::Name;

/// How endpoints of a Service are connected to and chosen. A Service has at most one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// The Service of this namespace that it is about
    pub service: Name,
    /// How an endpoint is chosen
    #[serde(default)]
    pub load_balancing: LoadBalancingSpec,
    /// How connections are made and kept
    #[serde(default)]
    pub connection: ConnectionSpec,
}

/// How an endpoint is chosen for a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancingSpec {
    /// The algorithm; default: `peak-ewma`
    pub algorithm: BalancerKind,
}

/// The algorithm that chooses an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BalancerKind {
    /// The better of two random endpoints, by peak-sensitive moving average of latency times requests in flight
    #[default]
    PeakEwma,
    /// The better of two random endpoints, by requests in flight
    LeastRequest,
    /// Each in turn
    RoundRobin,
    /// Any
    Random,
}

/// How connections are made and kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectionSpec {
    /// How long connecting and the TLS handshake may take, 1ms to 60s; default: 5s
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// How long an unused connection is kept, 0s to 1h; default: 90s between sidecars
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}
