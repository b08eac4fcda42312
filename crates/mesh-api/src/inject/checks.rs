//! What stands in the way of a sidecar.

use serde_json::Value;

use super::settings::Settings;
use super::{
    ADMIN_PORT, INBOUND_PORT, INIT_CONTAINER, INJECTED, OUTBOUND_PORT, PROBE_PORT, PROXY_CONTAINER, Refusal,
    containers,
};
use crate::name::Name;

const LISTS: [&str; 2] = ["initContainers", "containers"];

/// Whether the pod has a sidecar of ours.
///
/// # Errors
/// When it has a container of the sidecar's name that is none.
pub(super) fn is_injected(pod: &Value) -> Result<bool, Refusal> {
    let named = |name: &str| {
        let lists = LISTS.into_iter();
        lists
            .flat_map(|list| {
                items(&pod["spec"][list])
                    .enumerate()
                    .map(move |(index, it)| (list, index, it))
            })
            .find(|(_, _, container)| container["name"] == name)
    };
    let sidecar = named(PROXY_CONTAINER);
    if sidecar.is_some() && pod["metadata"]["annotations"][INJECTED].is_string() {
        return Ok(true);
    }
    match sidecar.or_else(|| named(INIT_CONTAINER)) {
        None => Ok(false),
        Some((list, index, container)) => Err(Refusal::new(
            format!("spec.{list}[{index}].name"),
            format!(
                "{} is the name of a container that the mesh adds: rename it, or take it out",
                container["name"]
            ),
        )),
    }
}

/// Whether a sidecar with these settings can stand in the pod.
///
/// # Errors
/// The first thing that it can't stand beside.
pub(super) fn check(pod: &Value, settings: &Settings) -> Result<(), Refusal> {
    let spec = &pod["spec"];
    if items(&spec["containers"]).next().is_none() {
        return Err(Refusal::new("spec.containers", "there is none: this is no pod"));
    }
    names(pod)?;
    user(&spec["securityContext"], "spec", settings)?;
    for list in LISTS {
        for (index, container) in items(&spec[list]).enumerate() {
            let field = format!("spec.{list}[{index}]");
            user(&container["securityContext"], &field, settings)?;
            ports(container, &field)?;
        }
    }
    for (index, volume) in items(&spec["volumes"]).enumerate() {
        let name = volume["name"].as_str().unwrap_or_default();
        if containers::VOLUMES.contains(&name) {
            return Err(Refusal::new(
                format!("spec.volumes[{index}].name"),
                format!("{name:?} is the name of a volume that the mesh adds: rename it"),
            ));
        }
    }
    Ok(())
}

/// A workload's name in the mesh is its pod's, and its identity has its account's: each one DNS label.
fn names(pod: &Value) -> Result<(), Refusal> {
    let given = |field: &str, text: &str, checked: &str| match checked.parse::<Name>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(
            field,
            format!("{text:?} is no name in the mesh: use at most 63 of a-z, 0-9 and '-'"),
        )),
    };
    let metadata = &pod["metadata"];
    if let Some(name) = metadata["name"].as_str() {
        given("metadata.name", name, name)?;
    } else if let Some(prefix) = metadata["generateName"].as_str() {
        // Kubernetes cuts it before it adds five characters.
        let cut: String = prefix.chars().take(58).collect();
        given("metadata.generateName", prefix, &format!("{cut}x"))?;
    }
    match pod["spec"]["serviceAccountName"].as_str() {
        Some(name) if !name.is_empty() => given("spec.serviceAccountName", name, name),
        _ => Ok(()),
    }
}

fn user(security: &Value, field: &str, settings: &Settings) -> Result<(), Refusal> {
    if security["runAsUser"].as_u64() == Some(settings.proxy_uid.into()) {
        return Err(Refusal::new(
            format!("{field}.securityContext.runAsUser"),
            format!(
                "{} is the sidecar's user: what runs as it goes past the mesh; choose another",
                settings.proxy_uid
            ),
        ));
    }
    Ok(())
}

fn ports(container: &Value, field: &str) -> Result<(), Refusal> {
    for (index, port) in items(&container["ports"]).enumerate() {
        let tcp = port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP");
        let number = port["containerPort"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let Some(number) = number.filter(|_| tcp) else {
            continue;
        };
        if [OUTBOUND_PORT, INBOUND_PORT, PROBE_PORT, ADMIN_PORT].contains(&number) {
            return Err(Refusal::new(
                format!("{field}.ports[{index}].containerPort"),
                format!("{number} is a port of the sidecar's: let the container listen on another"),
            ));
        }
    }
    Ok(())
}

/// The items of a list; none: there is no list.
pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
