//! Objects and proxies in, statuses out.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_api::document::Kind;
use mesh_api::snapshot::Snapshot;
use serde_json::{Value, json};

use super::*;
use crate::catalog::Event;
use crate::catalog::documents::{Settings, Written, read};
use crate::catalog::object::{Change, Key, Mtls, Pod, Service, ServicePort};
use crate::proxies::Follower;

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        namespace: "mesh-system".parse().unwrap(),
    }
}

fn key(name: &str) -> Key {
    Key {
        namespace: "ml".parse().unwrap(),
        name: name.into(),
    }
}

fn put(kind: Kind, name: &str, generation: i64, spec: Value, status: ModelRouteStatus) -> Event {
    let key = key(name);
    let written = Written {
        kind,
        created: i64::try_from(name.len()).unwrap(),
        generation,
        content: read(kind, &key, spec, &settings()).map(Arc::new),
        status,
        key,
    };
    Event::Documents(kind, Change::Apply(written))
}

fn route(canary: &Value) -> Value {
    json!({"service": "fraud", "rules": [{"name": "all", "split": {"backends": [
        {"name": "stable", "service": "fraud", "weight": 95},
        {"name": "canary", "service": "fraud-v2", "weight": canary},
    ]}}]})
}

fn service(name: &str) -> Event {
    Event::Services(Change::Apply(Service {
        name: format!("ml/{name}").parse().unwrap(),
        ports: vec![ServicePort {
            name: "http".parse().unwrap(),
            slice_name: "http".into(),
            number: 80,
            app_protocol: None,
        }],
        addresses: Vec::new(),
        prefers_v6: false,
    }))
}

fn pod(name: &str) -> Event {
    Event::Pods(Change::Apply(Pod {
        key: key(name),
        account: "default".into(),
        addresses: Vec::new(),
        ports: Vec::new(),
        sidecar: true,
        host_network: false,
        mtls: Mtls::Unsaid,
    }))
}

/// What a proxy has that uses the routed service.
fn snapshot(catalog: &Catalog) -> Arc<Snapshot> {
    let used = BTreeSet::from(["ml/fraud".parse().unwrap()]);
    let snapshot = catalog
        .view()
        .snapshot(&"ml/web".parse().unwrap(), Version(1), &used);
    Arc::new(snapshot.unwrap())
}

fn follower(wanted: &Arc<Snapshot>, serves: Option<&Arc<Snapshot>>, refusal: &str) -> Follower {
    Follower {
        workload: "ml/web".parse().unwrap(),
        wanted: Some(wanted.clone()),
        serves: serves.cloned(),
        refusal: refusal.into(),
    }
}

/// The status of an object: weights, proxies, version; then each condition with its reason and message.
fn told(catalog: &Catalog, name: &str, followers: &[Follower], now: &str) -> (ModelRouteStatus, String) {
    told_with(catalog, name, followers, &[], now)
}

/// The same, with what other replicas tell.
fn told_with(
    catalog: &Catalog,
    name: &str,
    followers: &[Follower],
    others: &[Told],
    now: &str,
) -> (ModelRouteStatus, String) {
    let reach = Reach::of(catalog.view(), followers);
    let verdict = catalog
        .verdicts()
        .find(|verdict| verdict.written.key == key(name))
        .unwrap();
    let status = status(
        catalog,
        &verdict,
        &reach,
        others,
        Version(7),
        &Time(now.parse().unwrap()),
    );
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".into());
    let mut lines = vec![format!(
        "{} {} {:?} at {:?}",
        word(&status.weights),
        word(&status.proxies),
        status.version,
        status.observed_generation
    )];
    for it in &status.conditions {
        let since = it.last_transition_time.0.to_string();
        lines.push(format!(
            "{} {} {}: {} ({})",
            it.type_,
            it.status,
            it.reason,
            it.message,
            &since[..4]
        ));
    }
    (status, lines.join("\n"))
}

