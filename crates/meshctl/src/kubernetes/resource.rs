//! The resources that meshctl writes: what they are called, and in which order they are made.

use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};

/// A resource of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// Its group; empty: the core's.
    pub(crate) group: &'static str,
    /// The version that is written.
    pub(crate) version: &'static str,
    /// Its name in the plural.
    pub(crate) plural: &'static str,
    /// Whether its objects are in namespaces.
    pub(crate) namespaced: bool,
}

const fn resource(
    kind: &'static str,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Resource {
    Resource {
        kind,
        group,
        version,
        plural,
        namespaced,
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

impl Resource {
    /// The resources of an installation, in the order in which they are made; they are taken away in the other one.
    /// Webhooks come last, when there is somebody to answer them.
    pub(crate) const INSTALLED: &[Self] = &[
        resource("Namespace", "", "v1", "namespaces", false),
        resource(
            "CustomResourceDefinition",
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            false,
        ),
        resource("ServiceAccount", "", "v1", "serviceaccounts", true),
        resource("ClusterRole", RBAC, "v1", "clusterroles", false),
        resource("ClusterRoleBinding", RBAC, "v1", "clusterrolebindings", false),
        resource("Role", RBAC, "v1", "roles", true),
        resource("RoleBinding", RBAC, "v1", "rolebindings", true),
        resource("ConfigMap", "", "v1", "configmaps", true),
        resource("Service", "", "v1", "services", true),
        resource(
            "PodDisruptionBudget",
            "policy",
            "v1",
            "poddisruptionbudgets",
            true,
        ),
        resource("Deployment", "apps", "v1", "deployments", true),
        resource(
            "MutatingWebhookConfiguration",
            ADMISSION,
            "v1",
            "mutatingwebhookconfigurations",
            false,
        ),
        resource(
            "ValidatingWebhookConfiguration",
            ADMISSION,
            "v1",
            "validatingwebhookconfigurations",
            false,
        ),
    ];

    /// What the control plane makes by itself.
    pub(crate) const MADE: &[Self] = &[
        resource("Secret", "", "v1", "secrets", true),
        resource("Lease", "coordination.k8s.io", "v1", "leases", true),
    ];

    /// The mesh's own kinds.
    pub(crate) const DOCUMENTS: &[Self] = &[
        resource("MeshConfig", "mesh.dev", "v1alpha1", "meshconfigs", true),
        resource("TrafficPolicy", "mesh.dev", "v1alpha1", "trafficpolicies", true),
        resource("ModelRoute", "mesh.dev", "v1alpha1", "modelroutes", true),
    ];

    /// What runs.
    pub(crate) const POD: &Self = &resource("Pod", "", "v1", "pods", true);

    /// The resource of a kind that meshctl knows.
    pub(crate) fn of(kind: &str) -> Option<&'static Self> {
        let all = Self::INSTALLED.iter().chain(Self::MADE).chain(Self::DOCUMENTS);
        all.into_iter().find(|resource| resource.kind == kind)
    }

    /// Where its kind stands in the order of an installation.
    pub(crate) fn rank(&self) -> usize {
        let place = Self::INSTALLED.iter().position(|other| other == self);
        place.unwrap_or(Self::INSTALLED.len())
    }

    /// Its objects in a namespace; in all of them without one.
    pub(crate) fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(self.group, self.version, self.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, self.plural);
        match namespace {
            Some(namespace) if self.namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
            _ => Api::all_with(client.clone(), &resource),
        }
    }
}
