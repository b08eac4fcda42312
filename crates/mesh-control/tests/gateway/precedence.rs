//! Which rule comes before which, whatever route it stands in.

use http::Method;
use mesh_api::document::ModelRouteSpec;
use mesh_api::route::{Action, Route};
use mesh_control::source::kubernetes::gateway::combine;

use crate::scene::{Sent, compiled, get, http_route, route, web};

fn to(matches: &str, backend: &str) -> String {
    format!("{{matches: [{matches}], backendRefs: [{{name: {backend}, port: 80}}]}}")
}

#[test]
fn more_telling_matches_come_first() {
    // The second of each pair comes first, though it stands behind.
    let pairs = [
        (
            "{path: {type: PathPrefix, value: /a/b/c}}",
            "{path: {type: Exact, value: /a/b/c}}",
        ),
        (
            "{path: {type: PathPrefix, value: /a}}",
            "{path: {type: PathPrefix, value: /a/b}}",
        ),
        (
            "{path: {type: PathPrefix, value: /}}",
            "{path: {type: PathPrefix, value: /a/b/c}}",
        ),
        ("{path: {value: /a}}", "{path: {value: /a}, method: GET}"),
        (
            "{headers: [{name: x-a, value: '1'}, {name: x-b, value: '2'}]}",
            "{method: GET}",
        ),
        (
            "{headers: [{name: x-a, value: '1'}]}",
            "{headers: [{name: x-a, value: '1'}, {name: x-b, value: '2'}]}",
        ),
        (
            "{queryParams: [{name: q, value: '1'}, {name: r, value: '2'}]}",
            "{headers: [{name: x-a, value: '1'}]}",
        ),
        (
            "{queryParams: [{name: q, value: '1'}]}",
            "{queryParams: [{name: q, value: '1'}, {name: r, value: '2'}]}",
        ),
    ];
    let request = Sent {
        query: Some("q=1&r=2"),
        headers: &[("x-a", "1"), ("x-b", "2")],
        ..get("/a/b/c")
    };
    for (behind, before) in pairs {
        let within_one = http_route("one", 0, &format!("[{}, {}]", to(behind, "v1"), to(before, "v2")));
        assert_eq!(request.outcome(&web(&within_one)), "v2", "{before}");
        let of_two = http_route("a", 0, &format!("[{}]", to(behind, "v1")))
            + &http_route("b", 9, &format!("[{}]", to(before, "v2")));
        assert_eq!(request.outcome(&web(&of_two)), "v2", "{before}");
    }
}

#[test]
fn among_equals_the_oldest_then_the_alphabet_then_the_position_decides() {
    let rule = |backend| format!("[{}]", to("{path: {value: /a}}", backend));
    for (first, second, expected) in [
        (
            http_route("z", 1, &rule("v1")),
            http_route("a", 2, &rule("v2")),
            "v1",
        ),
        (
            http_route("z", 2, &rule("v1")),
            http_route("a", 1, &rule("v2")),
            "v2",
        ),
        (
            http_route("z", 1, &rule("v1")),
            http_route("a", 1, &rule("v2")),
            "v2",
        ),
        (
            http_route("a", 1, &rule("v1")),
            http_route("z", 1, &rule("v2")),
            "v1",
        ),
    ] {
        assert_eq!(get("/a").outcome(&web(&(first.clone() + &second))), expected);
        assert_eq!(get("/a").outcome(&web(&(second + &first))), expected);
    }
    let both = format!(
        "[{}, {}]",
        to("{path: {value: /a}}", "v1"),
        to("{path: {value: /a}}", "v2")
    );
    assert_eq!(get("/a").outcome(&web(&http_route("one", 0, &both))), "v1");
}

#[test]
fn matches_of_one_rule_stand_where_each_belongs() {
    let rules = format!(
        "[{}, {}]",
        to("{path: {value: /a}}, {path: {type: Exact, value: /b/c}}", "v1"),
        to("{path: {value: /a/b}}, {path: {value: /b}}", "v2")
    );
    let route = web(&http_route("one", 0, &rules));
    for (path, expected) in [
        ("/a", "v1"),
        ("/a/b", "v2"),
        ("/b/c", "v1"),
        ("/b", "v2"),
        ("/ab", "404"),
    ] {
        assert_eq!(get(path).outcome(&route), expected, "{path}");
    }
}