#[test]
fn a_status_follows_its_object_and_its_proxies() {
    let mut catalog = Catalog::new(settings());
    let none = ModelRouteStatus::default;
    catalog.apply([
        service("fraud"),
        pod("web"),
        put(Kind::ModelRoute, "fraud", 1, route(&json!(5)), none()),
    ]);
    let mut pages = Vec::new();
    let mut page = |what: &str, text: String| pages.push(format!("# {what}\n{text}"));

    let (first, text) = told(&catalog, "fraud", &[], "2001-01-01T00:00:00Z");
    page("nobody uses it, and a backend is missing", text);
    catalog.apply([service("fraud-v2")]);
    let five = snapshot(&catalog);
    let two = [follower(&five, Some(&five), ""), follower(&five, None, "")];
    page(
        "one proxy has it, and one is about to",
        told(&catalog, "fraud", &two, "2001-01-01T00:00:00Z").1,
    );
    let both = [follower(&five, Some(&five), ""), follower(&five, Some(&five), "")];
    let (served, text) = told(&catalog, "fraud", &both, "2001-01-01T00:00:00Z");
    page("both have it", text);

    // What was written is read again: what holds since then holds since then.
    catalog.apply([put(
        Kind::ModelRoute,
        "fraud",
        1,
        route(&json!(5)),
        served.clone(),
    )]);
    let (same, _) = told(&catalog, "fraud", &both, "2002-01-01T00:00:00Z");
    assert_eq!(same, served, "nothing to be written");
    assert_ne!(same, first);

    catalog.apply([put(
        Kind::ModelRoute,
        "fraud",
        2,
        route(&json!(6)),
        served.clone(),
    )]);
    let six = snapshot(&catalog);
    let refusing = [
        follower(&six, Some(&six), ""),
        follower(&six, Some(&five), "Route ml/fraud: rules[0]: no"),
    ];
    page(
        "a change that a proxy refuses",
        told(&catalog, "fraud", &refusing, "2003-01-01T00:00:00Z").1,
    );
    catalog.apply([put(Kind::ModelRoute, "fraud", 3, route(&json!("all")), served)]);
    page(
        "a change that is not valid",
        told(&catalog, "fraud", &both, "2004-01-01T00:00:00Z").1,
    );
    catalog.apply([put(Kind::ModelRoute, "fraud-too", 1, route(&json!(1)), none())]);
    page(
        "a younger one",
        told(&catalog, "fraud-too", &both, "2005-01-01T00:00:00Z").1,
    );
    catalog.apply([put(
        Kind::ModelRoute,
        "bad",
        1,
        json!({"service": "fraud"}),
        none(),
    )]);
    page(
        "never valid",
        told(&catalog, "bad", &both, "2005-01-01T00:00:00Z").1,
    );
    catalog.apply([put(
        Kind::TrafficPolicy,
        "policy",
        1,
        json!({"service": "fraud"}),
        none(),
    )]);
    page(
        "a policy",
        told(&catalog, "policy", &both, "2005-01-01T00:00:00Z").1,
    );
    insta::assert_snapshot!(pages.join("\n\n"));
}

