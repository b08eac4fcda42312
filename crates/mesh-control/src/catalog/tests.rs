//! Events in, views out.

use std::collections::BTreeSet;

use mesh_api::snapshot::{Snapshot, Version};
use serde_json::json;

use super::object::{EndpointState, Mtls, ServicePort, SliceEndpoint};
use super::*;

mod gateway_routes;
mod orders;

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        namespace: "mesh-system".parse().unwrap(),
    }
}

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap();
    Key {
        namespace: namespace.parse().unwrap(),
        name: name.into(),
    }
}

/// Ports as `http:80=grpc`: name, number and `appProtocol`, of which the name and the last may be missing.
fn service(name: &str, address: &str, ports: &[&str]) -> Service {
    let port = |text: &&str| {
        let (port, app_protocol) = match text.split_once('=') {
            Some((port, word)) => (port, Some(word.into())),
            None => (*text, None),
        };
        let (name, number) = port.split_once(':').unwrap();
        ServicePort {
            name: if name.is_empty() {
                format!("port-{number}")
            } else {
                name.to_owned()
            }
            .parse()
            .unwrap(),
            slice_name: name.into(),
            number: number.parse().unwrap(),
            app_protocol,
        }
    };
    Service {
        name: name.parse().unwrap(),
        ports: ports.iter().map(port).collect(),
        addresses: address.parse().into_iter().collect(),
        prefers_v6: false,
    }
}

