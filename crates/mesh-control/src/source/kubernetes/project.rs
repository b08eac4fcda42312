//! From objects of Kubernetes to as little of each as the mesh needs.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, Container};
use k8s_openapi::api::discovery::v1 as discovery;
use kube::api::{DynamicObject, ObjectMeta};
use mesh_api::document::Kind;
use mesh_api::name::Name;

use super::watch::{Projected, key};
use crate::catalog::documents::{self, Settings, Written};
use crate::catalog::object::{
    EndpointState, Key, Mtls, Namespace, Pod, Service, ServicePort, Slice, SliceEndpoint,
};

/// Which Service an EndpointSlice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// That a pod has a sidecar.
const PROXY: &str = "mesh.dev/proxy";
/// What inbound listeners of a pod, or of the pods of a namespace, accept.
const MTLS: &str = "mesh.dev/mtls";
/// The container of the sidecar.
const SIDECAR: &str = "mesh-proxy";

/// Keeps what there is to keep of an object.
fn projected<T>(metadata: &ObjectMeta, keep: impl FnOnce(Key) -> Option<T>) -> Projected<T> {
    match key(metadata) {
        None => Projected::Nameless,
        Some(key) => keep(key.clone()).map_or(Projected::Left(key), Projected::Kept),
    }
}

pub(super) fn namespace(object: &core::Namespace) -> Projected<Namespace> {
    projected(&object.metadata, |key| {
        Some(Namespace {
            name: key.namespace,
            mtls: mtls(&object.metadata),
        })
    })
}

pub(super) fn service(object: core::Service) -> Projected<Service> {
    let spec = object.spec.unwrap_or_default();
    projected(&object.metadata, |key| {
        // A name for something else: whatever that is, callers reach it under its own name.
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let ports = spec.ports.iter().flatten();
        let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let mut addresses: Vec<IpAddr> = addresses.filter_map(|ip| ip.parse().ok()).collect();
        addresses.sort();
        addresses.dedup();
        Some(Service {
            name: key.object_name()?,
            ports: ports.filter_map(service_port).collect(),
            addresses,
            prefers_v6: spec
                .ip_families
                .iter()
                .flatten()
                .next()
                .is_some_and(|family| family == "IPv6"),
        })
    })
}

fn service_port(port: &core::ServicePort) -> Option<ServicePort> {
    let number = tcp(port.protocol.as_deref(), port.port)?;
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    Some(ServicePort {
        name: match name {
            Some(name) => name.parse().ok()?,
            None => format!("port-{number}").parse().ok()?,
        },
        slice_name: name.unwrap_or_default().into(),
        number,
        app_protocol: port.app_protocol.as_deref().map(Arc::from),
    })
}

pub(super) fn slice(object: &discovery::EndpointSlice) -> Projected<Slice> {
    projected(&object.metadata, |key| {
        let service: Name = object.metadata.labels.as_ref()?.get(SERVICE_NAME)?.parse().ok()?;
        let v6 = match object.address_type.as_str() {
            "IPv4" => false,
            "IPv6" => true,
            _ => return None,
        };
        let ports = object.ports.iter().flatten();
        let ports = ports.filter_map(|port| {
            let number = tcp(port.protocol.as_deref(), port.port?)?;
            Some((port.name.as_deref().unwrap_or_default().into(), number))
        });
        let endpoints = object.endpoints.iter();
        Some(Slice {
            service,
            v6,
            ports: ports.collect(),
            endpoints: endpoints.filter_map(|it| endpoint(&key.namespace, it)).collect(),
            key,
        })
    })
}

fn endpoint(namespace: &Name, endpoint: &discovery::Endpoint) -> Option<SliceEndpoint> {
    let pod = endpoint
        .target_ref
        .as_ref()
        .filter(|it| it.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|pod| {
        Some(Key {
            namespace: match pod.namespace.as_deref() {
                Some(namespace) => namespace.parse().ok()?,
                None => namespace.clone(),
            },
            name: pod.name.as_deref()?.into(),
        })
    });
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // What is not said is ready, and serves if it is.
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    let state = match (ready, serving && conditions.terminating == Some(true)) {
        (true, _) => EndpointState::Ready,
        (false, true) => EndpointState::Draining,
        (false, false) => EndpointState::Unready,
    };
    Some(SliceEndpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        pod,
        state,
    })
}

pub(super) fn pod(object: core::Pod) -> Projected<Pod> {
    let (spec, status) = (object.spec.unwrap_or_default(), object.status.unwrap_or_default());
    projected(&object.metadata, |key| {
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        // Init containers that go on are sidecars of others.
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.iter().chain(sidecars);
        let containers = containers.filter(|container| container.name != SIDECAR);
        let addresses = status.pod_ips.iter().flatten().map(|it| &it.ip);
        let mut addresses: Vec<IpAddr> = addresses
            .chain(&status.pod_ip)
            .filter_map(|ip| ip.parse().ok())
            .collect();
        addresses.sort();
        addresses.dedup();
        let labels = object.metadata.labels.as_ref();
        Some(Pod {
            account: spec.service_account_name.as_deref().unwrap_or("default").into(),
            addresses,
            ports: containers.flat_map(container_ports).collect(),
            sidecar: labels
                .and_then(|labels| labels.get(PROXY))
                .is_some_and(|it| it == "true"),
            host_network: spec.host_network == Some(true),
            mtls: mtls(&object.metadata),
            key,
        })
    })
}

fn container_ports(container: &Container) -> impl Iterator<Item = (Option<Name>, u16)> {
    let ports = container.ports.iter().flatten();
    ports.filter_map(|port| {
        let number = tcp(port.protocol.as_deref(), port.container_port)?;
        let name = port.name.as_deref().and_then(|name| name.parse().ok());
        Some((name, number))
    })
}

/// An object of one of the mesh's own kinds.
pub(super) fn document(kind: Kind, object: DynamicObject, settings: &Settings) -> Projected<Written> {
    let DynamicObject {
        metadata, mut data, ..
    } = object;
    projected(&metadata, |key| {
        let mut part = |name: &str| data.get_mut(name).map(serde_json::Value::take);
        // One that can't be read is written anew.
        let status = part("status").and_then(|status| serde_json::from_value(status).ok());
        let spec = part("spec");
        let spec = spec.unwrap_or_else(|| serde_json::json!({}));
        Some(Written {
            kind,
            created: metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |time| time.0.as_second()),
            generation: metadata.generation.unwrap_or_default(),
            content: documents::read(kind, &key, spec, settings).map(Arc::new),
            status: status.unwrap_or_default(),
            key,
        })
    })
}

fn mtls(metadata: &ObjectMeta) -> Mtls {
    let said = |of: &Option<std::collections::BTreeMap<String, String>>| of.as_ref()?.get(MTLS).cloned();
    Mtls::read(
        said(&metadata.annotations)
            .or_else(|| said(&metadata.labels))
            .as_deref(),
    )
}

/// A port of TCP, which is what is meant when nothing is said.
fn tcp(protocol: Option<&str>, number: i32) -> Option<u16> {
    let number = u16::try_from(number).ok().filter(|number| *number > 0)?;
    matches!(protocol, None | Some("TCP")).then_some(number)
}

#[cfg(test)]
mod tests;
