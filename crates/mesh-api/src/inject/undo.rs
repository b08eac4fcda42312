//! Takes a sidecar out again: the exact inverse of injecting it.

use serde_json::{Map, Value};

use super::checks::{is_injected, items};
use super::containers::VOLUMES;
use super::probe::{self, Kind, Probes};
use super::{INIT_CONTAINER, INJECTED, PROXY, PROXY_CONTAINER, PULL_SECRETS};

/// The pod as it was before it was injected; none: it was not. Empty lists and maps that injection would have filled are
/// gone too, as Kubernetes has none.
pub fn uninject(pod: &Value) -> Option<Value> {
    if !is_injected(pod).ok()? {
        return None;
    }
    let probes = probes(pod);
    let secrets = pod["metadata"]["annotations"][PULL_SECRETS].as_str();
    let secrets: Vec<&str> = secrets.into_iter().flat_map(|names| names.split(',')).collect();
    let mut pod = pod.clone();
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    for (list, names) in [
        ("initContainers", [INIT_CONTAINER, PROXY_CONTAINER].as_slice()),
        ("containers", &[PROXY_CONTAINER]),
        ("volumes", &VOLUMES),
        ("imagePullSecrets", &secrets),
    ] {
        remove(spec, list, names);
    }
    for list in ["initContainers", "containers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            restore(container, &probes);
        }
    }
    unmark(&mut pod, "annotations", INJECTED);
    unmark(&mut pod, "annotations", PULL_SECRETS);
    unmark(&mut pod, "labels", PROXY);
    Some(pod)
}

/// The pod's own probes, as its sidecar was told them.
fn probes(pod: &Value) -> Probes {
    let spec = &pod["spec"];
    let sidecar = items(&spec["initContainers"])
        .chain(items(&spec["containers"]))
        .find(|container| container["name"] == PROXY_CONTAINER);
    let variables = sidecar.into_iter().flat_map(|sidecar| items(&sidecar["env"]));
    let text = variables
        .filter(|variable| variable["name"] == "MESH_PROBES")
        .find_map(|variable| variable["value"].as_str());
    let text = text.map(|text| text.replace("$$", "$"));
    text.and_then(|text| probe::parse(&text).ok()).unwrap_or_default()
}

fn restore(container: &mut Value, probes: &Probes) {
    let Some(name) = container["name"].as_str().map(str::to_owned) else {
        return;
    };
    for kind in Kind::ALL {
        let key = probe::key(&name, kind);
        let (Some(probe), Some(fields)) = (
            probes.get(&key),
            container.get_mut(kind.field()).and_then(Value::as_object_mut),
        ) else {
            continue;
        };
        // Somebody may have changed it since.
        let ours = fields
            .get("httpGet")
            .is_some_and(|get| get["path"] == probe::path(&key));
        if let (true, Ok(Value::Object(handler))) = (ours, serde_json::to_value(&probe.handler)) {
            fields.remove("httpGet");
            fields.extend(handler);
        }
    }
}

fn remove(spec: &mut Map<String, Value>, list: &str, names: &[&str]) {
    let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) else {
        return;
    };
    items.retain(|item| !item["name"].as_str().is_some_and(|name| names.contains(&name)));
    if items.is_empty() {
        spec.remove(list);
    }
}

fn unmark(pod: &mut Value, kind: &str, name: &str) {
    let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(marks) = metadata.get_mut(kind).and_then(Value::as_object_mut) {
        marks.remove(name);
        if marks.is_empty() {
            metadata.remove(kind);
        }
    }
    if metadata.is_empty()
        && let Some(pod) = pod.as_object_mut()
    {
        pod.remove("metadata");
    }
}