/// Ports as `http:8000`; endpoints as `10.0.0.1 a-0 ready`, of which the pod may be `-`.
fn slice(name: &str, service: &str, ports: &[&str], endpoints: &[&str]) -> Slice {
    let key = key(name);
    let port = |text: &&str| {
        let (name, number) = text.split_once(':').unwrap();
        (name.into(), number.parse().unwrap())
    };
    let endpoint = |text: &&str| {
        let words: Vec<_> = text.split(' ').collect();
        SliceEndpoint {
            address: words[0].parse().unwrap(),
            pod: (words[1] != "-").then(|| Key {
                namespace: key.namespace.clone(),
                name: words[1].into(),
            }),
            state: match words[2] {
                "ready" => EndpointState::Ready,
                "draining" => EndpointState::Draining,
                _ => EndpointState::Unready,
            },
        }
    };
    Slice {
        service: service.parse().unwrap(),
        v6: endpoints.iter().any(|text| text.contains("::")),
        ports: ports.iter().map(port).collect(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        key,
    }
}

fn pod(name: &str, address: &str, sidecar: bool) -> Pod {
    Pod {
        key: key(name),
        account: "triton".into(),
        addresses: address.parse().into_iter().collect(),
        ports: vec![(Some("http".parse().unwrap()), 8000)],
        sidecar,
        host_network: false,
        mtls: Mtls::Unsaid,
    }
}

fn written(kind: Kind, name: &str, created: i64, spec: serde_json::Value) -> Written {
    let key = key(name);
    Written {
        kind,
        content: documents::read(kind, &key, spec, &settings()).map(Arc::new),
        key,
        created,
        generation: 1,
        status: Default::default(),
    }
}

fn route(name: &str, created: i64, service: &str, backends: &[(&str, u32)]) -> Written {
    let backends: Vec<_> = backends
        .iter()
        .map(|(service, weight)| json!({"name": service, "service": service, "weight": weight}))
        .collect();
    let spec = json!({"service": service, "rules": [{"name": "all", "split": {"backends": backends}}]});
    written(Kind::ModelRoute, name, created, spec)
}

fn apply<T>(event: impl Fn(Change<T>) -> Event, object: T) -> Event {
    event(Change::Apply(object))
}

fn put_route(written: Written) -> Event {
    Event::Documents(Kind::ModelRoute, Change::Apply(written))
}

/// What proxies know of a service: ports, addresses, then endpoints, with the account of those that are called in mutual TLS.
fn known(catalog: &Catalog, name: &str) -> String {
    let Some(service) = catalog.view().service(&name.parse().unwrap()) else {
        return "nothing".into();
    };
    let mut words: Vec<String> = Vec::new();
    for port in &service.ports {
        words.push(format!("{}:{}={}", port.name, port.port, port.app_protocol));
    }
    words.extend(service.addresses.iter().map(|address| format!("@{address}")));
    for endpoint in service.endpoints.iter() {
        let addresses: Vec<_> = endpoint
            .addresses
            .iter()
            .map(|(port, at)| format!("{port}@{at}"))
            .collect();
        let who = endpoint
            .identity
            .as_ref()
            .map(|identity| format!("({})", identity.account));
        words.push(format!("{}{}", addresses.join("+"), who.unwrap_or_default()));
    }
    if let Some(route) = &service.route {
        let weights: Vec<_> = route
            .backends()
            .map(|it| format!("{}={}", it.name, it.weight))
            .collect();
        words.push(format!("{}[{}]", route.name().name, weights.join(" ")));
    }
    words.join(" ")
}

fn snapshot(catalog: &Catalog, workload: &str) -> Option<Snapshot> {
    catalog
        .view()
        .snapshot(&workload.parse().unwrap(), Version(1), &BTreeSet::new())
}

/// What arrives at a pod's ports.
fn inbound(catalog: &Catalog, workload: &str) -> String {
    let Some(snapshot) = snapshot(catalog, workload) else {
        return "no workload".into();
    };
    let ports = snapshot.workload.ports.iter().map(|port| {
        let service = port.service.as_ref().map_or("-", |service| service.name.as_str());
        format!("{}@{}={}/{service}", port.name, port.listen, port.app_protocol)
    });
    ports.collect::<Vec<_>>().join(" ")
}

fn remarks(catalog: &Catalog) -> Vec<String> {
    let remarks = catalog.remarks().into_iter();
    remarks
        .map(|it| format!("{} {}: {}", it.object, it.field, it.reason))
        .collect()
}

#[test]
fn endpoints_come_and_go() {
    use Event::{Pods, Services, Slices};
    let fraud = |endpoints: &[&str]| apply(Slices, slice("ml/fraud-1", "fraud", &["http:8000"], endpoints));
    let head = "http:80=http @10.96.0.1";
    let table: Vec<(&str, Event, &str)> = vec![
        (
            "a service without endpoints",
            apply(Services, service("ml/fraud", "10.96.0.1", &["http:80=http"])),
            "",
        ),
        ("its pod is not known yet", fraud(&["10.0.0.1 a ready"]), ""),
        (
            "it is, without a sidecar",
            apply(Pods, pod("ml/a", "10.0.0.1", false)),
            " http@10.0.0.1:8000",
        ),
        (
            "it has one",
            apply(Pods, pod("ml/a", "10.0.0.1", true)),
            " http@10.0.0.1:8000(triton)",
        ),
        ("it goes down", fraud(&["10.0.0.1 a unready"]), ""),
        (
            "it is up at another address",
            fraud(&["10.0.0.2 a ready"]),
            " http@10.0.0.2:8000(triton)",
        ),
        (
            "something that is no pod",
            fraud(&["10.0.0.2 a ready", "10.9.9.9 - ready"]),
            " http@10.0.0.2:8000(triton) http@10.9.9.9:8000",
        ),
        (
            "one drains",
            fraud(&["10.0.0.2 a draining", "10.9.9.9 - ready"]),
            " http@10.9.9.9:8000",
        ),
        (
            "all do",
            fraud(&["10.0.0.2 a draining", "10.9.9.9 - unready"]),
            " http@10.0.0.2:8000(triton)",
        ),
        (
            "the account changes",
            apply(
                Pods,
                Pod {
                    account: "other".into(),
                    ..pod("ml/a", "10.0.0.2", true)
                },
            ),
            " http@10.0.0.2:8000(other)",
        ),
        (
            "an account that is no identity's",
            apply(
                Pods,
                Pod {
                    account: "a.b".into(),
                    ..pod("ml/a", "10.0.0.2", true)
                },
            ),
            "",
        ),
        (
            "on the node's network there is no sidecar",
            apply(
                Pods,
                Pod {
                    host_network: true,
                    ..pod("ml/a", "10.0.0.2", true)
                },
            ),
            " http@10.0.0.2:8000",
        ),
        (
            "the pod goes before its slice says so",
            Pods(Change::Delete(key("ml/a"))),
            "",
        ),
        ("the slice goes", Slices(Change::Delete(key("ml/fraud-1"))), ""),
    ];
    let mut catalog = Catalog::new(settings());
    for (what, event, endpoints) in table {
        catalog.apply([event]);
        assert_eq!(
            known(&catalog, "ml/fraud"),
            format!("{head}{endpoints}"),
            "{what}"
        );
    }
    catalog.apply([Services(Change::Delete(key("ml/fraud")))]);
    assert_eq!(known(&catalog, "ml/fraud"), "nothing");
}

#[test]
fn slices_are_put_together() {
    use Event::{Pods, Services, Slices};
    let mut catalog = Catalog::new(settings());
    catalog.apply([
        apply(Services, service("ml/s", "", &["http:80", "grpc:90=grpc"])),
        apply(Pods, pod("ml/a", "10.0.0.1", true)),
        apply(Pods, pod("ml/b", "10.0.0.2", true)),
        // Named target ports differ from pod to pod.
        apply(
            Slices,
            slice("ml/s-1", "s", &["http:8000", "grpc:8001"], &["10.0.0.1 a ready"]),
        ),
        apply(
            Slices,
            slice("ml/s-2", "s", &["http:9000", "grpc:8001"], &["10.0.0.2 b ready"]),
        ),
    ]);
    let both = "http:80=detect grpc:90=grpc grpc@10.0.0.1:8001+http@10.0.0.1:8000(triton) \
                grpc@10.0.0.2:8001+http@10.0.0.2:9000(triton)";
    assert_eq!(known(&catalog, "ml/s"), both);
    // On its way from one slice to another, an endpoint is in both, or is ready in one of them only.
    catalog.apply([apply(
        Slices,
        slice(
            "ml/s-3",
            "s",
            &["http:8000", "grpc:8001"],
            &["10.0.0.1 a ready", "10.0.0.2 b unready"],
        ),
    )]);
    assert_eq!(known(&catalog, "ml/s"), both);
    // A slice without ports, and one with a port that the service does not have.
    catalog.apply([
        apply(Slices, slice("ml/s-3", "s", &[], &["10.0.0.3 - ready"])),
        apply(
            Slices,
            slice("ml/s-4", "s", &["metrics:9090"], &["10.0.0.4 - ready"]),
        ),
    ]);
    assert_eq!(known(&catalog, "ml/s"), both);
    // Of two families, the service's first counts, or else the one that there is.
    catalog.apply([apply(
        Slices,
        slice("ml/s-5", "s", &["http:8000"], &["fd00::1 a ready"]),
    )]);
    assert_eq!(known(&catalog, "ml/s"), both);
    let prefers_v6 = Service {
        prefers_v6: true,
        ..service("ml/s", "", &["http:80"])
    };
    catalog.apply([apply(Services, prefers_v6)]);
    assert_eq!(
        known(&catalog, "ml/s"),
        "http:80=detect http@[fd00::1]:8000(triton)"
    );
    catalog.apply([Slices(Change::Delete(key("ml/s-5")))]);
    assert!(known(&catalog, "ml/s").contains("http@10.0.0.1:8000"));
    // A slice that moves to another service.
    catalog.apply([
        apply(Services, service("ml/t", "", &["http:80"])),
        Slices(Change::Reset(vec![slice(
            "ml/s-1",
            "t",
            &["http:8000"],
            &["10.0.0.1 a ready"],
        )])),
    ]);
    assert_eq!(known(&catalog, "ml/s"), "http:80=detect");
    assert_eq!(
        known(&catalog, "ml/t"),
        "http:80=detect http@10.0.0.1:8000(triton)"
    );
}

#[test]
fn what_is_no_service_of_the_mesh_is_left_alone() {
    let mut catalog = Catalog::new(settings());
    catalog.apply([
        apply(Event::Services, service("ml/udp", "10.96.0.3", &[])),
        apply(
            Event::Slices,
            slice("ml/absent-1", "absent", &["http:80"], &["10.0.0.1 - ready"]),
        ),
    ]);
    assert_eq!(known(&catalog, "ml/udp"), "nothing");
    assert_eq!(known(&catalog, "ml/absent"), "nothing");
    assert!(catalog.view().at("10.0.0.1:80".parse().unwrap()).is_none());
}

#[test]
fn services_are_found_by_name_and_address() {
    let mut catalog = Catalog::new(Settings {
        cluster_domain: "corp.example".into(),
        ..settings()
    });
    catalog.apply([
        apply(Event::Services, service("ml/s", "10.96.0.1", &["http:80"])),
        // Headless.
        apply(Event::Services, service("ml/h", "", &["http:80"])),
        apply(
            Event::Slices,
            slice("ml/h-1", "h", &["http:8000"], &["10.0.0.1 - ready"]),
        ),
    ]);
    let home = "ml".parse().unwrap();
    for (host, wanted) in [
        ("s", Some("ml/s")),
        ("s.ml.svc", Some("ml/s")),
        ("s.ml.svc.corp.example", Some("ml/s")),
        ("h.ml.svc.corp.example", Some("ml/h")),
        ("s.other.svc.corp.example", None),
    ] {
        let found = catalog.view().resolve(host, &home).map(|name| name.to_string());
        assert_eq!(found.as_deref(), wanted, "{host}");
    }
    for (address, wanted) in [
        ("10.96.0.1:80", Some("ml/s")),
        ("10.96.0.1:81", None),
        ("10.0.0.1:8000", Some("ml/h")),
        ("10.0.0.1:80", None),
    ] {
        let found = catalog
            .view()
            .at(address.parse().unwrap())
            .map(ToString::to_string);
        assert_eq!(found.as_deref(), wanted, "{address}");
    }
}

#[test]
fn a_pod_is_a_workload_as_soon_as_it_is_there() {
    use Event::{Pods, Services, Slices};
    let mut catalog = Catalog::new(settings());
    catalog.apply([apply(Pods, pod("ml/a", "", true))]);
    let first = snapshot(&catalog, "ml/a").unwrap();
    assert_eq!(
        first.workload.identity.to_string(),
        "spiffe://cluster.local/ns/ml/sa/triton"
    );
    assert!(first.workload.on_demand && first.workload.ports.is_empty() && first.services.is_empty());
    assert_eq!(first.workload.interception.unwrap().inbound, 15_006);

    let web = |endpoints: &[&str]| apply(Slices, slice("ml/web-1", "web", &["api:9000"], endpoints));
    let table: Vec<(&str, Event, &str)> = vec![
        (
            "its address",
            apply(Pods, pod("ml/a", "10.0.0.1", true)),
            "http@10.0.0.1:8000=detect/-",
        ),
        (
            "a service that is not there yet",
            web(&["10.0.0.1 a unready"]),
            "http@10.0.0.1:8000=detect/-",
        ),
        (
            "it is",
            apply(Services, service("ml/web", "", &["api:80=grpc"])),
            "http@10.0.0.1:8000=detect/- port-9000@10.0.0.1:9000=grpc/web",
        ),
        (
            "it says something else",
            apply(Services, service("ml/web", "", &["api:80=mesh.dev/openai"])),
            "http@10.0.0.1:8000=detect/- port-9000@10.0.0.1:9000=mesh.dev/openai/web",
        ),
        (
            "another one to the same port, first by name, that does not say what it speaks",
            Slices(Change::Reset(vec![
                slice("ml/web-1", "web", &["api:8000"], &["10.0.0.1 a ready"]),
                slice("ml/all-1", "all", &[":8000"], &["10.0.0.1 a ready"]),
            ])),
            "http@10.0.0.1:8000=mesh.dev/openai/web",
        ),
        (
            "which is there now",
            apply(Services, service("ml/all", "", &[":80"])),
            "http@10.0.0.1:8000=mesh.dev/openai/all",
        ),
        (
            "ports of the sidecar's are not the pod's",
            apply(
                Pods,
                Pod {
                    ports: vec![(None, 15_006), (None, 8_080)],
                    ..pod("ml/a", "10.0.0.1", true)
                },
            ),
            "http@10.0.0.1:8000=mesh.dev/openai/all port-8080@10.0.0.1:8080=detect/-",
        ),
        (
            "no sidecar",
            apply(Pods, pod("ml/a", "10.0.0.1", false)),
            "no workload",
        ),
        (
            "again",
            apply(Pods, pod("ml/a", "10.0.0.2", true)),
            "http@10.0.0.2:8000=mesh.dev/openai/all",
        ),
        (
            "both families",
            apply(
                Pods,
                Pod {
                    addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                    ..pod("ml/a", "", true)
                },
            ),
            "http@10.0.0.2:8000=mesh.dev/openai/all http@[fd00::2]:8000=mesh.dev/openai/all",
        ),
        ("gone", Pods(Change::Delete(key("ml/a"))), "no workload"),
    ];
    for (what, event, wanted) in table {
        catalog.apply([event]);
        let ports = inbound(&catalog, "ml/a");
        assert_eq!(ports.replace("port-8000@", "http@"), wanted, "{what}");
    }
}

#[test]
fn what_inbound_listeners_accept_is_said_by_pod_namespace_or_mesh() {
    use mesh_api::document::MtlsMode::{Permissive, Strict};
    let mut catalog = Catalog::new(settings());
    let of_pod = |mtls: Option<&str>| {
        apply(
            Event::Pods,
            Pod {
                mtls: Mtls::read(mtls),
                ..pod("ml/a", "10.0.0.1", true)
            },
        )
    };
    let of_namespace = |mtls: Option<&str>| {
        let namespace = Namespace {
            name: "ml".parse().unwrap(),
            mtls: Mtls::read(mtls),
        };
        apply(Event::Namespaces, namespace)
    };
    let of_mesh = |spec| {
        let written = written(Kind::MeshConfig, "mesh-system/mesh", 1, spec);
        Event::Documents(Kind::MeshConfig, Change::Apply(written))
    };
    let table = [
        (
            "on Kubernetes, plaintext is taken by default",
            of_pod(None),
            Permissive,
        ),
        ("a MeshConfig that does not say", of_mesh(json!({})), Permissive),
        ("one that does", of_mesh(json!({"mtls": "strict"})), Strict),
        ("a namespace", of_namespace(Some("permissive")), Permissive),
        ("a pod", of_pod(Some("strict")), Strict),
        ("a pod that can't spell", of_pod(Some("permissve")), Strict),
        ("a pod that does not say", of_pod(None), Permissive),
        ("a namespace that does not", of_namespace(None), Strict),
        (
            "no namespace",
            Event::Namespaces(Change::Delete(key("ml/ml"))),
            Strict,
        ),
        (
            "no MeshConfig",
            Event::Documents(Kind::MeshConfig, Change::Reset(Vec::new())),
            Permissive,
        ),
    ];
    for (what, event, wanted) in table {
        catalog.apply([event]);
        assert_eq!(snapshot(&catalog, "ml/a").unwrap().mtls(), wanted, "{what}");
    }
    catalog.apply([of_pod(Some("permissve"))]);
    assert_eq!(
        remarks(&catalog),
        [
            "Pod ml/a metadata.annotations[mesh.dev/mtls]: \"permissve\" is neither strict nor permissive, and taken for strict"
        ]
    );
}

#[test]
fn routes_are_in_force_by_age_and_as_long_as_they_were_good() {
    let mut catalog = Catalog::new(settings());
    catalog.apply([
        apply(Event::Services, service("ml/s", "", &["http:80"])),
        apply(Event::Services, service("ml/t", "", &["http:80"])),
    ]);
    let bad = || {
        let mut bad = route("ml/old", 1, "s", &[("s", 1)]);
        bad.content = documents::read(
            Kind::ModelRoute,
            &bad.key,
            json!({"service": "s", "rules": [{"split": 1}]}),
            &settings(),
        )
        .map(Arc::new);
        put_route(bad)
    };
    let gone = |name: &str| Event::Documents(Kind::ModelRoute, Change::Delete(key(name)));
    let table: Vec<(&str, Event, &str, &str, usize)> = vec![
        (
            "a route",
            put_route(route("ml/young", 9, "s", &[("s", 1)])),
            "young[s=1]",
            "",
            0,
        ),
        (
            "an older one",
            put_route(route("ml/old", 1, "s", &[("t", 5)])),
            "old[t=5]",
            "",
            1,
        ),
        (
            "it changes",
            put_route(route("ml/old", 1, "s", &[("t", 6)])),
            "old[t=6]",
            "",
            1,
        ),
        ("it is bad", bad(), "old[t=6]", "", 2),
        (
            "of the same age, by name",
            put_route(route("ml/even", 1, "s", &[("t", 7)])),
            "even[t=7]",
            "",
            3,
        ),
        ("that one goes", gone("ml/even"), "old[t=6]", "", 2),
        (
            "it is about another service",
            put_route(route("ml/old", 1, "t", &[("t", 6)])),
            "young[s=1]",
            "old[t=6]",
            0,
        ),
        ("it goes", gone("ml/old"), "young[s=1]", "", 0),
        ("bad from the start", bad(), "young[s=1]", "", 1),
        (
            "all go",
            Event::Documents(Kind::ModelRoute, Change::Reset(Vec::new())),
            "",
            "",
            0,
        ),
    ];
    for (what, event, s, t, count) in table {
        catalog.apply([event]);
        let routed = |name| {
            known(&catalog, name)
                .split_once("detect")
                .unwrap()
                .1
                .trim()
                .to_owned()
        };
        assert_eq!(
            (routed("ml/s").as_str(), routed("ml/t").as_str()),
            (s, t),
            "{what}"
        );
        assert_eq!(remarks(&catalog).len(), count, "{what}: {:?}", remarks(&catalog));
    }
}

#[test]
fn what_is_wrong_is_said_with_object_field_and_reason() {
    let mut catalog = Catalog::new(settings());
    let document =
        |kind, name: &str, spec| Event::Documents(kind, Change::Apply(written(kind, name, 5, spec)));
    let split =
        |service: &str| json!([{"name": "all", "split": {"backends": [{"name": "b", "service": service}]}}]);
    catalog.apply([
        apply(Event::Services, service("ml/s", "", &["http:80=mesh.dev/triton"])),
        document(
            Kind::ModelRoute,
            "ml/a",
            json!({"service": "s", "rules": split("absent")}),
        ),
        document(
            Kind::ModelRoute,
            "ml/b",
            json!({"service": "s", "rules": split("s")}),
        ),
        document(
            Kind::ModelRoute,
            "ml/c",
            json!({"service": "s", "rules": [{"split": {"backends": [{"name": "b"}]}}]}),
        ),
        document(
            Kind::ModelRoute,
            "ml/d.e",
            json!({"service": "s", "rules": split("s")}),
        ),
        document(Kind::MeshConfig, "ml/mesh", json!({})),
        document(
            Kind::MeshConfig,
            "mesh-system/mesh",
            json!({"trustDomain": "other"}),
        ),
        document(
            Kind::TrafficPolicy,
            "ml/p",
            json!({"service": "s", "connection": {"connectTimeout": "90s"}}),
        ),
        apply(Event::Pods, pod("ml/x.y", "10.0.0.1", true)),
        apply(
            Event::Pods,
            Pod {
                host_network: true,
                ..pod("ml/h", "10.0.0.1", true)
            },
        ),
    ]);
    insta::assert_snapshot!(remarks(&catalog).join("\n"));
}

#[test]
fn an_event_costs_what_it_touches() {
    let mut catalog = Catalog::new(settings());
    let number = 200;
    let names: Vec<String> = (0..number).map(|at| format!("s{at}")).collect();
    let slices = names.iter().map(|name| {
        let endpoint = format!("10.0.0.1 {name}-0 ready");
        slice(&format!("ml/{name}-1"), name, &["http:8000"], &[&endpoint])
    });
    catalog.apply([
        Event::Services(Change::Reset(
            names
                .iter()
                .map(|name| service(&format!("ml/{name}"), "", &["http:80"]))
                .collect(),
        )),
        Event::Slices(Change::Reset(slices.collect())),
        Event::Pods(Change::Reset(
            names
                .iter()
                .map(|name| pod(&format!("ml/{name}-0"), "10.0.0.1", true))
                .collect(),
        )),
    ]);
    let before = catalog.view().clone();
    let event = apply(
        Event::Slices,
        slice("ml/s7-1", "s7", &["http:8000"], &["10.0.0.1 s7-0 unready"]),
    );
    assert!(catalog.apply([event.clone()]));
    assert!(!catalog.apply([event]), "the same again changes nothing");
    let after = catalog.view();
    let same = before.services().filter(|(name, service)| {
        after
            .service(name)
            .is_some_and(|other| Arc::ptr_eq(service, other))
    });
    assert_eq!(same.count(), number - 1);
    // Whether an endpoint is ready is nothing to its workload, and a list anew of what is known changes nothing.
    let names: Vec<Pod> = catalog.pods.values().cloned().collect();
    assert!(!catalog.apply([Event::Pods(Change::Reset(names))]));
}