#[test]
fn a_call_is_told_by_service_then_method_then_headers() {
    let rules = "[
        {matches: [{}], backendRefs: [{name: v1, port: 80}]},
        {matches: [{method: {method: Infer}}], backendRefs: [{name: v2, port: 80}]},
        {matches: [{method: {service: inference.GRPCInferenceService}}], filters: [], backendRefs: [{name: web, port: 80}]},
        {matches: [{method: {service: inference.GRPCInferenceService, method: ModelInfer}, headers: [{name: x-a, value: '1'}]}],
         backendRefs: [{name: v2, port: 80}, {name: v1, port: 80}]}]";
    let parent = "{group: '', kind: Service, name: web}";
    let route = web(&route("GRPCRoute", "ml", "calls", 0, parent, rules));
    for (path, headers, expected) in [
        (
            "/inference.GRPCInferenceService/ModelInfer",
            &[("x-a", "1")][..],
            "v2+v1",
        ),
        ("/inference.GRPCInferenceService/ModelInfer", &[], "web"),
        ("/inference.GRPCInferenceService/ServerLive", &[], "web"),
        ("/inference.GRPCInferenceServices/ServerLive", &[], "v1"),
        ("/some.Service/Infer", &[], "v2"),
        ("/some.Service/ReInfer", &[], "v1"),
    ] {
        let call = Sent {
            method: Method::POST,
            headers,
            ..get(path)
        };
        assert_eq!(call.outcome(&route), expected, "{path}");
    }
}

#[test]
fn consumers_decide_for_their_own_namespace_alone() {
    let rules = |backend| format!("[{}]", to("{path: {value: /a}}", backend));
    let producer = http_route("producer", 0, &rules("v1"));
    let parent = "{group: '', kind: Service, name: web, namespace: ml}";
    let consumer = route(
        "HTTPRoute",
        "other",
        "consumer",
        5,
        parent,
        "[{matches: [{path: {value: /a/b}}], backendRefs: [{name: v2, namespace: ml, port: 80}]}]",
    );
    let web = web(&(producer + &consumer));
    let from = |from, path| Sent { from, ..get(path) }.outcome(&web);
    assert_eq!(from("ml", "/a/b"), "v1");
    assert_eq!(from("third", "/a"), "v1");
    assert_eq!(from("other", "/a/b"), "v2");
    // What no rule of its own takes is not decided by the producer's.
    assert_eq!(from("other", "/a"), "404");
    assert_eq!(from("ml", "/b"), "404");
}

#[test]
fn a_port_has_the_routes_that_are_for_it() {
    let rule = "[{backendRefs: [{name: v1, port: 80}]}]";
    for (parent, at_http, at_more) in [
        ("{group: '', kind: Service, name: web}", "v1", "v1"),
        ("{group: '', kind: Service, name: web, port: 80}", "v1", "own"),
        (
            "{group: '', kind: Service, name: web, sectionName: more}",
            "own",
            "v1",
        ),
        (
            "{group: '', kind: Service, name: web, sectionName: more, port: 8080}",
            "own",
            "v1",
        ),
    ] {
        let web = web(&route("HTTPRoute", "ml", "one", 0, parent, rule));
        for (port, expected) in [("http", at_http), ("more", at_more)] {
            let rules = web.rules.of_port(&port.parse().unwrap());
            let found = if rules.is_empty() {
                "own".into()
            } else {
                Sent { port, ..get("/") }.outcome(&web)
            };
            assert_eq!(found, expected, "{parent} {port}");
        }
    }
}

#[test]
fn a_model_route_decides_what_its_rules_take() {
    let service = "ml/web".parse().unwrap();
    let spec: ModelRouteSpec = serde_json::from_value(serde_json::json!({"service": "web", "rules": [
        {"name": "web-0", "matches": [{"path": "/a/b"}], "split": {"backends": [{"name": "m", "service": "v1"}]}}]}))
    .unwrap();
    let model = Route::new(&"ml/models".parse().unwrap(), &spec).unwrap();
    let yaml = http_route("web", 0, &format!("[{}]", to("{path: {value: /a}}", "v2")));
    let rules = compiled(&yaml).rules.remove(&service).unwrap();
    let both = combine(&service, Some(model.clone()), rules).unwrap().unwrap();
    for (path, expected) in [("/a/b", "m"), ("/a", "v2"), ("/c", "404")] {
        assert_eq!(get(path).outcome(&both), expected, "{path}");
    }
    assert_eq!(both.object.as_ref().unwrap().to_string(), "ml/models");
    let names: Vec<&str> = both.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["web-0", "web-0-2", "otherwise"]);
    let origins: Vec<String> = both.rules.iter().map(|rule| rule.origin.to_string()).collect();
    assert_eq!(
        origins,
        ["ModelRoute ml/models", "HTTPRoute ml/web", "HTTPRoute ml/web"]
    );
    // What is sent to a pod is the ModelRoute's alone.
    assert_eq!(both.rules.of_endpoints().len(), 1);
    assert_eq!(
        combine(&service, Some(model.clone()), Vec::new()).unwrap(),
        Some(model)
    );
    assert_eq!(combine(&service, None, Vec::new()).unwrap(), None);
}

#[test]
fn what_no_rule_takes_is_refused_and_says_by_whom() {
    let web = web(&http_route(
        "only",
        0,
        &format!("[{}]", to("{path: {value: /a}}", "v1")),
    ));
    let Action::Refuse(refused) = get("/b").rule(&web).action else {
        panic!()
    };
    assert_eq!(&*refused.detail, "no rule of HTTPRoute ml/only takes the request");
}
