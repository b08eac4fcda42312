//! What two Tables share, and what they must not.

use std::collections::BTreeMap;

use mesh_api::document::ModelRouteSpec;
use mesh_api::route::Route;
use mesh_api::snapshot::Delta;
use serde_json::json;

use super::*;
use crate::testing::snapshot;

fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}

fn endpoints(ports: std::ops::Range<u16>) -> Arc<[snapshot::Endpoint]> {
    ports
        .map(|port| snapshot::Endpoint {
            workload: None,
            identity: None,
            addresses: BTreeMap::from([("http".parse().unwrap(), ([127, 0, 0, 1], port).into())]),
        })
        .collect()
}

fn route(service: &str, backends: &[(&str, u32)]) -> Route {
    let backends: Vec<_> = backends
        .iter()
        .map(|(backend, weight)| json!({"name": backend, "service": backend, "weight": weight}))
        .collect();
    let spec = json!({"service": service, "rules": [{"split": {"backends": backends}}]});
    let spec: ModelRouteSpec = serde_json::from_value(spec).unwrap();
    Route::new(&name(&format!("ml/{service}")), &spec).unwrap()
}

/// Services `fraud`, routed to `a` and `b`, `other`, routed to `b`, `a`, `b` with ten endpoints each.
fn base() -> Snapshot {
    let mut base = snapshot(1);
    base.workload.interception = Some(snapshot::Interception {
        inbound: 15006,
        outbound: 15001,
    });
    let plain = Arc::clone(&base.services[&name("ml/fraud")]);
    for (service, first) in [("a", 1000), ("b", 2000), ("fraud", 3000), ("other", 4000)] {
        let mut service_of = snapshot::Service::clone(&plain);
        service_of.hosts = vec![format!("{service}.example")];
        service_of.addresses = vec![std::net::Ipv4Addr::from_bits(first.into()).into()];
        service_of.endpoints = endpoints(first..first + 10);
        service_of.route = match service {
            "fraud" => Some(route("fraud", &[("a", 90), ("b", 10)])),
            "other" => Some(route("other", &[("b", 1)])),
            _ => None,
        };
        base.services
            .insert(name(&format!("ml/{service}")), Arc::new(service_of));
    }
    base
}

fn after(before: &Table, change: impl FnOnce(&mut Delta)) -> Table {
    let mut delta = Delta {
        version: snapshot::Version(before.version.0 + 1),
        ..Delta::default()
    };
    change(&mut delta);
    let next = Snapshot::after(Some(&before.snapshot), delta).unwrap();
    build(Arc::new(next), Some(before))
}

fn port<'a>(table: &'a Table, host: &str) -> &'a Arc<ServicePort> {
    table.find(host, None).unwrap()
}

fn shared(a: &Table, b: &Table, host: &str) -> bool {
    Arc::ptr_eq(port(a, host), port(b, host))
}

#[test]
fn a_weight_changes_one_service_and_no_set() {
    let before = build(Arc::new(base()), None);
    let next = after(&before, |delta| {
        delta
            .routes
            .insert(name("ml/fraud"), route("fraud", &[("a", 50), ("b", 50)]));
    });
    assert!(!shared(&before, &next, "fraud"));
    assert_eq!(port(&next, "fraud").rules[0].backends()[0].weight, 50);
    assert!(Arc::ptr_eq(
        &port(&before, "fraud").own,
        &port(&next, "fraud").own
    ));
    for host in ["a", "b", "other"] {
        assert!(shared(&before, &next, host), "{host}");
    }
    assert!(Arc::ptr_eq(&before.hosts, &next.hosts));
    assert!(Arc::ptr_eq(places(&before), places(&next)));
}

#[test]
fn new_endpoints_reach_every_route_that_leads_to_them_and_those_that_stay_are_kept() {
    let before = build(Arc::new(base()), None);
    let next = after(&before, |delta| {
        delta.endpoints.insert(name("ml/b"), endpoints(2005..2015));
    });
    assert!(shared(&before, &next, "a"));
    for host in ["b", "fraud", "other"] {
        assert!(!shared(&before, &next, host), "{host}");
    }
    let set = &port(&next, "b").own;
    let of_fraud = port(&next, "fraud").targets[0][1].set.as_ref().unwrap();
    assert!(Arc::ptr_eq(set, of_fraud));
    assert!(Arc::ptr_eq(
        set,
        port(&next, "other").targets[0][0].set.as_ref().unwrap()
    ));
    assert_eq!(set.endpoints.len(), 10);
    let old = &port(&before, "b").own.endpoints;
    let kept = set
        .endpoints
        .iter()
        .filter(|endpoint| old.iter().any(|other| Arc::ptr_eq(endpoint, other)));
    assert_eq!(kept.count(), 5);
}

