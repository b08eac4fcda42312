//! The kinds as custom resources of Kubernetes: typed objects made of the very types that read documents, their status,
//! and the CustomResourceDefinitions that an API server is given.
//!
//! `Workload` and `Service` are kinds of the standalone mesh alone: on Kubernetes there are Pods and Services.

mod crd;
mod read;
mod status;
mod structural;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::{Deserialize, Serialize};

pub use crd::{all as crds, file_name};
pub use read::read;
pub use status::{ConditionType, Conditions, ModelRouteStatus, Status, condition};

use crate::document::{API_VERSION, Kind, MeshConfigSpec, ModelRouteSpec, TrafficPolicySpec};

/// The API group of the kinds.
pub const GROUP: &str = "mesh.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";
/// The category that `kubectl get mesh` lists.
pub const CATEGORY: &str = "mesh";
/// The name of the one MeshConfig that counts, in the namespace of the control plane.
pub const MESH_CONFIG: &str = "mesh";

/// How a service's requests are split over backends, as a custom resource.
pub type ModelRoute = Resource<ModelRouteSpec, ModelRouteStatus>;
/// How endpoints of a service are connected to and chosen, as a custom resource.
pub type TrafficPolicy = Resource<TrafficPolicySpec, Status>;
/// Mesh-wide settings, as a custom resource.
pub type MeshConfig = Resource<MeshConfigSpec, Status>;

/// A custom resource: what a document says (`S`), in the form of Kubernetes and with a status (`T`).
///
/// Reading one fails when its spec says what the document may not say. Whoever lists or watches many of them takes
/// `DynamicObject` and [`read`] instead, so that a bad object refuses itself alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "S: Deserialize<'de>, T: Deserialize<'de>")
)]
pub struct Resource<S, T> {
    /// `mesh.dev/v1alpha1`
    pub api_version: String,
    /// The kind, such as `ModelRoute`.
    pub kind: String,
    /// Name, namespace, labels and all that Kubernetes keeps of an object.
    pub metadata: ObjectMeta,
    /// What the document says.
    pub spec: S,
    /// What has come of it.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub status: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

impl<S: Spec, T> Resource<S, T> {
    /// An object of this name, without a status.
    pub fn new(namespace: &str, name: &str, spec: S) -> Self {
        Self {
            api_version: API_VERSION.into(),
            kind: S::KIND.as_str().into(),
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(namespace.into()),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        }
    }
}

/// What a document of one kind says.
pub trait Spec {
    /// The kind.
    const KIND: Kind;
    /// What the API server calls many of them.
    const PLURAL: &'static str;
}

impl Spec for ModelRouteSpec {
    const KIND: Kind = Kind::ModelRoute;
    const PLURAL: &'static str = "modelroutes";
}

impl Spec for TrafficPolicySpec {
    const KIND: Kind = Kind::TrafficPolicy;
    const PLURAL: &'static str = "trafficpolicies";
}

impl Spec for MeshConfigSpec {
    const KIND: Kind = Kind::MeshConfig;
    const PLURAL: &'static str = "meshconfigs";
}

impl<S: Spec, T> kube::Resource for Resource<S, T> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        S::KIND.as_str().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        S::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
