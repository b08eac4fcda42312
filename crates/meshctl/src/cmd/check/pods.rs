//! Whether the pods that should have a proxy have one that works.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Pod};
use mesh_api::inject::{INJECT, INJECTED, PROXY};
use mesh_api::wire::admin::ProxyList;

use super::proxies;
use crate::finding::{Finding, Verdict, ok, wrong};
use crate::kubernetes::is_ready;

/// How long a pod may take until its proxy is connected, in seconds.
const STARTING: i64 = 60;
/// How many names a line has.
const NAMED: usize = 5;

/// What is there.
pub(super) struct Seen {
    /// Of all namespaces.
    pub(super) pods: Vec<Pod>,
    /// All of them.
    pub(super) namespaces: Vec<Namespace>,
    /// The namespaces that have the roots.
    pub(super) bundles: BTreeSet<String>,
    /// As the control plane knows them.
    pub(super) proxies: ProxyList,
    /// The mesh's own namespace.
    pub(super) mesh: String,
}

/// Looks at all pods, `now` in seconds since 1970.
pub(super) fn look(seen: &Seen, now: i64) -> Vec<Finding> {
    let live = seen
        .pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !has_ended(pod));
    let (injected, others): (Vec<&Pod>, Vec<&Pod>) = live.partition(|pod| has_proxy(pod));
    let mut findings = Vec::new();
    findings.extend(interception(&injected));
    findings.extend(not_ready(&injected));
    findings.extend(not_connected(&injected, seen, now));
    for proxy in seen.proxies.proxies.iter().filter(|proxy| proxy.connected) {
        findings.extend(proxies::one(proxy, seen.proxies.version, now));
    }
    findings.extend(releases(&injected));
    findings.extend(left_out(&others, seen));
    findings.extend(bundles(seen));
    if findings.iter().all(|finding| finding.verdict == Verdict::Ok) {
        let says = match injected.len() {
            0 => "no pod has a proxy yet".into(),
            1 => "1 pod has a proxy, and it is connected".into(),
            count => format!("{count} pods have a proxy, and all are connected"),
        };
        findings.push(ok("proxies", says));
    }
    findings
}

/// `namespace/name`.
pub(crate) fn name_of(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    )
}

/// Whether a pod has a proxy.
pub(crate) fn has_proxy(pod: &Pod) -> bool {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(PROXY))
        .is_some_and(|it| it == "true")
}

/// Whether all of a pod's work is done.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn some_of(names: &[String]) -> String {
    match names.len() {
        count if count > NAMED => format!("{}, and {} more", names[..NAMED].join(", "), count - NAMED),
        _ => names.join(", "),
    }
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref());
    let usual = status.and_then(|status| status.container_statuses.as_deref());
    init.into_iter().chain(usual).flatten()
}

/// Nodes on which connections can't be led to the proxy.
fn interception(injected: &[&Pod]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pod in injected {
        let Some(init) = statuses(pod).find(|status| status.name == "mesh-init") else {
            continue;
        };
        let states = [init.state.as_ref(), init.last_state.as_ref()];
        let ended = states
            .into_iter()
            .flatten()
            .find_map(|state| state.terminated.as_ref());
        let Some(ended) = ended.filter(|ended| ended.exit_code != 0) else {
            continue;
        };
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or("unknown");
        let message = ended
            .message
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty());
        findings.push(wrong(
            "interception",
            Verdict::Failed,
            format!(
                "mesh-init of pod {} failed on node {node}: {}",
                name_of(pod),
                message.map_or_else(|| format!("exit code {}", ended.exit_code), ToOwned::to_owned)
            ),
            "the node's kernel needs nf_tables, and the pod NET_ADMIN for mesh-init: `kubectl logs POD -c mesh-init` says more",
        ));
    }
    if findings.is_empty() && !injected.is_empty() {
        findings.push(ok("interception", "every node takes the nftables rules"));
    }
    findings
}

