//! Documents: the objects people write, as YAML files or Kubernetes resources of group `mesh.dev/v1alpha1`.
//!
//! The types here are the single source of the JSON Schema, the reference and the CRDs.

mod mesh_config;
mod metadata;
mod model_route;
mod parse;
mod service;
mod traffic_policy;
mod workload;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use mesh_config::{
    AccessLogSpec, BeyondReadAhead, DetectionSpec, InferenceSpec, MeshConfigSpec, MtlsMode, TelemetrySpec,
    TracingSpec,
};
pub use metadata::Metadata;
pub use model_route::{
    BackendSpec, HeaderEditsSpec, HeaderMatch, HeadersSpec, MatchSpec, ModelRewriteSpec, ModelRouteSpec,
    PathMatch, RetriesSpec, RuleSpec, SplitBy, SplitSpec, StringMatch, TimeoutsSpec,
};
pub use parse::{DocumentError, Source, parse_all, parse_one, sources};
pub use service::{ExternalEndpoint, ServicePortSpec, ServicePortTarget, ServiceSpec};
pub use traffic_policy::{BalancerKind, ConnectionSpec, LoadBalancingSpec, TrafficPolicySpec};
pub use workload::{
    CommandSpec, InterceptionSpec, LocalPortSpec, OutboundSpec, ReadinessSpec, WorkloadPortSpec, WorkloadSpec,
};

use crate::name::ObjectName;

/// Group and version of every document.
pub const API_VERSION: &str = "mesh.dev/v1alpha1";

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// Mesh-wide settings.
    MeshConfig,
    /// A name that requests are sent to.
    Service,
    /// A process behind a sidecar.
    Workload,
    /// How a service's requests are split over backends.
    ModelRoute,
    /// How endpoints of a service are connected to and chosen.
    TrafficPolicy,
}

impl Kind {
    /// Every kind, in the order in which documents depend on each other.
    pub const ALL: [Self; 5] = [
        Self::MeshConfig,
        Self::Workload,
        Self::Service,
        Self::TrafficPolicy,
        Self::ModelRoute,
    ];

    /// The kind as documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MeshConfig => "MeshConfig",
            Self::Service => "Service",
            Self::Workload => "Workload",
            Self::ModelRoute => "ModelRoute",
            Self::TrafficPolicy => "TrafficPolicy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}: use one of MeshConfig, Service, Workload, ModelRoute, TrafficPolicy")]
pub struct UnknownKind(String);

/// Reads a kind as documents write it, or as people type it: in any case, in the plural too.
impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let word = text.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|kind| {
                let name = kind.as_str().to_ascii_lowercase();
                word == name
                    || word.strip_suffix('s') == Some(&name)
                    || (name == "trafficpolicy" && word == "trafficpolicies")
            })
            .ok_or_else(|| UnknownKind(text.chars().take(64).collect()))
    }
}

/// Which object: its kind, namespace and name. Written `ModelRoute ml/fraud`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectId {
    /// What kind of object.
    pub kind: Kind,
    /// Where it lives and what it is called.
    #[serde(flatten)]
    pub name: ObjectName,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A whole document of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object<S> {
    /// `mesh.dev/v1alpha1`
    pub api_version: String,
    /// The kind, such as `ModelRoute`
    pub kind: Kind,
    /// Name, namespace, labels and annotations
    pub metadata: Metadata,
    /// What the document says
    pub spec: S,
}

impl<S> Object<S> {
    /// Which object this is.
    pub fn id(&self) -> ObjectId {
        ObjectId {
            kind: self.kind,
            name: self.metadata.object_name(),
        }
    }
}

/// A document of any kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Document {
    /// Mesh-wide settings.
    MeshConfig(Object<MeshConfigSpec>),
    /// A name that requests are sent to.
    Service(Object<ServiceSpec>),
    /// A process behind a sidecar.
    Workload(Box<Object<WorkloadSpec>>),
    /// How a service's requests are split over backends.
    ModelRoute(Object<ModelRouteSpec>),
    /// How endpoints of a service are connected to and chosen.
    TrafficPolicy(Object<TrafficPolicySpec>),
}

impl Document {
    /// Which object this is.
    pub fn id(&self) -> ObjectId {
        match self {
            Self::MeshConfig(object) => object.id(),
            Self::Service(object) => object.id(),
            Self::Workload(object) => object.id(),
            Self::ModelRoute(object) => object.id(),
            Self::TrafficPolicy(object) => object.id(),
        }
    }
}
