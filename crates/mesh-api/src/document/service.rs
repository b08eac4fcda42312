//! `Service`: a name that requests are sent to, and what stands behind it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inference::AppProtocol;
use crate::name::Name;

/// A name that requests are sent to. Its endpoints are the Workloads it selects and the external endpoints it lists.
/// A Service with neither only exists to be routed by a ModelRoute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// The ports it is called on
    pub ports: Vec<ServicePortSpec>,
    /// The Workloads of this namespace that have all of these labels are its endpoints; empty: none
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Endpoints without a sidecar: called in plaintext
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<ExternalEndpoint>,
    /// More host names that callers may use, beside `name`, `name.namespace` and `name.namespace.svc.cluster.local`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The addresses that stand for the Service as a whole: an intercepted connection to one of them, on one of `ports`,
    /// is a call of the Service. Without any, callers name it by host or by an endpoint's address
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePortSpec {
    /// The port's name, unique in the Service
    pub name: Name,
    /// The number callers use, 1 to 65535
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What it speaks; default: `http`
    #[serde(default = "http")]
    pub app_protocol: AppProtocol,
    /// The Workload port behind it, by name or number; default: the Workload's port of the same name
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<ServicePortTarget>,
}

fn http() -> AppProtocol {
    AppProtocol::Http
}

/// A Workload's port by name or by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a port's name or number")]
pub enum ServicePortTarget {
    /// By number
    Number(u16),
    /// By name
    Name(Name),
}

/// An endpoint without a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalEndpoint {
    /// The Service's port this address serves, by name
    pub port: Name,
    /// IP address and port, such as `127.0.0.1:8000`
    #[schemars(with = "String")]
    pub address: SocketAddr,
}