#[test]
fn a_backend_that_comes_or_goes_is_noticed() {
    let before = build(Arc::new(base()), None);
    let gone = after(&before, |delta| delta.removed_services.push(name("ml/b")));
    assert!(port(&gone, "fraud").targets[0][0].set.is_some());
    assert!(port(&gone, "fraud").targets[0][1].set.is_none());
    assert!(gone.find("b", None).is_none() && gone.find("b.example", None).is_none());
    assert!(shared(&before, &gone, "a"));
    let back = build(Arc::new(base()), Some(&gone));
    assert!(port(&back, "fraud").targets[0][1].set.is_some());
    assert_eq!(port(&back, "b.example").own.endpoints.len(), 10);
}

#[test]
fn whatever_led_to_a_table_it_means_the_same() {
    // Every state reached in one step from every other one, and from nothing.
    let mut states = vec![base()];
    for change in 0..7 {
        let mut state = base();
        let edit = |state: &mut Snapshot, of: &str, edit: &dyn Fn(&mut snapshot::Service)| {
            if let Some(service) = state.services.get_mut(&name(of)) {
                edit(Arc::make_mut(service));
            }
        };
        match change {
            0 => drop(state.services.remove(&name("ml/a"))),
            1 => edit(&mut state, "ml/b", &|it| it.endpoints = endpoints(2003..2020)),
            2 => edit(&mut state, "ml/fraud", &|it| it.route = None),
            3 => edit(&mut state, "ml/other", &|it| {
                it.hosts = vec!["a.example".to_owned()];
            }),
            4 => edit(&mut state, "ml/a", &|it| {
                it.addresses = vec!["10.0.0.9".parse().unwrap()];
            }),
            5 => edit(&mut state, "ml/other", &|it| it.ports[0].port = 81),
            _ => edit(&mut state, "ml/b", &|it| {
                it.ports[0].name = "grpc".parse().unwrap();
            }),
        }
        states.push(state);
    }
    for from in &states {
        let from = build(Arc::new(from.clone()), None);
        for to in &states {
            let fresh = build(Arc::new(to.clone()), None);
            let next = build(Arc::new(to.clone()), Some(&from));
            assert_eq!(meaning(&next), meaning(&fresh));
        }
    }
}

fn places(table: &Table) -> &Arc<intercepted::Places> {
    &table.intercepted.as_ref().unwrap().places
}

/// Where every service leads, as text.
fn meaning(table: &Table) -> String {
    let addresses = |set: &EndpointSet| {
        format!(
            "{:?}",
            set.endpoints.iter().map(|it| it.address).collect::<Vec<_>>()
        )
    };
    let ports = table
        .services
        .iter()
        .flat_map(|service| &service.ports)
        .map(|port| {
            let targets = port.targets.iter().flatten();
            let targets: Vec<_> = targets
                .map(|target| target.set.as_deref().map(addresses))
                .collect();
            format!(
                "{} {} {} {targets:?}\n",
                port.service,
                port.name,
                addresses(&port.own)
            )
        });
    let hosts = ["a", "b.ml", "a.example", "other.example"].map(|host| {
        let found = table.find(host, None).map(|port| port.service.clone());
        format!("{host} {found:?}\n")
    });
    let own = [1000, 2000, 3000, 4000].map(std::net::Ipv4Addr::from_bits);
    let addresses = own.into_iter().chain(["10.0.0.9".parse().unwrap()]);
    let of_services = addresses.flat_map(|ip| [81, 8080].map(|port| SocketAddr::from((ip, port))));
    let of_endpoints = (1000..4020).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let addresses = of_services.chain(of_endpoints).filter_map(|address| {
        let found = table.destination(address)?;
        let endpoint = found.endpoint.map(|endpoint| endpoint.address);
        Some(format!("{address} {} {endpoint:?}\n", found.port.service))
    });
    ports.chain(hosts).chain(addresses).collect()
}