#[test]
fn proxies_of_other_replicas_count_while_they_serve_the_same_generation() {
    let now = "2001-01-01T00:00:00Z";
    let mut catalog = Catalog::new(settings());
    catalog.apply([service("fraud"), service("fraud-v2"), pod("web")]);
    catalog.apply([put(
        Kind::ModelRoute,
        "fraud",
        2,
        route(&json!(5)),
        ModelRouteStatus::default(),
    )]);
    let five = snapshot(&catalog);
    let own = [follower(&five, Some(&five), "")];
    let told = |text: Value| serde_json::from_value::<Told>(text).unwrap();
    let cases = [
        (json!({"objects": {}}), "1/1", "Programmed"),
        (
            json!({"objects": {"ModelRoute ml/fraud": [2, 3, 3]}}),
            "4/4",
            "Programmed",
        ),
        (
            json!({"objects": {"ModelRoute ml/fraud": [2, 3, 1]}}),
            "2/4",
            "Pending",
        ),
        (
            json!({"objects": {"ModelRoute ml/fraud": [1, 3, 3]}}),
            "1/4",
            "Pending",
        ),
        (
            json!({"objects": {"ModelRoute ml/fraud": [2, 1, 0]}, "refusals": {"ModelRoute ml/fraud": "ml/b: no"}}),
            "1/2",
            "Refused",
        ),
        (
            json!({"objects": {"ModelRoute ml/other": [2, 3, 3]}}),
            "1/1",
            "Programmed",
        ),
    ];
    for (said, proxies, reason) in cases {
        let (status, text) = told_with(&catalog, "fraud", &own, &[told(said.clone())], now);
        assert_eq!(status.proxies.as_deref(), Some(proxies), "{said}");
        assert!(text.contains(&format!(" {reason}: ")), "{said}: {text}");
    }
    // None of this replica's own.
    let two = told(json!({"objects": {"ModelRoute ml/fraud": [2, 2, 2]}}));
    let (status, _) = told_with(&catalog, "fraud", &[], &[two], now);
    assert_eq!(status.proxies.as_deref(), Some("2/2"));
}

#[test]
fn another_control_plane_keeps_what_is_in_force() {
    let now = "2001-01-01T00:00:00Z";
    let objects = || [service("fraud"), service("fraud-v2"), pod("web")];
    let put = |canary: Value, status: &ModelRouteStatus| {
        put(Kind::ModelRoute, "fraud", 1, route(&canary), status.clone())
    };
    let mut first = Catalog::new(settings());
    first.apply(objects());
    first.apply([put(json!(6), &ModelRouteStatus::default())]);
    let (good, _) = told(&first, "fraud", &[], now);
    assert_eq!(good.in_force, None, "it is what is written");
    first.apply([put(json!("all"), &good)]);
    let (bad, _) = told(&first, "fraud", &[], now);

    let mut second = Catalog::new(settings());
    second.apply(objects());
    second.apply([put(json!("all"), &bad)]);
    let (same, text) = told(&second, "fraud", &[], now);
    assert!(text.starts_with("stable=95 canary=6 "), "{text}");
    assert_eq!(same, bad);

    // A status that says no route is no route.
    let mut third = Catalog::new(settings());
    third.apply(objects());
    let wrong = ModelRouteStatus {
        in_force: Some(json!({"service": 5})),
        ..bad
    };
    third.apply([put(json!("all"), &wrong)]);
    let (none, _) = told(&third, "fraud", &[], now);
    assert_eq!((none.weights, none.in_force), (None, None));
}

#[test]
fn weights_are_told_by_rule_and_are_bounded() {
    let spec = |rules: Value| serde_json::from_value(json!({"service": "s", "rules": rules})).unwrap();
    let split = |weight: u32| json!({"backends": [{"name": "a", "service": "s", "weight": weight}]});
    assert_eq!(weights_of(&spec(json!([{"split": split(3)}]))), "a=3");
    let two = json!([{"name": "gold", "split": split(1)}, {"split": split(2)}]);
    assert_eq!(weights_of(&spec(two)), "gold: a=1; rule-1: a=2");
    let many: Vec<_> = (0..100).map(|at| json!({"split": split(at)})).collect();
    let key = key("x");
    let document = read(
        Kind::ModelRoute,
        &key,
        json!({"service": "s", "rules": many}),
        &settings(),
    )
    .unwrap_err();
    assert!(!document.is_empty(), "all weights are 0 in the first");
    let many: Vec<_> = (1..100).map(|at| json!({"split": split(at)})).collect();
    let document = read(
        Kind::ModelRoute,
        &key,
        json!({"service": "s", "rules": many}),
        &settings(),
    )
    .unwrap();
    let text = weights(&document).unwrap();
    assert!(
        text.chars().count() == MAX_WEIGHTS && text.ends_with('…'),
        "{text}"
    );
}
