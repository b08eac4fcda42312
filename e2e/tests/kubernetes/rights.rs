//! Acceptance: the control plane uses every right that it has been given, and asks for none that it has not.
//!
//! What it asks stands in the API server's audit log, with names and verbs.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::{Kubectl, Namespace};
use serde_json::Value;

use crate::mesh::{CLIENT, FRAUD, INJECT, Mesh, SYSTEM, model};

/// One of each kind that the control plane writes the status of.
const DOCUMENTS: &str = "
apiVersion: mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: fraud}
spec: {service: fraud, loadBalancing: {algorithm: round-robin}}
";
const MESH_CONFIG: &str = "
apiVersion: mesh.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {mtls: permissive}
";
/// Kinds that the cluster need not have: there is nothing to be asked about them then.
const OPTIONAL: &str = "gateway.networking.k8s.io";

/// A right: a verb, on a resource such as `pods` or `modelroutes.mesh.dev/status`, of one name or of any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    resource: String,
    name: String,
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn resource(group: &str, resource: &str, subresource: &str) -> String {
    let mut text = resource.to_owned();
    for (sign, part) in [('.', group), ('/', subresource)] {
        if !part.is_empty() {
            text.push(sign);
            text.push_str(part);
        }
    }
    text
}

/// What a role grants.
fn granted(role: &Value) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let names: Vec<_> = texts(&rule["resourceNames"]).collect();
        let names = if names.is_empty() { vec![""] } else { names };
        for group in texts(&rule["apiGroups"]) {
            for full in texts(&rule["resources"]) {
                let (plain, sub) = full.split_once('/').unwrap_or((full, ""));
                for verb in texts(&rule["verbs"]) {
                    rights.extend(names.iter().map(|name| Right {
                        verb: verb.to_owned(),
                        resource: resource(group, plain, sub),
                        name: (*name).to_owned(),
                    }));
                }
            }
        }
    }
    rights
}

/// The rights that an event took.
fn taken(event: &Value) -> Vec<Right> {
    let object = &event["objectRef"];
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    // Lists and watches name their object by a selector.
    let uri = event["requestURI"].as_str().unwrap_or_default();
    let selected = uri
        .split_once("fieldSelector=metadata.name%3D")
        .map(|(_, rest)| rest.split('&').next().unwrap_or_default());
    let right = |verb: &str| Right {
        verb: verb.to_owned(),
        resource: resource(text("apiGroup"), text("resource"), text("subresource")),
        name: selected.unwrap_or(text("name")).to_owned(),
    };
    let verb = event["verb"].as_str().unwrap_or_default();
    let mut rights = vec![right(verb)];
    // Server-side apply of what was not there takes the right to create it, too.
    if verb == "patch" && event["responseStatus"]["code"] == 201 {
        rights.push(right("create"));
    }
    rights
}

/// The rights that nobody took of those that were granted.
fn unused(granted: &BTreeSet<Right>, taken: &BTreeSet<Right>) -> Vec<Right> {
    let used = |right: &Right| {
        taken.iter().any(|it| {
            it.verb == right.verb
                && it.resource == right.resource
                && (right.name.is_empty() || it.name == right.name)
        })
    };
    granted.iter().filter(|right| !used(right)).cloned().collect()
}

fn roles(cluster: &Kubectl) -> Result<BTreeSet<Right>> {
    let mut rights = granted(&cluster.get(&["clusterrole", "mesh-control"])?);
    rights.extend(granted(&cluster.within(SYSTEM).get(&["role", "mesh-control"])?));
    ensure!(rights.len() > 20, "{rights:?}");
    Ok(rights)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_right_is_used_and_none_is_missing() -> Result<()> {
    let mesh = Mesh::prepared()?;
    let cluster = mesh.cluster();
    if !cluster.is_own() {
        eprintln!("SKIPPED: the audit log is read on this machine's own cluster alone");
        return Ok(());
    }
    // From the beginning: what the first replica makes is made once.
    mesh.meshctl(&["uninstall", "--yes", "--crds"])?;
    mesh.install()?;
    // One of them writes for all, the other tells it what to.
    let two = ["scale", "deployment/mesh-control", "--replicas=2"];
    cluster.kubectl().within(SYSTEM).run(&two)?;
    let rights = roles(cluster.kubectl())?;
    Namespace::scenario("rights", &[INJECT], async |namespace| {
        let documents = model("fraud-v1", 1) + FRAUD + DOCUMENTS + "---" + CLIENT;
        namespace.apply(&documents).await?;
        cluster.kubectl().within(SYSTEM).apply(MESH_CONFIG)?;
        namespace.rolled_out("fraud-v1").await?;
        namespace.condition("pod/client", "Ready").await?;
        // It goes on by itself, and need not come to its end for this.
        mesh.meshctl(&["rotate"])?;
        let left = namespace
            .until("every right to be used", async || {
                let events = cluster.audited(&format!("{SYSTEM}:mesh-control"))?;
                // Nothing can be made in a namespace that goes, and that one does is known when it is tried.
                let refused = events.iter().map(Value::to_string).find(|event| {
                    event.contains("\"code\":403") && !event.contains("because it is being terminated")
                });
                ensure!(refused.is_none(), "it may not: {}", refused.unwrap_or_default());
                let used = events.iter().flat_map(taken).collect();
                let left = unused(&rights, &used);
                let due = left
                    .iter()
                    .filter(|right| !right.resource.contains(OPTIONAL))
                    .count();
                Ok((due == 0).then_some(left))
            })
            .await;
        // What is missing is of more use than that something is.
        let events = cluster.audited(&format!("{SYSTEM}:mesh-control"))?;
        let used = events.iter().flat_map(taken).collect();
        let left = left.with_context(|| format!("never used: {:#?}", unused(&rights, &used)))?;
        if !left.is_empty() {
            eprintln!(
                "SKIPPED: {} rights to kinds of {OPTIONAL}, which is not installed",
                left.len()
            );
        }
        cluster
            .kubectl()
            .run(&["delete", "meshconfig", "mesh", "--namespace", SYSTEM])?;
        Ok(())
    })
    .await?;
    // The next one begins without a rotation under way.
    mesh.meshctl(&["uninstall", "--yes", "--crds"]).map(drop)
}
