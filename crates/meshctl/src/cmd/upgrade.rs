//! After an upgrade: which workloads are to be restarted, so that their proxies are of the new release too.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use mesh_api::inject::{INJECTED, PROXY};

use super::Context;
use super::check::pods::has_ended;
use crate::error::Outcome;
use crate::kubernetes::{Cluster, refused};
use crate::output::Table;

/// A workload of Kubernetes, such as `deployment/fraud` in `ml`.
type Owner = (String, String);

/// Tells the releases of proxies, and how to restart those that are older.
pub(crate) async fn report(context: &Context, cluster: &Cluster) -> Outcome {
    let params = ListParams::default().labels(&format!("{PROXY}=true"));
    let pods = cluster.all::<Pod>().list(&params).await;
    let pods = pods
        .map_err(|error| refused("cannot see the pods with a proxy", &error))?
        .items;
    let releases = releases(&pods);
    let mut table = Table::new(&["RELEASE", ">PROXIES", "WORKLOADS"]);
    for (release, (count, owners)) in &releases {
        let names: Vec<String> = owners
            .iter()
            .map(|(namespace, owner)| format!("{namespace}/{owner}"))
            .collect();
        table.row([
            release.as_str().into(),
            count.to_string().into(),
            names.join(" ").into(),
        ]);
    }
    if !table.is_empty() {
        context.printer.data(&table.render())?;
    }
    let commands = restarts(&releases);
    match commands.len() {
        0 => context.printer.say("every proxy is of this release"),
        _ => {
            context.printer.say("to restart what has an older proxy:");
            for command in commands {
                context.printer.say(format!("  {command}"));
            }
        }
    }
    Ok(())
}

/// How many proxies there are of each release, and in which workloads.
fn releases(pods: &[Pod]) -> BTreeMap<String, (usize, BTreeSet<Owner>)> {
    let mut releases: BTreeMap<String, (usize, BTreeSet<Owner>)> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| !has_ended(pod) && pod.metadata.deletion_timestamp.is_none())
    {
        let annotations = pod.metadata.annotations.as_ref();
        let release = annotations
            .and_then(|it| it.get(INJECTED))
            .map_or("unknown", String::as_str);
        let (count, owners) = releases.entry(release.to_owned()).or_default();
        *count += 1;
        owners.insert((pod.metadata.namespace.clone().unwrap_or_default(), owner(pod)));
    }
    releases
}

/// What a pod belongs to, as `kubectl rollout restart` names it.
fn owner(pod: &Pod) -> String {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else {
        return format!("pod/{name}");
    };
    let hash = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("pod-template-hash"));
    // A ReplicaSet is named after its Deployment and the hash of its template.
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(&format!("-{hash}")));
    match (owner.kind.as_str(), deployment) {
        ("ReplicaSet", Some(deployment)) => format!("deployment/{deployment}"),
        (kind, _) => format!("{}/{}", kind.to_lowercase(), owner.name),
    }
}

fn restarts(releases: &BTreeMap<String, (usize, BTreeSet<Owner>)>) -> Vec<String> {
    let mut by_namespace: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let old = releases
        .iter()
        .filter(|(release, _)| *release != env!("CARGO_PKG_VERSION"));
    for (namespace, owner) in old.flat_map(|(_, (_, owners))| owners) {
        by_namespace.entry(namespace).or_default().insert(owner);
    }
    let mut commands = Vec::new();
    for (namespace, owners) in by_namespace {
        let restartable = |owner: &&str| {
            ["deployment/", "statefulset/", "daemonset/"]
                .iter()
                .any(|kind| owner.starts_with(kind))
        };
        let (rollouts, others): (Vec<&str>, Vec<&str>) = owners.into_iter().partition(restartable);
        if !rollouts.is_empty() {
            commands.push(format!(
                "kubectl rollout restart -n {namespace} {}",
                rollouts.join(" ")
            ));
        }
        if !others.is_empty() {
            commands.push(format!("# in {namespace}, when it suits: {}", others.join(" ")));
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(namespace: &str, name: &str, release: &str, owner: Option<(&str, &str)>) -> Pod {
        let owners: Vec<_> = owner
            .iter()
            .map(|(kind, name)| json!({"kind": kind, "name": name, "controller": true, "apiVersion": "v1", "uid": "1"}))
            .collect();
        serde_json::from_value(json!({"metadata": {
            "namespace": namespace, "name": name,
            "labels": {"pod-template-hash": "7d4f"},
            "annotations": {"mesh.dev/injected": release},
            "ownerReferences": owners,
        }}))
        .unwrap()
    }

    #[test]
    fn older_proxies_are_restarted_by_their_workloads() {
        let own = env!("CARGO_PKG_VERSION");
        let releases = releases(&[
            pod("ml", "fraud-7d4f-a", "0.0.9", Some(("ReplicaSet", "fraud-7d4f"))),
            pod("ml", "fraud-7d4f-b", "0.0.9", Some(("ReplicaSet", "fraud-7d4f"))),
            pod("ml", "store-0", "0.0.9", Some(("StatefulSet", "store"))),
            pod("ml", "once-x", "0.0.9", Some(("Job", "once"))),
            pod("shop", "alone", "0.0.8", None),
            pod("shop", "new-7d4f-a", own, Some(("ReplicaSet", "new-7d4f"))),
        ]);
        assert_eq!(releases["0.0.9"].0, 4);
        assert_eq!(
            restarts(&releases),
            [
                "kubectl rollout restart -n ml deployment/fraud statefulset/store",
                "# in ml, when it suits: job/once",
                "# in shop, when it suits: pod/alone",
            ]
        );
    }
}
