//! Documents in, Snapshots out.

use std::sync::Arc;

use mesh_api::snapshot::{Snapshot, Version};

use super::*;
use crate::index::Event;

const MESH: &str = "
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {name: client, namespace: ml}
spec:
  serviceAccount: client
  outbound: {proxyPort: 14000, services: [fraud], localPorts: [{listen: 15000, service: fraud}, {listen: 15001, service: two}]}
---
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {name: v2, namespace: ml, labels: {app: triton, version: v2}}
spec:
  serviceAccount: triton
  address: 10.0.0.2
  ports: [{name: http, port: 8000, listen: 18000}, {name: grpc, port: 8001, listen: 18001, appProtocol: grpc}]
---
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {name: v1, namespace: ml, labels: {app: triton, version: v1}}
spec:
  serviceAccount: triton
  ports: [{name: http, port: 9000, listen: 19000}]
---
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {name: v1, namespace: other, labels: {app: triton, version: v1}}
spec:
  ports: [{name: http, port: 9500, listen: 19500}]
---
apiVersion: mesh.dev/v1alpha1
kind: Service
metadata: {name: fraud, namespace: ml}
spec:
  ports: [{name: http, port: 80}]
  selector: {app: triton}
  external: [{port: http, address: '127.0.0.1:7000'}]
  hosts: [fraud.example]
---
apiVersion: mesh.dev/v1alpha1
kind: Service
metadata: {name: fraud-v2, namespace: ml}
spec:
  ports: [{name: rest, port: 80, targetPort: 8000}, {name: rpc, port: 81, targetPort: grpc, appProtocol: grpc}]
  selector: {version: v2}
---
apiVersion: mesh.dev/v1alpha1
kind: Service
metadata: {name: two, namespace: ml}
spec:
  ports: [{name: a, port: 1}, {name: b, port: 2}]
---
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: fraud, namespace: ml}
spec:
  service: fraud
  rules:
  - split: {backends: [{name: old, service: fraud, weight: 9}, {name: new, service: fraud-v2}]}
---
apiVersion: mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: fraud, namespace: ml}
spec:
  service: fraud
  loadBalancing: {algorithm: round-robin}
  connection: {connectTimeout: 1s}
";

fn view(text: &str) -> View {
    let mut index = Index::new("mesh.local".parse().unwrap());
    index.apply([Event::Text("m.yaml".into(), text.into())]);
    assert!(index.problems().is_empty(), "{:?}", index.problems());
    compile(&index, &View::empty(index.trust_domain())).0
}

fn snapshot(view: &View, workload: &str) -> Snapshot {
    view.snapshot(&workload.parse().unwrap(), Version(7), &BTreeSet::new())
        .unwrap()
}

#[test]
fn a_client_gets_what_it_calls_and_what_that_leads_to() {
    let view = view(MESH);
    insta::assert_json_snapshot!(snapshot(&view, "ml/client"));
}

