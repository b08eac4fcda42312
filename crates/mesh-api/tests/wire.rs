//! The wire says what the model says: whatever is encoded is decoded to the same, deltas lead from any snapshot to any
//! other, and what is wrong with a message is said with object and field.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_api::document::{BalancerKind, ModelRouteSpec, MtlsMode};
use mesh_api::route::{
    Action, Filters, Host, Origin, PathRewrite, REDIRECT_STATUSES, Redirect, Refused, Route, Rule, Scheme,
    Scope, Unroutable,
};
use mesh_api::snapshot::{
    Delta, Endpoint, InboundPort, Interception, LocalPort, Mesh, Service, ServicePort, Snapshot, Tracing,
    TrafficPolicy, Version, Workload,
};
use mesh_api::wire::config::string_match;
use mesh_api::wire::{self, config};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use prost::Message;

fn route(namespace: &str, service: &str, weight: u32, key: bool, rewrite: bool, timeout: u64) -> Route {
    let mut canary =
        serde_json::json!({"name": "canary", "service": "other/canary", "port": "grpc", "weight": weight});
    if rewrite {
        canary["model"] = serde_json::json!({"name": "fraud-2", "version": "7"});
    }
    let mut split = serde_json::json!({"backends": [{"name": "stable", "service": "stable"}, canary]});
    if key {
        split["by"] = serde_json::json!({"header": "x-user-id"});
    }
    let rule = serde_json::json!({
        "name": "first",
        "matches": [
            {"model": "fraud", "version": {"prefix": "1"}, "operation": ["infer", "predict"], "method": "POST",
             "path": {"prefix": "/v2/"}, "caller": "ml/*", "query": {"tier": "gold", "a": {"prefix": "b"}},
             "headers": {"x-a": "1", "x-b": {"prefix": "b"}, "x-c": {"present": false}}},
            {"caller": "ml/client", "path": {"under": "/v1"}},
            {"path": {"suffix": "/infer"}},
            {"path": "/v1"},
        ],
        "split": split,
        "headers": {"request": {"set": {"x-set": "1"}, "add": {"x-add": "2"}, "remove": ["x-gone"]}},
        "timeouts": {"firstByte": format!("{timeout}ms"), "idle": "30s", "perTry": "2s"},
        "retries": {"attempts": 3},
    });
    let spec: ModelRouteSpec =
        serde_json::from_value(serde_json::json!({"service": service, "rules": [rule]})).unwrap();
    let object = format!("{namespace}/route").parse().unwrap();
    let route = Route::new(&object, &spec).unwrap();
    // What documents can't say comes from elsewhere, after it.
    let mut rules = route.rules.to_vec();
    rules.extend(beyond_documents(&rules[0], timeout));
    Route::of(route.service, key.then_some(object), rules).unwrap()
}

/// Rules as the Gateway API makes them.
fn beyond_documents(like: &Rule, port: u64) -> [Rule; 4] {
    let origin = Origin::new("HTTPRoute", "ml", "web.v1");
    let rule = |name: &str, action| Rule {
        name: name.parse().unwrap(),
        origin: origin.clone(),
        scope: Scope {
            port: Some("http".parse().unwrap()),
            service_alone: true,
        },
        matches: Vec::new(),
        filters: None,
        action,
        ..like.clone()
    };
    let filters = |path| Filters {
        response: like.filters.as_ref().unwrap().request.clone(),
        host: Host::new("models.example:8080"),
        path: Some(path),
        ..Filters::default()
    };
    let mut split = like.split().unwrap().clone();
    split.backends[0].filters = filters(PathRewrite::prefix("/v1", "/")).boxed();
    split.backends[1].invalid = Some("there is no Service ml/gone".into());
    let redirect = Redirect {
        scheme: Some(Scheme::Https),
        host: Some("example.org".into()),
        port: u16::try_from(port).ok(),
        path: Some(PathRewrite::full("/there")),
        status: REDIRECT_STATUSES[port as usize % REDIRECT_STATUSES.len()],
    };
    let refused = |reason| {
        Action::Refuse(Refused {
            reason,
            detail: "no rule takes it".into(),
        })
    };
    [
        Rule {
            filters: filters(PathRewrite::full("/one")).boxed(),
            ..rule("web-0", Action::Split(split))
        },
        rule("web-1", Action::Redirect(Box::new(redirect))),
        rule("web-2", refused(Unroutable::NoBackend)),
        Rule {
            scope: Scope {
                port: None,
                service_alone: true,
            },
            ..rule("otherwise", refused(Unroutable::NoRule))
        },
    ]
}

