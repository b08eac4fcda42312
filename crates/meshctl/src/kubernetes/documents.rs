//! The mesh's documents as objects of the API server, with their owner's credentials.

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use mesh_api::document::Kind;
use serde_json::{Value, json};

use super::{Cluster, Resource, conflicts, is_missing, refused};
use crate::error::{Failure, Outcome};

/// Who owns the fields that `meshctl apply` sets.
pub(crate) const MANAGER: &str = "meshctl";

/// The resource of a kind of documents.
///
/// # Errors
/// When Kubernetes has objects of its own for it.
pub(crate) fn resource(kind: Kind) -> Outcome<&'static Resource> {
    match kind {
        Kind::MeshConfig | Kind::TrafficPolicy | Kind::ModelRoute => {
            Resource::of(kind.as_str()).ok_or_else(|| Failure::new(format!("{kind} is no known kind")))
        }
        Kind::Workload => Err(
            Failure::new("there are no Workloads on Kubernetes: pods are what runs there")
                .hint("`kubectl get pods` shows them, `meshctl proxy` their proxies"),
        ),
        Kind::Service => {
            Err(Failure::new("Services on Kubernetes are its own").hint("`kubectl get services` shows them"))
        }
    }
}

/// The objects of a kind, or of all kinds.
pub(crate) async fn list(cluster: &Cluster, kind: Option<Kind>) -> Outcome<Vec<Value>> {
    let resources: Vec<&Resource> = match kind {
        Some(kind) => vec![resource(kind)?],
        None => Resource::DOCUMENTS.iter().collect(),
    };
    let mut objects = Vec::new();
    for resource in resources {
        let listed = match resource
            .api(&cluster.client, None)
            .list(&ListParams::default())
            .await
        {
            Ok(listed) => listed,
            Err(error) if is_missing(&error) => {
                return Err(
                    Failure::new(format!("{} has no {}", cluster.context, resource.plural))
                        .hint("`meshctl install` brings the mesh there"),
                );
            }
            Err(error) => return Err(refused(&format!("cannot see the {}", resource.plural), &error)),
        };
        for object in listed {
            objects.push(whole(object, resource)?);
        }
    }
    Ok(objects)
}

/// Items of a list leave out what they are.
fn whole(object: DynamicObject, resource: &Resource) -> Outcome<Value> {
    let mut object = serde_json::to_value(object)?;
    object["apiVersion"] = json!(format!("{}/{}", resource.group, resource.version));
    object["kind"] = json!(resource.kind);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(object)
}

/// Applies a document, and says what that did: created, configured or unchanged.
pub(crate) async fn apply(
    cluster: &Cluster,
    kind: Kind,
    object: &Value,
    dry_run: bool,
    force: bool,
) -> Outcome<&'static str> {
    let resource = resource(kind)?;
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let what = format!("{kind} {namespace}/{name}");
    let api = resource.api(&cluster.client, Some(namespace));
    let before = api.get_opt(name).await;
    let before = before.map_err(|error| refused(&format!("cannot see {what}"), &error))?;
    let mut params = PatchParams::apply(MANAGER);
    (params.dry_run, params.force) = (dry_run, force);
    let after = match api.patch(name, &params, &Patch::Apply(object)).await {
        Ok(after) => after,
        Err(error) => {
            let conflicts = conflicts(&error);
            if conflicts.is_empty() {
                return Err(refused(&format!("cannot apply {what}"), &error));
            }
            let lines = conflicts
                .iter()
                .map(|it| format!("{} owns {}", it.owner, it.field));
            let lines: Vec<String> = lines.collect();
            return Err(Failure::new(format!(
                "cannot apply {what}: fields belong to somebody else:\n{}",
                lines.join("\n")
            ))
            .hint("leave those fields out, or take them over with --force-conflicts"));
        }
    };
    Ok(match before {
        None => "created",
        Some(before) => {
            let changes = super::changes(&serde_json::to_value(before)?, &serde_json::to_value(after)?);
            if changes.is_empty() {
                "unchanged"
            } else {
                "configured"
            }
        }
    })
}

/// Deletes a document.
pub(crate) async fn delete(cluster: &Cluster, kind: Kind, namespace: &str, name: &str) -> Outcome {
    let api = resource(kind)?.api(&cluster.client, Some(namespace));
    let deleted = api.delete(name, &DeleteParams::default()).await;
    deleted.map_err(|error| refused(&format!("cannot delete {kind} {namespace}/{name}"), &error))?;
    Ok(())
}
