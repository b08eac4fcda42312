//! What the mesh is made of on Kubernetes, as the documents that commands work on: the mesh's own objects as they are,
//! Services as `Service`, pods with a proxy as `Workload`, both with the endpoints that are ready.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::api::ObjectMeta;
use mesh_api::document::{Kind, parse_all};
use mesh_api::inference::AppProtocol;
use mesh_api::wire::admin::StoredDocument;
use serde_json::{Value, json};

use super::endpoints::Endpoints;
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
    if wanted(Kind::Service) || wanted(Kind::Workload) {
        objects.extend(served(cluster).await?);
    }
    let mut documents: Vec<InForce> = objects.iter().filter_map(in_force).collect();
    documents.retain(|it| wanted(it.document.id().kind));
    documents.sort_by_key(|it| it.document.id());
    Ok(documents)
}

/// Services and workloads.
async fn served(cluster: &Cluster) -> Outcome<Vec<Value>> {
    let all = ListParams::default();
    let services = cluster.all::<Service>().list(&all).await;
    let services = services.map_err(|error| refused("cannot see the Services", &error))?;
    let pods = cluster.all::<Pod>().list(&all).await;
    let pods = pods.map_err(|error| refused("cannot see the pods", &error))?;
    let slices = cluster.all::<EndpointSlice>().list(&all).await;
    let slices = slices.map_err(|error| refused("cannot see the EndpointSlices", &error))?;
    Ok(put_together(&services.items, &pods.items, &slices.items))
}

fn put_together(services: &[Service], pods: &[Pod], slices: &[EndpointSlice]) -> Vec<Value> {
    let workloads = pods.iter().filter(|pod| has_proxy(pod) && !has_ended(pod));
    let names: BTreeSet<_> = workloads.clone().map(|pod| place(&pod.metadata)).collect();
    let endpoints = Endpoints::of(slices, &names);
    let services = services.iter().filter_map(|it| service(it, &endpoints));
    services
        .chain(workloads.filter_map(|pod| workload(pod, &endpoints)))
        .collect()
}

fn place(metadata: &ObjectMeta) -> (String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
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

fn service(service: &Service, endpoints: &Endpoints) -> Option<Value> {
    let spec = service.spec.as_ref()?;
    let place = place(&service.metadata);
    let ports = spec.ports.iter().flatten();
    let ports: Vec<Value> = ports
        .filter_map(|it| port(it, endpoints.behind(&place, called(it))))
        .collect();
    if ports.is_empty() {
        return None;
    }
    let addresses = spec.cluster_ips.iter().flatten();
    let addresses: Vec<_> = addresses.filter(|address| *address != "None").collect();
    let others = spec.ports.iter().flatten().flat_map(|port| {
        let others = endpoints.others(&place);
        let others = others.filter(|(so_called, _)| so_called == called(port));
        others
            .map(|(_, address)| json!({"port": name(port), "address": address.to_string()}))
            .collect::<Vec<_>>()
    });
    let spec = json!({
        "ports": ports,
        "selector": spec.selector.clone().unwrap_or_default(),
        "external": others.collect::<Vec<_>>(),
        "addresses": addresses,
    });
    Some(document(
        &json!("Service"),
        &serde_json::to_value(&service.metadata).ok()?,
        &spec,
    ))
}

/// What a port is called in EndpointSlices.
fn called(port: &ServicePort) -> &str {
    port.name.as_deref().unwrap_or_default()
}

/// What a port is called in the mesh.
fn name(port: &ServicePort) -> String {
    port.name.clone().unwrap_or_else(|| format!("port-{}", port.port))
}

/// A port, with the number of the one behind it.
fn port(port: &ServicePort, behind: Option<u16>) -> Option<Value> {
    if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
        return None;
    }
    let protocol = port.app_protocol.as_deref().and_then(|word| word.parse().ok());
    let mut said = json!({
        "name": name(port),
        "port": port.port,
        "appProtocol": protocol.unwrap_or(AppProtocol::Detect).as_str(),
    });
    if let Some(behind) = behind {
        said["targetPort"] = behind.into();
    }
    Some(said)
}