prop_compose! {
    fn service()(
        endpoints in proptest::collection::vec((1_u16..9, any::<bool>()), 0..4),
        balancer in 0_usize..4,
        with_route in any::<bool>(),
        weight in 0_u32..100,
        key in any::<bool>(),
        rewrite in any::<bool>(),
        timeout in 1_u64..5_000,
        more_hosts in any::<bool>(),
    ) -> (Vec<Endpoint>, TrafficPolicy, Option<(u32, bool, bool, u64)>, Vec<String>) {
        let kinds = [BalancerKind::PeakEwma, BalancerKind::LeastRequest, BalancerKind::RoundRobin, BalancerKind::Random];
        let endpoints = endpoints.into_iter().map(|(port, meshed)| Endpoint {
            workload: meshed.then(|| format!("ml/w{port}").parse().unwrap()),
            identity: meshed.then(|| "spiffe://mesh.local/ns/ml/sa/w".parse().unwrap()),
            addresses: [("http".parse().unwrap(), ([127, 0, 0, 1], port).into())].into(),
        });
        let policy = TrafficPolicy { balancer: kinds[balancer], ..TrafficPolicy::default() };
        let hosts = if more_hosts { vec!["models.example".to_owned()] } else { Vec::new() };
        (endpoints.collect(), policy, with_route.then_some((weight, key, rewrite, timeout)), hosts)
    }
}

