//! The kubelet's probes as the sidecar performs them: what the environment variable `MESH_PROBES` says.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Probes by `<container>/<kind>`, such as `web/readiness`.
pub type Probes = BTreeMap<String, Probe>;

/// A probe of a container's, as its pod had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The port that is asked, by number.
    pub port: u16,
    /// How long the answer may take, in seconds, at least 1.
    pub timeout_seconds: u32,
    /// What is asked.
    #[serde(flatten)]
    pub handler: Handler,
}

/// What a probe asks, field by field as Kubernetes has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// An answer to GET with a status from 200 to 399.
    HttpGet(HttpGet),
    /// A connection.
    TcpSocket(TcpSocket),
    /// `SERVING`, of `grpc.health.v1.Health/Check`.
    Grpc(Grpc),
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpGet {
    /// The path and the query; none: `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The port, as it was written.
    pub port: Port,
    /// `HTTP` or `HTTPS`; none: `HTTP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Another host than the pod: such a probe stays as it is, unless it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Headers of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_headers: Option<Vec<Header>>,
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpSocket {
    /// The port, as it was written.
    pub port: Port,
    /// Another host than the pod: such a probe stays as it is, unless it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A call of gRPC's health service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grpc {
    /// The port.
    pub port: u16,
    /// The service that is asked about; none: the server as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A port by number, or by the name that its container gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl Default for Port {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whether the container takes requests.
    Readiness,
    /// Whether the container lives.
    Liveness,
    /// Whether the container has started.
    Startup,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Readiness, Self::Liveness, Self::Startup];

    /// The container's field, such as `readinessProbe`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Readiness => "readinessProbe",
            Self::Liveness => "livenessProbe",
            Self::Startup => "startupProbe",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
            Self::Startup => "startup",
        })
    }
}

/// What a container's probe is called among [`Probes`].
pub fn key(container: &str, kind: Kind) -> String {
    format!("{container}/{kind}")
}

/// Where the sidecar answers a probe.
pub fn path(key: &str) -> String {
    format!("/probe/{key}")
}

/// Reads `MESH_PROBES`.
///
/// # Errors
/// When it is not JSON of this form.
pub fn parse(text: &str) -> Result<Probes, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|error| format!("{}: {}", error.path(), error.inner()))
}