fn not_ready(injected: &[&Pod]) -> Vec<Finding> {
    let not_ready = injected.iter().filter(|pod| !is_ready(pod));
    let blamed = not_ready.filter_map(|pod| {
        // Without a status of the proxy, the pod is not that far yet.
        let proxy = statuses(pod).find(|status| status.name == "mesh-proxy")?;
        let waiting = proxy.state.as_ref().and_then(|state| state.waiting.as_ref());
        let waits = waiting.and_then(|waiting| waiting.reason.clone());
        let by_proxy = match (proxy.ready, waits.as_deref()) {
            (true, _) => false,
            (false, Some("PodInitializing" | "ContainerCreating")) => return None,
            (false, _) => true,
        };
        let reason = waits.map(|reason| format!(" ({reason})")).unwrap_or_default();
        Some(match by_proxy {
            true => wrong(
                "proxies",
                Verdict::Failed,
                format!("the proxy of pod {} is not ready{reason}", name_of(pod)),
                "`kubectl logs POD -c mesh-proxy` says why",
            ),
            false => wrong(
                "proxies",
                Verdict::Warning,
                format!("pod {} is not ready, though its proxy is", name_of(pod)),
                "`kubectl describe pod` says which container is not, and why",
            ),
        })
    });
    blamed.collect()
}

fn not_connected(injected: &[&Pod], seen: &Seen, now: i64) -> Option<Finding> {
    let proxies = seen.proxies.proxies.iter().filter(|proxy| proxy.connected);
    let connected: BTreeSet<&str> = proxies.map(|proxy| proxy.workload.as_str()).collect();
    let started = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|status| Some(status.start_time.as_ref()?.0.as_second()))
    };
    let late = injected.iter().filter(|pod| {
        let running = pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Running");
        running && started(pod).is_none_or(|started| now - started > STARTING)
    });
    let away: Vec<String> = late
        .map(|pod| name_of(pod))
        .filter(|name| !connected.contains(name.as_str()))
        .collect();
    if away.is_empty() {
        return None;
    }
    Some(wrong(
        "proxies",
        Verdict::Failed,
        format!(
            "{} of {} proxies are not connected: {}",
            away.len(),
            injected.len(),
            some_of(&away)
        ),
        "they serve what they had; `kubectl logs POD -c mesh-proxy` says what keeps them from the control plane",
    ))
}

fn releases(injected: &[&Pod]) -> Option<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let mut old: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in injected {
        let annotations = pod.metadata.annotations.as_ref();
        let release = annotations
            .and_then(|annotations| annotations.get(INJECTED))
            .map_or("unknown", String::as_str);
        if release != own {
            *old.entry(release).or_default() += 1;
        }
    }
    if old.is_empty() {
        return None;
    }
    let counts: Vec<String> = old
        .iter()
        .map(|(release, count)| format!("{count} of release {release}"))
        .collect();
    Some(wrong(
        "versions",
        Verdict::Warning,
        format!(
            "meshctl is {own}, and there are proxies of others: {}",
            counts.join(", ")
        ),
        "`meshctl upgrade` says which workloads to restart",
    ))
}

/// Pods that have no proxy, where their namespace asks for it.
fn left_out(others: &[&Pod], seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for namespace in &seen.namespaces {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let labels = namespace.metadata.labels.as_ref();
        let annotations = namespace.metadata.annotations.as_ref();
        let asks = labels
            .and_then(|map| map.get(INJECT))
            .or_else(|| annotations.and_then(|map| map.get(INJECT)));
        if asks.is_none_or(|it| it != "enabled") || name == seen.mesh {
            continue;
        }
        let here = others
            .iter()
            .filter(|pod| pod.metadata.namespace.as_deref() == Some(name));
        let without: Vec<String> = here
            .filter(|pod| {
                !opted_out(pod)
                    && pod
                        .spec
                        .as_ref()
                        .is_none_or(|spec| spec.host_network != Some(true))
            })
            .map(|pod| pod.metadata.name.clone().unwrap_or_default())
            .collect();
        if !without.is_empty() {
            findings.push(wrong(
                "injection",
                Verdict::Warning,
                format!(
                    "namespace {name} asks for proxies, and {} pods have none: {}",
                    without.len(),
                    some_of(&without)
                ),
                format!(
                    "they were there before: `kubectl rollout restart -n {name} deployment` gives them one; \
                     mesh.dev/inject: disabled on a pod leaves it out"
                ),
            ));
        }
    }
    findings
}

fn opted_out(pod: &Pod) -> bool {
    let maps = [pod.metadata.labels.as_ref(), pod.metadata.annotations.as_ref()];
    let mut asked = maps.into_iter().flatten().filter_map(|map| map.get(INJECT));
    asked.any(|it| it == "disabled")
}

