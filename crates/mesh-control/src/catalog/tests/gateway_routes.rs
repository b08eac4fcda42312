//! Routes of the Gateway API beside Services, ReferenceGrants and ModelRoutes.

use mesh_api::route::Route;
use serde_json::Value;

use super::*;
use crate::source::kubernetes::gateway::{Grant, HttpRoute, Kind::Http, Parsed};

/// An HTTPRoute `ml/r` for the Service `s` with this backend, and whatever else its metadata and status say.
fn http_route(backend: &Value, metadata: &Value, status: &Value) -> Event {
    let mut object = json!({
        "metadata": {"name": "r", "namespace": "ml", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "s"}],
            "rules": [{"backendRefs": [backend]}],
        },
        "status": status,
    });
    for (field, value) in metadata.as_object().into_iter().flatten() {
        object["metadata"][field] = value.clone();
    }
    let route: HttpRoute = serde_json::from_value(object).unwrap();
    Event::Routes(Http, Change::Apply(Parsed::http(&route).unwrap()))
}

fn to(backend: &Value) -> Event {
    http_route(backend, &json!({}), &json!({}))
}

/// The Services that `ml/s` leads to, and those that it only seems to.
fn backends(catalog: &Catalog) -> Vec<String> {
    let service = catalog.view().service(&"ml/s".parse().unwrap()).unwrap();
    let backends = service.route.iter().flat_map(Route::backends);
    let backends = backends.map(|backend| match backend.invalid {
        Some(_) => format!("{}?", backend.service),
        None => backend.service.to_string(),
    });
    backends.collect()
}

fn services(catalog: &mut Catalog) {
    for (name, address) in [
        ("ml/s", "10.96.0.1"),
        ("ml/t", "10.96.0.2"),
        ("other/u", "10.96.0.3"),
    ] {
        catalog.apply([apply(Event::Services, service(name, address, &["http:80"]))]);
    }
}

fn remarks(catalog: &Catalog) -> Vec<(String, bool)> {
    let remarks = catalog.remarks().into_iter();
    remarks
        .map(|it| (format!("{}: {}: {}", it.object, it.field, it.reason), it.warning))
        .collect()
}

#[test]
fn they_come_behind_model_routes_whatever_is_there_first() {
    let mut catalog = Catalog::new(settings());
    catalog.apply([]);
    assert!(!catalog.apply([to(&json!({"name": "t", "port": 80}))]));
    assert_eq!(
        remarks(&catalog),
        [
            (
                "HTTPRoute ml/r: spec.parentRefs: there is no Service ml/s".into(),
                false
            ),
            (
                "HTTPRoute ml/r: spec.rules: there is no Service ml/t".into(),
                true
            ),
        ]
    );
    services(&mut catalog);
    assert!(remarks(&catalog).is_empty());
    assert_eq!(backends(&catalog), ["ml/t"]);
    catalog.apply([put_route(route("ml/m", 1, "s", &[("s", 1)]))]);
    assert_eq!(backends(&catalog), ["ml/s", "ml/t"]);
    catalog.apply([Event::Services(Change::Delete(key("ml/t")))]);
    assert_eq!(backends(&catalog), ["ml/s", "ml/t?"]);
    catalog.apply([Event::Routes(Http, Change::Reset(Vec::new()))]);
    assert_eq!(backends(&catalog), ["ml/s"]);
}

#[test]
fn a_grant_counts_as_long_as_it_is_there() {
    let mut catalog = Catalog::new(settings());
    services(&mut catalog);
    catalog.apply([to(&json!({"name": "u", "namespace": "other", "port": 80}))]);
    assert_eq!(backends(&catalog), ["other/u?"]);
    let refused =
        "HTTPRoute ml/r: spec.rules: no ReferenceGrant lets HTTPRoute ml/r refer to Service other/u";
    assert_eq!(remarks(&catalog), [(refused.to_owned(), true)]);
    let grant = json!({
        "metadata": {"name": "g", "namespace": "other"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "ml"}],
            "to": [{"group": "", "kind": "Service"}],
        },
    });
    let grant = Grant::new(serde_json::from_value(grant).unwrap()).unwrap();
    assert!(catalog.apply([Event::Grants(Change::Apply(grant.clone()))]));
    assert_eq!(backends(&catalog), ["other/u"]);
    assert!(!catalog.apply([Event::Grants(Change::Reset(vec![grant]))]));
    assert!(catalog.apply([Event::Grants(Change::Delete(key("other/g")))]));
    assert_eq!(backends(&catalog), ["other/u?"]);
}

#[test]
fn what_is_said_on_a_status_changes_nothing_and_is_known() {
    let mut catalog = Catalog::new(settings());
    services(&mut catalog);
    let backend = json!({"name": "t", "port": 80});
    catalog.apply([http_route(&backend, &json!({"resourceVersion": "1"}), &json!({}))]);
    let theirs = json!({"parents": [{"parentRef": {"name": "g"}, "controllerName": "example.com/g"}]});
    let said = http_route(&backend, &json!({"resourceVersion": "2"}), &theirs);
    assert!(!catalog.apply([said]));
    let (route, verdicts) = catalog.route_verdicts().next().unwrap();
    assert_eq!((&*route.version, route.said.len(), verdicts.len()), ("2", 1, 1));
}

#[test]
fn too_many_rules_together_leave_the_model_route_alone() {
    let mut catalog = Catalog::new(settings());
    services(&mut catalog);
    catalog.apply([to(&json!({"name": "t", "port": 80}))]);
    let rules = |count: usize| {
        let rule = |at| {
            let split = json!({"backends": [{"name": "s", "service": "s", "weight": 1}]});
            json!({"name": format!("r{at}"), "matches": [{"model": format!("m{at}")}], "split": split})
        };
        let rules: Vec<_> = (0..count).map(rule).collect();
        put_route(written(
            Kind::ModelRoute,
            "ml/m",
            1,
            json!({"service": "s", "rules": rules}),
        ))
    };
    // One rule of the HTTPRoute, and one for what it does not take.
    catalog.apply([rules(9_998)]);
    assert!(remarks(&catalog).is_empty());
    assert_eq!(backends(&catalog).len(), 9_999);
    catalog.apply([rules(9_999)]);
    assert_eq!(backends(&catalog).len(), 9_999);
    let refused =
        "HTTPRoute ml/r: spec.parentRefs: all routes of Service ml/s come to 10001 rules, more than 10000";
    assert_eq!(remarks(&catalog), [(refused.to_owned(), false)]);
}