fn workload(pod: &Pod, endpoints: &Endpoints) -> Option<Value> {
    let spec = pod.spec.as_ref()?;
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let place = place(&pod.metadata);
    let ports = endpoints
        .of_workload(&place)
        .map(|number| json!({"name": format!("port-{number}"), "port": number, "appProtocol": AppProtocol::Detect.as_str()}));
    let spec = json!({
        "serviceAccount": spec.service_account_name.as_deref().unwrap_or("default"),
        "address": address.unwrap_or_else(|| "127.0.0.1".into()),
        "ports": ports.collect::<Vec<_>>(),
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
    use mesh_api::explain::{Decision, Question, explain};

    fn objects() -> (Vec<Service>, Vec<Pod>, Vec<EndpointSlice>) {
        let service = json!({
            "metadata": {"name": "fraud", "namespace": "ml", "uid": "1", "labels": {"app.kubernetes.io/name": "fraud"}},
            "spec": {
                "clusterIPs": ["10.0.0.7"],
                "selector": {"app": "fraud"},
                "ports": [
                    {"port": 80, "appProtocol": "mesh.dev/open-inference", "targetPort": "http"},
                    {"name": "grpc", "port": 8001, "appProtocol": "example.com/odd"},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                ],
            },
        });
        let pod = |name: &str, address: &str, labels: Value, phase: &str| {
            json!({
                "metadata": {"name": name, "namespace": "ml", "labels": labels},
                "spec": {"containers": [], "serviceAccountName": "fraud"},
                "status": {"podIP": address, "phase": phase},
            })
        };
        let meshed = json!({"mesh.dev/proxy": "true", "app": "fraud"});
        let pods = json!([
            pod("ready", "10.1.0.4", meshed.clone(), "Running"),
            pod("begins", "10.1.0.5", meshed.clone(), "Running"),
            pod("plain", "10.1.0.6", json!({"app": "fraud"}), "Running"),
            pod("done", "10.1.0.7", meshed, "Succeeded"),
        ]);
        let endpoint = |name: &str, address: &str, ready: bool| {
            json!({
                "addresses": [address],
                "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": name, "namespace": "ml"},
            })
        };
        let slice = json!({
            "metadata": {"name": "fraud-x", "namespace": "ml", "labels": {"kubernetes.io/service-name": "fraud"}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8000, "protocol": "TCP"}],
            "endpoints": [
                endpoint("ready", "10.1.0.4", true),
                endpoint("begins", "10.1.0.5", false),
                endpoint("plain", "10.1.0.6", true),
            ],
        });
        (
            vec![serde_json::from_value(service).unwrap()],
            serde_json::from_value(pods).unwrap(),
            vec![serde_json::from_value(slice).unwrap()],
        )
    }

    fn documents() -> Vec<Document> {
        let (services, pods, slices) = objects();
        let all = put_together(&services, &pods, &slices);
        all.iter()
            .map(|object| in_force(object).unwrap().document)
            .collect()
    }

    #[test]
    fn services_and_pods_are_read_as_documents() {
        let documents = documents();
        let names: Vec<String> = documents.iter().map(|it| it.id().to_string()).collect();
        assert_eq!(
            names,
            ["Service ml/fraud", "Workload ml/ready", "Workload ml/begins"]
        );
        let Document::Service(object) = &documents[0] else {
            unreachable!("a Service is a Service");
        };
        let ports = object.spec.ports.iter();
        let ports: Vec<_> = ports.map(|it| (it.name.as_str(), it.app_protocol)).collect();
        assert_eq!(
            ports,
            [
                ("port-80", AppProtocol::OpenInference),
                ("grpc", AppProtocol::Detect)
            ]
        );
        let Document::Workload(object) = &documents[1] else {
            unreachable!("a pod is a Workload");
        };
        assert_eq!(object.spec.service_account.as_str(), "fraud");
        assert_eq!(object.metadata.labels["app"], "fraud");
    }

    #[test]
    fn requests_are_explained_down_to_the_endpoints_that_are_ready() {
        let (documents, service) = (documents(), "ml/fraud".parse().unwrap());
        let explanation = explain(
            &documents,
            [],
            &Question {
                service: &service,
                port: None,
                method: &http::Method::GET,
                target: "/v2/models/fraud",
                headers: &http::HeaderMap::new(),
                body: &[],
                caller: None,
            },
        );
        let Decision::Own { endpoints } = explanation.unwrap().decision else {
            unreachable!("there is no route");
        };
        let found = endpoints.iter().map(|it| {
            let workload = it.workload.as_ref().map(ToString::to_string);
            format!("{} {}", it.address, workload.as_deref().unwrap_or("-"))
        });
        assert_eq!(
            found.collect::<Vec<_>>(),
            ["10.1.0.4:8000 ml/ready", "10.1.0.6:8000 -"]
        );
    }
}
