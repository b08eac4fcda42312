//! `Workload`: a process (a model server, a client) and the sidecar before it, where no Kubernetes says it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::inference::AppProtocol;
use crate::name::Name;

/// A process and the sidecar before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// The account of its identity `spiffe://<trust-domain>/ns/<namespace>/sa/<account>`; default: `default`
    #[serde(default = "default_account")]
    pub service_account: Name,
    /// The address at which other sidecars reach this one; default: `127.0.0.1`
    #[serde(default = "loopback")]
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// What it serves, each port with the sidecar's listener before it
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadPortSpec>,
    /// How it calls others
    #[serde(default)]
    pub outbound: OutboundSpec,
    /// Where the sidecar takes connections that `mesh-proxy init` leads to it; without it, nothing is intercepted. The
    /// workload has a network namespace of its own then, and is reached at `address` on its own ports
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interception: Option<InterceptionSpec>,
    /// The process itself, for `meshctl up`; without it, somebody else starts the process
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandSpec>,
}

fn default_account() -> Name {
    Name::default_namespace()
}

fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// A port that the process serves, and the sidecar's inbound listener before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPortSpec {
    /// The port's name, unique in the Workload
    pub name: Name,
    /// Where the process listens on loopback, 1 to 65535
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Where the sidecar listens for other sidecars, 1 to 65535; with `interception` it is not needed: default: `port`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub listen: Option<u16>,
    /// What the process speaks; default: `http`
    #[serde(default = "http")]
    pub app_protocol: AppProtocol,
}

fn http() -> AppProtocol {
    AppProtocol::Http
}

impl WorkloadPortSpec {
    /// The port at which others reach it.
    pub fn reached_at(&self) -> u16 {
        self.listen.unwrap_or(self.port)
    }
}

/// Where the sidecar takes intercepted connections, as `mesh-proxy init` was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InterceptionSpec {
    /// For connections from others, 1 to 65535; default: 15006
    #[schemars(range(min = 1, max = 65535))]
    pub inbound_port: u16,
    /// For connections to others, 1 to 65535; default: 15001
    #[schemars(range(min = 1, max = 65535))]
    pub outbound_port: u16,
}

impl Default for InterceptionSpec {
    fn default() -> Self {
        Self {
            inbound_port: 15_006,
            outbound_port: 15_001,
        }
    }
}

/// How a Workload calls others through its sidecar. All listeners are on loopback.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutboundSpec {
    /// A port that takes requests for any Service, by authority: as an HTTP proxy (absolute form, CONNECT) or by Host
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub proxy_port: Option<u16>,
    /// Ports that stand for one Service port each
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<LocalPortSpec>,
    /// The Services it calls, as `name` or `namespace/name`; the sidecar knows no others, unless `onDemand`; default:
    /// every Service, and none if `onDemand`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Whether the sidecar gets other Services when they are first called, and lets go of those that are no longer;
    /// default: `false`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
}

/// A port on loopback that stands for one Service port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalPortSpec {
    /// Where the sidecar listens, 1 to 65535
    #[schemars(range(min = 1, max = 65535))]
    pub listen: u16,
    /// The Service, as `name` or `namespace/name`
    pub service: String,
    /// The Service's port, by name; default: its only port
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Name>,
}

/// A process that `meshctl up` runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandSpec {
    /// The program and its arguments; no shell is involved
    pub run: Vec<String>,
    /// More environment variables
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The folder it runs in, relative to the document's; default: the document's folder
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// How to tell that it is ready; default: it is ready when it runs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadinessSpec>,
}

/// How to tell that a process is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadinessSpec {
    /// The port to ask on loopback, 1 to 65535
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The path that answers 2xx over HTTP when the process is ready; default: none, an accepted connection is enough
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How long it may take; default: 60s
    #[serde(default = "minute")]
    pub timeout: Duration,
}

fn minute() -> Duration {
    Duration::from_millis(60_000)
}
