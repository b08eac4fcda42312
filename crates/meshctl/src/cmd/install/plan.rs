//! What an installation consists of, and what is there of one.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use mesh_api::name::Name;
use serde_json::{Value, json};

use crate::chart;
use crate::error::{Failure, Outcome};
use crate::kubernetes::{Cluster, Manifest, is_forbidden, refused};

/// The annotation of the mesh's namespace with the values that were given, so that an upgrade keeps them.
const VALUES: &str = "mesh.dev/install-values";
/// Tells what belongs to the mesh.
pub(crate) const PART_OF: &str = "app.kubernetes.io/part-of";

/// The objects of an installation.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where the control plane is.
    pub(crate) namespace: Manifest,
    /// The mesh's kinds.
    pub(crate) crds: Vec<Manifest>,
    /// The control plane and what it needs, in order.
    pub(crate) control: Vec<Manifest>,
    /// What makes the API server ask the control plane.
    pub(crate) webhooks: Vec<Manifest>,
}

impl Plan {
    /// The installation with these values over the chart's own.
    pub(crate) fn of(values: &Value, namespace: &Name) -> Outcome<Self> {
        let mut all = chart::defaults()?;
        chart::merge(&mut all, values.clone());
        let objects = chart::objects_with(&all, namespace.as_str()).map_err(|error| {
            Failure::new(format!("the values do not fit: {error}"))
                .hint("docs/kubernetes.md lists them; charts/mesh/values.yaml has their defaults")
        })?;
        let known = |objects: Vec<Value>| {
            let manifests: Option<Vec<Manifest>> = objects.into_iter().map(Manifest::of).collect();
            let mut manifests =
                manifests.ok_or_else(|| Failure::new("the chart has an object of an unknown kind"))?;
            manifests.sort_by_key(|manifest| manifest.resource.rank());
            Ok::<_, Failure>(manifests)
        };
        let crds = known(chart::crds()?)?;
        let (webhooks, control) = known(objects)?
            .into_iter()
            .partition(|manifest| manifest.resource.kind.ends_with("WebhookConfiguration"));
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace.as_str(),
                "labels": {
                    PART_OF: "mesh",
                    "mesh.dev/inject": "disabled",
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
                "annotations": {VALUES: values.to_string()},
            },
        });
        let namespace =
            Manifest::of(namespace).ok_or_else(|| Failure::new("a Namespace is no known kind"))?;
        Ok(Self {
            namespace,
            crds,
            control,
            webhooks,
        })
    }

    /// All objects, in the order in which they are made.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Manifest> {
        std::iter::once(&self.namespace)
            .chain(&self.crds)
            .chain(&self.control)
            .chain(&self.webhooks)
    }
}

/// What is there of an installation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Installed {
    /// The release that the control plane is of; none: the control plane itself is not there.
    pub(crate) release: Option<String>,
    /// The Helm release that it belongs to, if Helm made it.
    pub(crate) helm: Option<String>,
    /// The values it was given.
    pub(crate) values: Value,
}

/// Looks for an installation in the mesh's namespace.
pub(crate) async fn installed(cluster: &Cluster) -> Outcome<Option<Installed>> {
    let name = cluster.namespace.as_str();
    let namespace = match cluster.all::<Namespace>().get_opt(name).await {
        Err(error) if is_forbidden(&error) => None,
        other => other.map_err(|error| refused(&format!("cannot see namespace {name}"), &error))?,
    };
    let values = namespace
        .and_then(|namespace| namespace.metadata.annotations?.remove(VALUES))
        .map(|text| {
            serde_json::from_str(&text).map_err(|error| {
                Failure::new(format!(
                    "annotation {VALUES} of namespace {name} is not JSON: {error}"
                ))
                .hint("--reset-values begins without it")
            })
        })
        .transpose()?;
    let deployment = cluster
        .own::<Deployment>()
        .get_opt("mesh-control")
        .await
        .map_err(|error| refused("cannot see Deployment mesh-control", &error))?;
    if values.is_none() && deployment.is_none() {
        return Ok(None);
    }
    let metadata = deployment
        .map(|deployment| deployment.metadata)
        .unwrap_or_default();
    Ok(Some(Installed {
        release: metadata
            .labels
            .unwrap_or_default()
            .remove("app.kubernetes.io/version"),
        helm: metadata
            .annotations
            .unwrap_or_default()
            .remove("meta.helm.sh/release-name"),
        values: values.unwrap_or_else(|| json!({})),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_come_when_there_is_somebody_to_answer_them() {
        let plan = Plan::of(&json!({"ha": true}), &"mesh-system".parse().unwrap()).unwrap();
        let kinds: Vec<&str> = plan.all().map(|manifest| manifest.resource.kind).collect();
        let place = |kind: &str| kinds.iter().position(|other| *other == kind).unwrap();
        assert_eq!(place("Namespace"), 0);
        for before in ["ServiceAccount", "ClusterRoleBinding", "ConfigMap", "Service"] {
            assert!(place(before) < place("Deployment"), "{before}");
        }
        assert!(place("Deployment") < place("MutatingWebhookConfiguration"));
        assert_eq!(plan.webhooks.len(), 2);
    }
}
