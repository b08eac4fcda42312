//! What the mesh is made of on Kubernetes, as the documents that commands work on: the mesh's own objects as they are,
//! Services as `Service`, pods with a proxy as `Workload`.

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use kube::api::ListParams;
use mesh_api::document::{Kind, parse_all};
use mesh_api::inference::AppProtocol;
use mesh_api::wire::admin::StoredDocument;
use serde_json::{Value, json};

use super::{Cluster, documents, refused};
use crate::cmd::check::pods::{has_ended, has_proxy};
use crate::documents::InForce;
use crate::error::Outcome;

/// All documents, or those of a kind.
pub(crate) async fn list(cluster: &Cluster, kind: Option<Kind>) -> Outcome<Vec<InForce>> {
    let wanted = |of: Kind| kind.is_none_or(|kind| kind == of);
    let mut objects = Vec::new();
    match kind {
        Some(Kind::Service | Kind::Workload) => {}
        kind => objects.extend(documents::list(cluster, kind).await?.iter().map(own)),
    }
    if wanted(Kind::Service) {
        let services = cluster.all::<Service>().list(&ListParams::default()).await;
        let services = services.map_err(|error| refused("cannot see the Services", &error))?;
        objects.extend(services.iter().filter_map(service));
    }
    if wanted(Kind::Workload) {
        let pods = cluster.all::<Pod>().list(&ListParams::default()).await;
        let pods = pods.map_err(|error| refused("cannot see the pods", &error))?;
        objects.extend(pods.iter().filter_map(workload));
    }
    let mut documents: Vec<InForce> = objects.iter().filter_map(in_force).collect();
    documents.sort_by_key(|it| it.document.id());
    Ok(documents)
}

/// An object that can't be read is not in force.
fn in_force(object: &Value) -> Option<InForce> {
    let yaml = object.to_string();
    let (document, _) = parse_all("-".as_ref(), &yaml).into_iter().next()?.ok()?;
    let id = document.id();
    let stored = StoredDocument {
        kind: id.kind.to_string(),
        namespace: id.name.namespace.to_string(),
        name: id.name.name.to_string(),
        yaml,
        file: "Kubernetes".into(),
        line: 0,
    };
    Some(InForce { document, stored })
}

/// One of the mesh's own objects, without what the API server keeps about it.
fn own(object: &Value) -> Value {
    document(&object["kind"], &object["metadata"], &object["spec"])
}

fn document(kind: &Value, metadata: &Value, spec: &Value) -> Value {
    let labels = match &metadata["labels"] {
        Value::Null => json!({}),
        labels => labels.clone(),
    };
    json!({
        "apiVersion": mesh_api::document::API_VERSION,
        "kind": kind,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels},
        "spec": spec,
    })
}

fn service(service: &Service) -> Option<Value> {
    let spec = service.spec.as_ref()?;
    let ports: Vec<Value> = spec.ports.iter().flatten().filter_map(port).collect();
    if ports.is_empty() {
        return None;
    }
    let addresses = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter(|address| *address != "None");
    let spec = json!({
        "ports": ports,
        "selector": spec.selector.clone().unwrap_or_default(),
        "addresses": addresses.collect::<Vec<_>>(),
    });
    Some(document(
        &json!("Service"),
        &serde_json::to_value(&service.metadata).ok()?,
        &spec,
    ))
}

fn port(port: &ServicePort) -> Option<Value> {
    if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return None;
    }
    let name = port.name.clone().unwrap_or_else(|| format!("port-{}", port.port));
    let protocol = port.app_protocol.as_deref().and_then(|word| word.parse().ok());
    Some(json!({
        "name": name,
        "port": port.port,
        "appProtocol": protocol.unwrap_or(AppProtocol::Detect).as_str(),
    }))
}

fn workload(pod: &Pod) -> Option<Value> {
    if !has_proxy(pod) || has_ended(pod) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let spec = json!({
        "serviceAccount": spec.service_account_name.as_deref().unwrap_or("default"),
        "address": address.unwrap_or_else(|| "127.0.0.1".into()),
        "interception": {},
    });
    Some(document(
        &json!("Workload"),
        &serde_json::to_value(&pod.metadata).ok()?,
        &spec,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::document::Document;

    #[test]
    fn services_and_pods_are_read_as_documents() {
        let service_object: Service = serde_json::from_value(json!({
            "metadata": {"name": "fraud", "namespace": "ml", "uid": "1", "labels": {"app.kubernetes.io/name": "fraud"}},
            "spec": {
                "clusterIPs": ["10.0.0.7"],
                "selector": {"app": "fraud"},
                "ports": [
                    {"port": 8000, "appProtocol": "mesh.dev/open-inference", "targetPort": 8000},
                    {"name": "grpc", "port": 8001, "appProtocol": "example.com/odd"},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                ],
            },
        }))
        .unwrap();
        let read = in_force(&service(&service_object).unwrap()).unwrap();
        let Document::Service(object) = read.document else {
            unreachable!("a Service is a Service");
        };
        let ports: Vec<_> = object
            .spec
            .ports
            .iter()
            .map(|it| (it.name.as_str(), it.app_protocol))
            .collect();
        assert_eq!(
            ports,
            [
                ("port-8000", AppProtocol::OpenInference),
                ("grpc", AppProtocol::Detect)
            ]
        );
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "fraud-7d4f-a", "namespace": "ml", "labels": {"mesh.dev/proxy": "true", "app": "fraud"}},
            "spec": {"containers": [], "serviceAccountName": "fraud"},
            "status": {"podIP": "10.1.0.4"},
        }))
        .unwrap();
        let read = in_force(&workload(&pod).unwrap()).unwrap();
        let Document::Workload(object) = read.document else {
            unreachable!("a pod is a Workload");
        };
        assert_eq!(object.spec.service_account.as_str(), "fraud");
        assert_eq!(object.metadata.labels["app"], "fraud");
    }
}