/// Namespaces without the roots: no proxy could start there.
fn bundles(seen: &Seen) -> Vec<Finding> {
    let active = seen.namespaces.iter().filter(|namespace| {
        let phase = namespace
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase != Some("Terminating")
    });
    let names = active.filter_map(|namespace| namespace.metadata.name.clone());
    let (there, missing): (Vec<String>, Vec<String>) = names.partition(|name| seen.bundles.contains(name));
    if missing.is_empty() {
        return vec![ok(
            "certificates",
            format!("all {} namespaces have the roots", there.len()),
        )];
    }
    vec![wrong(
        "certificates",
        Verdict::Failed,
        format!("ConfigMap mesh-trust-bundle is missing in {}", some_of(&missing)),
        "the replica that holds Lease mesh-control writes it: see its log",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{plain, proxy};
    use serde_json::{Value, json};

    fn pod(name: &str, more: Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "namespace": "ml", "name": name,
                "labels": {"mesh.dev/proxy": "true"},
                "annotations": {"mesh.dev/injected": env!("CARGO_PKG_VERSION")},
            },
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {
                "phase": "Running",
                "startTime": "1970-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        crate::chart::merge(&mut pod, more);
        serde_json::from_value(pod).unwrap()
    }

    fn seen(pods: Vec<Pod>, proxies: ProxyList) -> Seen {
        let namespace = |name: &str, labels: Value| {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
        };
        Seen {
            pods,
            namespaces: vec![
                namespace("ml", json!({"mesh.dev/inject": "enabled"})),
                namespace("default", json!({})),
            ],
            bundles: BTreeSet::from(["ml".into(), "default".into()]),
            proxies,
            mesh: "mesh-system".into(),
        }
    }

    fn connected(names: &[&str]) -> ProxyList {
        ProxyList {
            proxies: names.iter().map(|name| proxy(name, 7)).collect(),
            version: 7,
        }
    }

    #[test]
    fn pods_that_are_well() {
        let seen = seen(
            vec![pod("a", json!({})), pod("b", json!({}))],
            connected(&["ml/a", "ml/b"]),
        );
        insta::assert_snapshot!(plain(&crate::finding::for_people(&look(&seen, 4_600))));
    }

    #[test]
    fn whatever_is_wrong_has_its_fix() {
        let without = json!({"metadata": {"labels": null, "annotations": null}});
        let crash = json!({"status": {
            "conditions": [{"type": "Ready", "status": "False"}],
            "phase": "Pending",
            "initContainerStatuses": [{
                "name": "mesh-init", "image": "", "imageID": "", "ready": false, "restartCount": 3,
                "lastState": {"terminated": {"exitCode": 1, "message": "nft: Operation not supported\n"}},
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            }],
        }});
        let unready = json!({"status": {
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [
                {"name": "mesh-proxy", "image": "", "imageID": "", "ready": true, "restartCount": 0},
                {"name": "triton", "image": "", "imageID": "", "ready": false, "restartCount": 0},
            ],
        }});
        let old = json!({"metadata": {"annotations": {"mesh.dev/injected": "0.0.9"}}});
        let mut seen = seen(
            vec![
                pod("away", json!({})),
                pod("crash", crash),
                pod("unready", unready),
                pod("old", old),
                pod("plain", without.clone()),
                pod(
                    "out",
                    json!({"metadata": {"labels": {"mesh.dev/inject": "disabled", "mesh.dev/proxy": null}}}),
                ),
                pod(
                    "host",
                    json!({"metadata": {"labels": null}, "spec": {"hostNetwork": true}}),
                ),
                pod(
                    "done",
                    json!({"metadata": {"labels": null}, "status": {"phase": "Succeeded"}}),
                ),
                pod("young", json!({"status": {"startTime": "1970-01-01T01:16:00Z"}})),
            ],
            connected(&["ml/unready", "ml/old"]),
        );
        seen.bundles.remove("ml");
        let findings = look(&seen, 4_600);
        assert!(
            findings
                .iter()
                .all(|it| it.verdict == Verdict::Ok || it.fix.is_some())
        );
        insta::assert_snapshot!(plain(&crate::finding::for_people(&findings)));
    }
}
