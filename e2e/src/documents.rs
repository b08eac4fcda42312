//! The documents of a scenario, all in namespace `ml`.

use anyhow::Result;
use serde_json::{Value, json};

/// The namespace of every object.
pub const NAMESPACE: &str = "ml";

/// A document of any kind.
pub fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {}},
        "spec": spec,
    })
}

/// A Service with one port, whose endpoints are the Workloads that [`serve`](workload) it.
pub fn service(name: &str, protocol: &str) -> Value {
    object(
        "Service",
        name,
        &json!({
            "ports": [{"name": "main", "port": 80, "appProtocol": protocol}],
            "selector": {"app": name},
        }),
    )
}

/// A Service without endpoints of its own: it is there to be routed.
pub fn routed(name: &str, protocol: &str) -> Value {
    object(
        "Service",
        name,
        &json!({"ports": [{"name": "main", "port": 80, "appProtocol": protocol}]}),
    )
}

/// A Workload that serves a Service: its process listens on `port`, its sidecar on `listen`.
pub fn workload(name: &str, service: &str, port: u16, listen: u16, protocol: &str) -> Value {
    let mut document = object(
        "Workload",
        name,
        &json!({
            "serviceAccount": name,
            "ports": [{"name": "main", "port": port, "listen": listen, "appProtocol": protocol}],
            "outbound": {"services": []},
        }),
    );
    document["metadata"]["labels"]["app"] = json!(service);
    document
}

/// A Workload that calls Services, each by a port of its own.
pub fn caller(name: &str, calls: &[(u16, &str)]) -> Value {
    let ports: Vec<_> = calls
        .iter()
        .map(|(listen, service)| json!({"listen": listen, "service": service}))
        .collect();
    object(
        "Workload",
        name,
        &json!({"serviceAccount": name, "outbound": {"localPorts": ports}}),
    )
}

/// The route of a Service.
pub fn route(service: &str, rules: &Value) -> Value {
    object(
        "ModelRoute",
        service,
        &json!({"service": service, "rules": rules}),
    )
}

/// A weighted backend that is called as its Service is.
pub fn backend(service: &str, weight: u32) -> Value {
    json!({"name": service, "service": service, "weight": weight})
}

/// A document as YAML, one field a line.
///
/// # Errors
/// Never for documents that are made here.
pub fn yaml(document: &Value) -> Result<String> {
    Ok(serde_saphyr::to_string(document)?)
}

/// Kind and name of a document, for its file.
pub fn file_name(document: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("unnamed").to_lowercase();
    format!(
        "{}-{}.yaml",
        text(&document["kind"]),
        text(&document["metadata"]["name"])
    )
}
