//! Objects as API servers write them, and what is kept of them.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn kept<T>(projected: Projected<T>) -> Option<T> {
    match projected {
        Projected::Kept(object) => Some(object),
        Projected::Left(_) | Projected::Nameless => None,
    }
}

#[test]
fn services_keep_what_is_tcp() {
    let object = |spec: Value| {
        kept(service(read(json!({
            "metadata": {"name": "fraud", "namespace": "ml", "labels": {"app": "fraud"}, "managedFields": [{"manager": "x"}]},
            "spec": spec,
        }))))
    };
    let ports = json!([
        {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "kubernetes.io/h2c"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]);
    let fraud = object(json!({
        "type": "ClusterIP", "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilies": ["IPv6", "IPv4"],
        "ports": ports,
    }))
    .unwrap();
    insta::assert_debug_snapshot!(fraud);
    let headless =
        object(json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]})).unwrap();
    assert!(headless.addresses.is_empty() && !headless.prefers_v6);
    assert_eq!(
        (headless.ports[0].name.as_str(), &*headless.ports[0].slice_name),
        ("port-80", "")
    );
    assert_eq!(
        object(json!({"type": "ExternalName", "externalName": "example.com"})),
        None
    );
}

#[test]
fn slices_keep_what_their_endpoints_may_be_sent() {
    let slice_of = |family: &str, endpoints: Value| {
        kept(slice(&read(json!({
            "metadata": {"name": "fraud-x7", "namespace": "ml", "labels": {"kubernetes.io/service-name": "fraud"}},
            "addressType": family,
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "none"}],
            "endpoints": endpoints,
        }))))
    };
    let states = [
        (json!({}), EndpointState::Ready),
        (
            json!({"ready": true, "serving": true, "terminating": false}),
            EndpointState::Ready,
        ),
        // A Service may publish what is not ready, also when it ends.
        (
            json!({"ready": true, "serving": true, "terminating": true}),
            EndpointState::Ready,
        ),
        (
            json!({"ready": false, "serving": true, "terminating": true}),
            EndpointState::Draining,
        ),
        (
            json!({"ready": false, "serving": false, "terminating": true}),
            EndpointState::Unready,
        ),
        (
            json!({"ready": false, "serving": true, "terminating": false}),
            EndpointState::Unready,
        ),
        (json!({"ready": false}), EndpointState::Unready),
    ];
    for (conditions, wanted) in states {
        let slice = slice_of(
            "IPv4",
            json!([{"addresses": ["10.0.0.1"], "conditions": conditions}]),
        )
        .unwrap();
        assert_eq!(slice.endpoints[0].state, wanted, "{conditions}");
    }
    let endpoints = json!([
        {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a.b", "namespace": "ml", "uid": "1"}, "zone": "z"},
        {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Node", "name": "n"}},
        {"addresses": ["10.0.0.3"]},
    ]);
    insta::assert_debug_snapshot!(slice_of("IPv4", endpoints).unwrap());
    assert_eq!(slice_of("FQDN", json!([])), None);
    let unlabelled =
        json!({"metadata": {"name": "x", "namespace": "ml"}, "addressType": "IPv4", "endpoints": []});
    assert!(matches!(slice(&read(unlabelled)), Projected::Left(_)));
}

#[test]
fn pods_keep_how_they_are_called() {
    let object = |more: Value| {
        let mut pod = json!({
            "metadata": {
                "name": "triton-0", "namespace": "ml",
                "labels": {"mesh.dev/proxy": "true", "app": "triton"},
                "annotations": {"mesh.dev/mtls": "strict"},
            },
            "spec": {
                "serviceAccountName": "triton",
                "initContainers": [
                    {"name": "mesh-init", "ports": [{"containerPort": 1}]},
                    {"name": "mesh-proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15020}]},
                    {"name": "logs", "restartPolicy": "Always", "ports": [{"containerPort": 2020}]},
                ],
                "containers": [
                    {"name": "triton", "ports": [
                        {"name": "http", "containerPort": 8000}, {"containerPort": 8001, "protocol": "TCP"},
                        {"containerPort": 9999, "protocol": "UDP"},
                    ]},
                ],
            },
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        });
        for (pointer, value) in more.as_object().unwrap() {
            *pod.pointer_mut(pointer).unwrap() = value.clone();
        }
        kept(pod_of(pod))
    };
    insta::assert_debug_snapshot!(object(json!({})).unwrap());
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(object(json!({"/status/phase": phase})), None);
    }
    let pending = object(json!({"/status": {"phase": "Pending"}})).unwrap();
    assert!(pending.sidecar && pending.addresses.is_empty());
    assert!(
        !object(json!({"/metadata/labels": {"mesh.dev/proxy": "false"}}))
            .unwrap()
            .sidecar
    );
}

fn pod_of(value: Value) -> Projected<Pod> {
    pod(read(value))
}

#[test]
fn documents_are_read_or_refused_alone() {
    let settings = Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        namespace: "mesh-system".parse().unwrap(),
    };
    let object = |spec: Value| {
        let object = read(json!({
            "apiVersion": "mesh.dev/v1alpha1", "kind": "ModelRoute",
            "metadata": {"name": "fraud", "namespace": "ml", "generation": 3, "creationTimestamp": "1970-01-02T00:00:00Z"},
            "spec": spec,
        }));
        kept(document(Kind::ModelRoute, object, &settings)).unwrap()
    };
    let split = |weight: Value| json!({"service": "fraud", "rules": [{"split": {"backends": [{"name": "b", "service": "fraud", "weight": weight}]}}]});
    let good = object(split(json!(5)));
    assert_eq!(
        (good.created, good.generation, good.content.is_ok()),
        (86_400, 3, true)
    );
    let bad = object(split(json!("many"))).content.unwrap_err();
    assert_eq!(bad[0].field, "spec.rules[0].split.backends[0].weight");
    assert!(object(Value::Null).content.is_err());
}