prop_compose! {
    fn snapshot()(
        services in proptest::collection::btree_map(0_u8..5, service(), 0..5),
        permissive in any::<bool>(),
        log in proptest::option::of(0.0_f64..100.0),
        tracing in any::<bool>(),
        listen in 1_u16..5,
    ) -> Snapshot {
        let services = services.into_iter().map(|(number, (endpoints, policy, routed, hosts))| {
            let name = format!("s{number}");
            let route = routed.map(|(weight, key, rewrite, timeout)| route("ml", &name, weight, key, rewrite, timeout));
            let ports = vec![ServicePort {
                name: "http".parse().unwrap(),
                port: 80,
                app_protocol: "mesh.dev/open-inference".parse().unwrap(),
            }];
            let addresses = hosts.iter().flat_map(|_| ["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]).collect();
            (format!("ml/{name}").parse().unwrap(), Service { ports, hosts, addresses, policy, endpoints: endpoints.into(), route }.into())
        });
        Snapshot {
            version: Version(0),
            mesh: Mesh {
                trust_domain: "mesh.local".parse().unwrap(),
                mtls: if permissive { MtlsMode::Permissive } else { MtlsMode::Strict },
                read_ahead_bytes: 1 << 20,
                beyond_read_ahead: Default::default(),
                detection_wait: std::time::Duration::from_millis(if tracing { 500 } else { 20 }),
                access_log_percent: log,
                tracing: tracing.then(|| Tracing { endpoint: "http://127.0.0.1:4317".into(), percent: 1.0 }),
            },
            workload: Workload {
                name: "ml/client".parse().unwrap(),
                identity: "spiffe://mesh.local/ns/ml/sa/client".parse().unwrap(),
                ports: vec![InboundPort {
                    name: "http".parse().unwrap(),
                    listen: ([127, 0, 0, 1], 1000 + listen).into(),
                    local: ([127, 0, 0, 1], 80).into(),
                    app_protocol: "grpc".parse().unwrap(),
                    service: Some("ml/s0".parse().unwrap()),
                }],
                proxy_listen: Some(([127, 0, 0, 1], 2000).into()),
                local_ports: vec![LocalPort {
                    listen: ([127, 0, 0, 1], 2001).into(),
                    service: "ml/s0".parse().unwrap(),
                    port: "http".parse().unwrap(),
                }],
                interception: permissive.then_some(Interception { inbound: 15006, outbound: 15001 }),
                on_demand: permissive,
                mtls: tracing.then_some(if permissive { MtlsMode::Strict } else { MtlsMode::Permissive }),
            },
            services: services.collect(),
        }
    }
}

fn over_the_wire(delta: &Delta) -> Delta {
    let bytes = config::Delta::from(delta).encode_to_vec();
    wire::delta(config::Delta::decode(&bytes[..]).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn deltas_lead_from_any_snapshot_to_any_other(before in snapshot(), mut after in snapshot()) {
        after.version = Version(before.version.0 + 1);
        let first = Snapshot::after(None, over_the_wire(&before.since(None))).unwrap();
        prop_assert_eq!(&first, &before);
        let second = Snapshot::after(Some(&first), over_the_wire(&after.since(Some(&before)))).unwrap();
        prop_assert_eq!(&second, &after);
    }

    #[test]
    fn nothing_changed_is_an_empty_delta(mut after in snapshot()) {
        let before = after.clone();
        after.version = Version(9);
        prop_assert!(after.since(Some(&before)).is_empty());
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_a_delta(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = config::Delta::decode(&bytes[..]) {
            let _ = wire::delta(message);
        }
    }
}

fn intercept(delta: &mut config::Delta, inbound: u32, outbound: u32) {
    delta.workload.as_mut().unwrap().interception = Some(config::Interception { inbound, outbound });
}

/// A good message with one thing wrong is refused, and the refusal names it.
#[test]
fn what_is_wrong_is_named() {
    type Spoil = fn(&mut config::Delta);
    let cases: [(Spoil, &str); 47] = [
        (
            |d| d.mesh.as_mut().unwrap().detection_wait_ms = 10_001,
            "Mesh: detection_wait_ms: 10001 is not 1 to 10000",
        ),
        (
            |d| intercept(d, 0, 15001),
            "Workload ml/client: interception.inbound: 0 is not a port",
        ),
        (
            |d| intercept(d, 15006, 70_000),
            "interception.outbound: 70000 is not a port",
        ),
        (
            |d| intercept(d, 15006, 15006),
            "interception.outbound: is the inbound port too",
        ),
        (
            |d| d.services[0].addresses = vec!["fraud.ml".into()],
            "Service ml/s0: addresses: ",
        ),
        (
            |d| d.mesh.as_mut().unwrap().trust_domain = "A B".into(),
            "Mesh: trust_domain: ",
        ),
        (
            |d| d.mesh.as_mut().unwrap().read_ahead_bytes = 0,
            "Mesh: read_ahead_bytes: 0 is not",
        ),
        (
            |d| d.mesh.as_mut().unwrap().access_log = Some(config::AccessLog { percent: f64::NAN }),
            "Mesh: access_log.percent: ",
        ),
        (
            |d| d.workload.as_mut().unwrap().identity = "spiffe://x".into(),
            "Workload ml/client: identity: ",
        ),
        (
            |d| d.workload.as_mut().unwrap().name = String::new(),
            "Workload : name: ",
        ),
        (
            |d| d.workload.as_mut().unwrap().proxy_listen = "localhost:1".into(),
            "Workload ml/client: proxy_listen: ",
        ),
        (
            |d| d.workload.as_mut().unwrap().proxy_listen = "127.0.0.1:2001".into(),
            "listened on already",
        ),
        (
            |d| d.workload.as_mut().unwrap().ports[0].listen = "127.0.0.1:0".into(),
            "ports[0].listen: port 0",
        ),
        (
            |d| d.workload.as_mut().unwrap().ports[0].app_protocol = "smtp".into(),
            "ports[0].app_protocol: ",
        ),
        (
            |d| d.services[0].ports.clear(),
            "Service ml/s0: ports: there is none",
        ),
        (
            |d| d.services[0].ports[0].port = 70_000,
            "Service ml/s0: ports[0].port: 70000 is not a port",
        ),
        (
            |d| d.services[0].policy.as_mut().unwrap().balancer = "fastest".into(),
            "policy.balancer: unknown algorithm",
        ),
        (
            |d| d.services[0].policy.as_mut().unwrap().connect_timeout_ms = 0,
            "policy.connect_timeout_ms: ",
        ),
        (
            |d| {
                let twice = d.services[0].clone();
                d.services.push(twice);
            },
            "Service ml/s0: : stands twice",
        ),
        (
            |d| d.endpoints[0].endpoints[0].identity = "nobody".into(),
            "Endpoints ml/s0: endpoints[0].identity: ",
        ),
        (
            |d| {
                d.endpoints[0].endpoints[0]
                    .addresses
                    .insert("http".into(), "x".into());
            },
            "endpoints[0].addresses: ",
        ),
        (
            |d| d.routes[0].object = "elsewhere/route".into(),
            "Route ml/s0: object: ",
        ),
        (
            |d| d.routes[0].rules[0].action = None,
            "Route ml/s0: rules[0].split: missing",
        ),
        (
            |d| d.routes[0].rules[0].retry_attempts = 1_000,
            "rules[0].retry_attempts: ",
        ),
        (
            |d| split(d, 0).backends.clear(),
            "rules[0].split.backends: 0 backends",
        ),
        (
            |d| split(d, 0).backends[0].service = "stable".into(),
            "has no namespace",
        ),
        (
            |d| split(d, 0).by = Some(config::split::By::Caller(false)),
            "by.caller: is false",
        ),
        // A match that says nothing must not match everything.
        (
            |d| d.routes[0].rules[0].matches[0].model = Some(config::StringMatch { how: None }),
            "matches[0].model: says nothing",
        ),
        (
            |d| d.routes[0].rules[0].matches[0].operations.push("dance".into()),
            "matches[0].operations: ",
        ),
        (
            |d| d.routes[0].rules[0].matches[0].caller = "everybody".into(),
            "matches[0].caller: ",
        ),
        (
            |d| path(d).how = Some(string_match::How::Present(true)),
            "matches[0].path: only headers can be asked",
        ),
        (
            |d| path(d).how = Some(string_match::How::Under("v1".into())),
            "matches[0].path: \"v1\" must begin with /",
        ),
        (
            |d| query(d).how = Some(string_match::How::Suffix("x".into())),
            "matches[0].query: only paths",
        ),
        (|d| query(d).how = None, "matches[0].query: says nothing"),
        (
            |d| d.routes[0].rules[0].per_try_timeout_ms = Some(0),
            "rules[0].timeouts.perTry: 0s",
        ),
        (
            |d| edits(d).remove.push("host".into()),
            "rules[0].filters.request.remove: \"host\" names what a request is for",
        ),
        (
            |d| edits(d).set[0].value = "a\nb".into(),
            "rules[0].filters.request.set: ",
        ),
        (
            |d| edits(d).add[0].name = "a b".into(),
            "rules[0].filters.request.add: ",
        ),
        (
            |d| d.routes[0].rules[1].filters.as_mut().unwrap().host = "a@b".into(),
            "rules[1].filters.host: \"a@b\" is no host",
        ),
        (
            |d| d.routes[0].rules[1].filters.as_mut().unwrap().path = Some(config::PathRewrite { how: None }),
            "rules[1].filters.path: says nothing",
        ),
        (|d| d.routes[0].rules[1].port = "80/tcp".into(), "rules[1].port: "),
        (
            |d| d.routes[0].rules[2].service_alone = false,
            "rules[2].scope: stands after",
        ),
        (
            |d| redirect(d).status = 200,
            "rules[2].redirect.status: 200 is no redirect",
        ),
        (
            |d| redirect(d).scheme = "ftp".into(),
            "rules[2].redirect.scheme: \"ftp\" is neither",
        ),
        (
            |d| redirect(d).port = 70_000,
            "rules[2].redirect.port: 70000 is not a port",
        ),
        (
            |d| refused(d).reason = "moon".into(),
            "rules[3].refused.reason: \"moon\" is unknown",
        ),
        (
            |d| d.removed_services.push("not a name".into()),
            "Delta: removed_services: ",
        ),
    ];
    for (spoil, expected) in cases {
        let mut message = good();
        spoil(&mut message);
        let error = wire::delta(message).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?}: {error}");
    }
    wire::delta(good()).unwrap();
}

fn split(delta: &mut config::Delta, rule: usize) -> &mut config::Split {
    match &mut delta.routes[0].rules[rule].action {
        Some(config::rule::Action::Split(split)) => split,
        other => panic!("{other:?}"),
    }
}

fn redirect(delta: &mut config::Delta) -> &mut config::Redirect {
    match &mut delta.routes[0].rules[2].action {
        Some(config::rule::Action::Redirect(redirect)) => redirect,
        other => panic!("{other:?}"),
    }
}

fn refused(delta: &mut config::Delta) -> &mut config::Refused {
    match &mut delta.routes[0].rules[3].action {
        Some(config::rule::Action::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

fn path(delta: &mut config::Delta) -> &mut config::StringMatch {
    delta.routes[0].rules[0].matches[0].path.as_mut().unwrap()
}

fn query(delta: &mut config::Delta) -> &mut config::StringMatch {
    delta.routes[0].rules[0].matches[0].query.get_mut("tier").unwrap()
}

fn edits(delta: &mut config::Delta) -> &mut config::HeaderEdits {
    let filters = delta.routes[0].rules[0].filters.as_mut().unwrap();
    filters.request.as_mut().unwrap()
}

fn good() -> config::Delta {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    loop {
        let snapshot = snapshot().new_tree(&mut runner).unwrap().current();
        let first = snapshot.services.iter().next();
        if let Some((name, service)) = first
            && name.to_string() == "ml/s0"
            && service.route.is_some()
            && !service.endpoints.is_empty()
        {
            return (&snapshot.since(None)).into();
        }
    }
}

#[test]
fn a_delta_that_does_not_follow_is_refused() {
    let message = good();
    let first = Snapshot::after(None, wire::delta(message.clone()).unwrap()).unwrap();
    let partial = config::Delta {
        full: false,
        version: 2,
        ..config::Delta::default()
    };
    assert!(Snapshot::after(None, wire::delta(partial.clone()).unwrap()).is_err());
    let stray = config::Delta {
        endpoints: vec![config::Endpoints {
            service: "ml/nowhere".into(),
            endpoints: vec![],
        }],
        ..partial
    };
    let error = Snapshot::after(Some(&first), wire::delta(stray).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "endpoints of service ml/nowhere, which is not known"
    );
    let empty = config::Delta {
        mesh: None,
        ..message
    };
    assert!(Snapshot::after(None, wire::delta(empty).unwrap()).is_err());
}