#[test]
fn a_server_knows_what_arrives_at_its_ports() {
    let snapshot = snapshot(&view(MESH), "ml/v2");
    let ports: Vec<_> = snapshot
        .workload
        .ports
        .iter()
        .map(|port| {
            let service = port.service.as_ref().map(ToString::to_string);
            format!(
                "{} {} → {} {}",
                port.name,
                port.listen,
                port.local,
                service.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        ports,
        [
            "http 10.0.0.2:18000 → 127.0.0.1:8000 ml/fraud",
            "grpc 10.0.0.2:18001 → 127.0.0.1:8001 ml/fraud-v2"
        ]
    );
    // It does not say what it calls: so it may call everything.
    assert_eq!(snapshot.services.len(), 3);
}

#[test]
fn what_comes_to_nothing_is_warned_about() {
    let text = MESH
        .replace("selector: {version: v2}", "selector: {version: v1}")
        .replace("services: [fraud]", "services: [fraud, absent]");
    let warnings: Vec<_> = view(&text)
        .warnings()
        .iter()
        .map(|(id, problem)| format!("{id}: {problem}"))
        .collect();
    assert_eq!(
        warnings,
        [
            "Service ml/fraud-v2: spec.ports[0]: Workload ml/v1 is selected and has no such port",
            "Service ml/fraud-v2: spec.ports[1]: Workload ml/v1 is selected and has no such port",
            "Workload ml/client: spec.outbound.localPorts[1].port: Service ml/two has several ports: name the one meant",
            "Workload ml/client: spec.outbound.services: there is no Service ml/absent",
        ]
    );
}

#[test]
fn nobody_is_made_up() {
    let view = view(MESH);
    assert!(
        view.snapshot(&"ml/nobody".parse().unwrap(), Version(1), &BTreeSet::new())
            .is_none()
    );
    assert!(view.identity(&"ml/nobody".parse().unwrap()).is_none());
    let identity = view.identity(&"other/v1".parse().unwrap()).unwrap();
    assert_eq!(identity.to_string(), "spiffe://mesh.local/ns/other/sa/default");
}

#[test]
fn what_is_compiled_passes_the_wire() {
    let snapshot = snapshot(&view(MESH), "ml/client");
    let message = mesh_api::wire::config::Delta::from(&snapshot.since(None));
    let delta = mesh_api::wire::delta(message).unwrap();
    assert_eq!(Snapshot::after(None, delta).unwrap(), snapshot);
}

#[test]
fn routes_that_lead_in_circles_end() {
    let circle = MESH.to_owned()
        + "---\napiVersion: mesh.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: back, namespace: ml}\nspec:\n  \
           service: fraud-v2\n  rules: [{split: {backends: [{name: b, service: fraud}]}}]\n";
    assert_eq!(snapshot(&view(&circle), "ml/client").services.len(), 2);
}

#[test]
fn host_names_are_read_as_proxies_read_them() {
    let more = MESH.to_owned()
        + "---\napiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {name: x, namespace: svc}\nspec: {ports: [{name: http, port: 80}], hosts: [x.example]}\n";
    let view = view(&more);
    let home = "ml".parse().unwrap();
    for (host, wanted) in [
        ("fraud", Some("ml/fraud")),
        ("fraud.ml", Some("ml/fraud")),
        ("fraud.ml.svc", Some("ml/fraud")),
        ("fraud.ml.svc.cluster.local", Some("ml/fraud")),
        ("fraud.ml.mesh", Some("ml/fraud")),
        ("x.svc", Some("svc/x")),
        ("x.svc.svc", Some("svc/x")),
        ("x.example", Some("svc/x")),
        ("x", None),
        ("fraud.svc", None),
        ("fraud.other", None),
        ("", None),
        (".", None),
        ("a.b.c.d", None),
    ] {
        let found = view.resolve(host, &home).map(|name| name.to_string());
        assert_eq!(found.as_deref(), wanted, "{host:?}");
    }
}

#[test]
fn addresses_are_read_as_proxies_read_them() {
    let service = |name: &str, spec: &str| {
        format!(
            "apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: ml}}\nspec: {{{spec}}}\n"
        )
    };
    let documents = [
        service(
            "a",
            "ports: [{name: http, port: 80}], external: [{port: http, address: \"10.2.0.1:8000\"}, {port: http, address: \"10.1.0.1:80\"}]",
        ),
        service(
            "b",
            "ports: [{name: http, port: 80}, {name: grpc, port: 81}], addresses: [10.1.0.1, \"fd00::1\"], external: [{port: http, address: \"10.2.0.1:8000\"}, {port: grpc, address: \"10.2.0.1:8001\"}]",
        ),
    ];
    let view = view(&documents.join("---\n"));
    for (address, wanted) in [
        ("10.1.0.1:80", Some("ml/b")),
        ("10.1.0.1:81", Some("ml/b")),
        ("10.1.0.1:82", None),
        ("[fd00::1]:80", Some("ml/b")),
        ("10.2.0.1:8000", Some("ml/a")),
        ("10.2.0.1:8001", Some("ml/b")),
        ("10.2.0.1:80", None),
    ] {
        let found = view.at(address.parse().unwrap()).map(ToString::to_string);
        assert_eq!(found.as_deref(), wanted, "{address}");
    }
}

#[test]
fn what_says_the_same_is_no_change_and_what_changed_is_told_by_pointers() {
    let mut index = Index::new("mesh.local".parse().unwrap());
    let mut read = |text: &str| {
        index.apply([Event::Text("m.yaml".into(), text.into())]);
        index.clone()
    };
    let (first, _) = compile(&read(MESH), &View::empty(&"mesh.local".parse().unwrap()));
    let (same, changed) = compile(&read(&MESH.replace("{name: client", "{ name: client")), &first);
    assert!(!changed);
    let (next, changed) = compile(&read(&MESH.replace("weight: 9", "weight: 8")), &same);
    assert!(changed);
    for (name, kept) in [("ml/fraud", false), ("ml/fraud-v2", true), ("ml/two", true)] {
        let name = name.parse().unwrap();
        let (before, after) = (first.service(&name).unwrap(), next.service(&name).unwrap());
        assert_eq!(Arc::ptr_eq(before, after), kept, "{name}");
        assert!(Arc::ptr_eq(&before.endpoints, &after.endpoints), "{name}");
    }
    // What goes leaves nothing behind.
    let gone = MESH.replace("name: two, namespace: ml", "name: three, namespace: ml");
    let (next, changed) = compile(&read(&gone), &next);
    assert!(changed && next.service(&"ml/two".parse().unwrap()).is_none());
    let (next, _) = compile(&read("# nothing"), &next);
    assert_eq!(next.services().count() + next.workloads().count(), 0);
    assert!(next.resolve("fraud.example", &"ml".parse().unwrap()).is_none());
    assert!(next.at("127.0.0.1:7000".parse().unwrap()).is_none());
}
