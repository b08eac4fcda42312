//! What is said of routes, for each parent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use mesh_control::source::kubernetes::gateway::{CONTROLLER, Compiled, Grant, Parsed, compile, parents};
use serde_json::json;

use crate::scene::{compiled, get, granted, http_route, parsed, route, services, web};

const WEB: &str = "{group: '', kind: Service, name: web}";
const GOOD: &str = "[{backendRefs: [{name: v1, port: 80}]}]";

/// Reasons of Accepted and ResolvedRefs, for each parent of the first route.
fn reasons(compiled: &Compiled) -> Vec<(bool, &'static str, bool, &'static str)> {
    let verdicts = compiled.verdicts.values().next().unwrap();
    verdicts
        .iter()
        .map(|it| {
            (
                it.accepted.holds,
                it.accepted.reason,
                it.resolved_refs.holds,
                it.resolved_refs.reason,
            )
        })
        .collect()
}

#[test]
fn parents_accept_routes_or_say_why_not() {
    for (parent, expected) in [
        (WEB, Some("Accepted")),
        (
            "{group: '', kind: Service, name: web, port: 80}",
            Some("Accepted"),
        ),
        (
            "{group: '', kind: Service, name: web, port: 81}",
            Some("NoMatchingParent"),
        ),
        (
            "{group: '', kind: Service, name: web, sectionName: none}",
            Some("NoMatchingParent"),
        ),
        (
            "{group: '', kind: Service, name: web, sectionName: more, port: 80}",
            Some("NoMatchingParent"),
        ),
        ("{group: '', kind: Service, name: gone}", Some("NoMatchingParent")),
        (
            "{group: '', kind: Service, name: headless}",
            Some("NoMatchingParent"),
        ),
        (
            "{group: '', kind: Service, name: web, namespace: other}",
            Some("Accepted"),
        ),
        // For other controllers.
        ("{name: gateway}", None),
        ("{group: example.com, kind: Service, name: web}", None),
    ] {
        let compiled = compiled(&route("HTTPRoute", "ml", "one", 0, parent, GOOD));
        let found = reasons(&compiled);
        assert_eq!(found.first().map(|it| it.1), expected, "{parent}");
        let accepted = expected == Some("Accepted");
        assert_eq!(!compiled.rules.is_empty(), accepted, "{parent}");
        assert!(found.iter().all(|it| it.0 == accepted), "{parent}");
    }
}

#[test]
fn what_is_not_supported_is_refused_with_its_field() {
    for (rules, expected) in [
        (
            "[{matches: [{path: {type: RegularExpression, value: /a}}]}]",
            "spec.rules[0].matches[0].path.type: RegularExpression",
        ),
        (
            "[{matches: [{headers: [{type: RegularExpression, name: a, value: b}]}]}]",
            "spec.rules[0].matches[0].headers[0].type: RegularExpression",
        ),
        (
            "[{matches: [{queryParams: [{type: RegularExpression, name: a, value: b}]}]}]",
            "spec.rules[0].matches[0].queryParams[0].type: RegularExpression",
        ),
        (
            "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}}}]}]",
            "spec.rules[0].filters[0].type: RequestMirror is not supported",
        ),
        (
            "[{filters: [{type: CORS, cors: {}}]}]",
            "spec.rules[0].filters[0].type: CORS is not supported",
        ),
        (
            "[{filters: [{type: ExtensionRef}]}]",
            "spec.rules[0].filters[0].type: ExtensionRef",
        ),
        (
            "[{filters: [{type: FromTheFuture}]}]",
            "spec.rules[0].filters[0].type: FromTheFuture",
        ),
        (
            "[{backendRefs: [{name: v1, port: 80, filters: [{type: RequestMirror}]}]}]",
            "spec.rules[0].backendRefs[0].filters[0].type: RequestMirror",
        ),
        (
            "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: x}]}}]}]",
            "spec.rules[0].filters[0].requestHeaderModifier.set: \"Host\" names what a request is for",
        ),
        (
            "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], \
              matches: [{path: {type: Exact, value: /a}}]}]",
            "spec.rules[0].filters: ReplacePrefixMatch needs",
        ),
        (
            "[{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}]",
            "spec.rules[0].filters[0].requestRedirect.statusCode: 304",
        ),
        (
            "[{timeouts: {request: soon}}]",
            "spec.rules[0].timeouts.request: \"soon\" is not a duration",
        ),
        (
            "[{retry: {attempts: 3}}]",
            "spec.rules[0].retry: is not supported",
        ),
        (
            "[{sessionPersistence: {type: Cookie}}]",
            "spec.rules[0].sessionPersistence: is not supported",
        ),
    ] {
        let compiled = compiled(&http_route("one", 0, rules));
        let verdict = &compiled.verdicts.values().next().unwrap()[0];
        assert_eq!(
            (verdict.accepted.holds, verdict.accepted.reason),
            (false, "UnsupportedValue"),
            "{rules}"
        );
        assert!(
            verdict.accepted.message.starts_with(expected),
            "{rules}: {}",
            verdict.accepted.message
        );
        assert!(compiled.rules.is_empty(), "{rules}");
    }
    let regular = "[{matches: [{method: {type: RegularExpression, service: a}}]}]";
    let found = reasons(&compiled(&route("GRPCRoute", "ml", "one", 0, WEB, regular)));
    assert_eq!(found[0].1, "UnsupportedValue");
}

#[test]
fn a_bad_route_leaves_others_alone() {
    let yaml = http_route("bad", 0, "[{filters: [{type: CORS}]}]") + &http_route("good", 1, GOOD);
    assert_eq!(get("/").outcome(&web(&yaml)), "v1");
}

#[test]
fn references_are_resolved_or_say_why_not() {
    for (backend, reason, message) in [
        ("{name: v1, port: 80}", "ResolvedRefs", "all backends are there"),
        (
            "{name: web, namespace: other, port: 80}",
            "RefNotPermitted",
            "no ReferenceGrant lets HTTPRoute ml/one refer to Service other/web",
        ),
        (
            "{name: gone, port: 80}",
            "BackendNotFound",
            "there is no Service ml/gone",
        ),
        (
            "{name: v1, port: 81}",
            "BackendNotFound",
            "Service ml/v1 has no port 81",
        ),
        (
            "{name: v1}",
            "BackendNotFound",
            "the reference to Service ml/v1 says no port",
        ),
        (
            "{name: v1, kind: Bucket, port: 80}",
            "InvalidKind",
            "Bucket ml/v1 is no kind of backend: use a Service",
        ),
        (
            "{name: v1, kind: ServiceImport, group: multicluster.x-k8s.io, port: 80}",
            "InvalidKind",
            "ServiceImport of multicluster.x-k8s.io ml/v1 is no kind of backend: use a Service",
        ),
    ] {
        let compiled = compiled(&http_route("one", 0, &format!("[{{backendRefs: [{backend}]}}]")));
        let verdict = &compiled.verdicts.values().next().unwrap()[0];
        assert!(verdict.accepted.holds, "{backend}");
        assert_eq!(verdict.resolved_refs.reason, reason, "{backend}");
        assert_eq!(verdict.resolved_refs.holds, reason == "ResolvedRefs", "{backend}");
        assert_eq!(verdict.resolved_refs.message, message, "{backend}");
    }
}

#[test]
fn other_namespaces_have_to_let_routes_lead_to_them() {
    let grant = |from: serde_json::Value, to: serde_json::Value| {
        let object =
            json!({"metadata": {"name": "g", "namespace": "other"}, "spec": {"from": [from], "to": [to]}});
        Grant::new(serde_json::from_value(object).unwrap()).unwrap()
    };
    let group = "gateway.networking.k8s.io";
    let from = json!({"group": group, "kind": "HTTPRoute", "namespace": "ml"});
    let to = json!({"group": "", "kind": "Service"});
    let yaml = http_route(
        "one",
        0,
        "[{backendRefs: [{name: web, namespace: other, port: 80}]}]",
    );
    for (grants, expected) in [
        (vec![], "RefNotPermitted"),
        (vec![grant(from.clone(), to.clone())], "ResolvedRefs"),
        (
            vec![grant(
                from.clone(),
                json!({"group": "", "kind": "Service", "name": "web"}),
            )],
            "ResolvedRefs",
        ),
        (
            vec![grant(
                from.clone(),
                json!({"group": "", "kind": "Service", "name": "api"}),
            )],
            "RefNotPermitted",
        ),
        (
            vec![grant(from, json!({"group": "", "kind": "Secret"}))],
            "RefNotPermitted",
        ),
        (
            vec![grant(
                json!({"group": group, "kind": "GRPCRoute", "namespace": "ml"}),
                to.clone(),
            )],
            "RefNotPermitted",
        ),
        (
            vec![grant(
                json!({"group": group, "kind": "HTTPRoute", "namespace": "third"}),
                to,
            )],
            "RefNotPermitted",
        ),
    ] {
        let compiled = granted(&yaml, &grants);
        assert_eq!(reasons(&compiled)[0].3, expected, "{grants:?}");
        let rule = &compiled.rules.values().next().unwrap()[0];
        assert_eq!(rule.backends()[0].invalid.is_none(), expected == "ResolvedRefs");
    }
}

#[test]
fn consumers_may_lead_back_to_where_their_requests_were_going() {
    let other = "{group: '', kind: Service, name: web, namespace: other}";
    for (parents, expected) in [
        (other.to_owned(), "ResolvedRefs"),
        // Requests to a Service of its own would go there too, by whomever they are.
        (format!("{other}, {WEB}"), "RefNotPermitted"),
        (WEB.to_owned(), "RefNotPermitted"),
    ] {
        let rules = "[{backendRefs: [{name: web, namespace: other, port: 80}]}]";
        let compiled = compiled(&route("HTTPRoute", "ml", "one", 0, &parents, rules));
        let found = reasons(&compiled);
        assert!(found.iter().all(|it| it.3 == expected), "{parents}: {found:?}");
    }
}

#[test]
fn calls_come_before_http_on_one_port() {
    let http = http_route("plain", 0, GOOD);
    let everywhere = route(
        "GRPCRoute",
        "ml",
        "calls",
        5,
        WEB,
        "[{backendRefs: [{name: v2, port: 80}]}]",
    );
    let both = compiled(&(http.clone() + &everywhere));
    let accepted = |compiled: &Compiled, name: &str| {
        let (_, verdicts) = compiled
            .verdicts
            .iter()
            .find(|(key, _)| &*key.name == name)
            .unwrap();
        verdicts[0].accepted.reason
    };
    assert_eq!(
        (accepted(&both, "plain"), accepted(&both, "calls")),
        ("Conflicted", "Accepted")
    );
    let parent = "{group: '', kind: Service, name: web, port: 8080}";
    let one_port = route(
        "GRPCRoute",
        "ml",
        "calls",
        5,
        parent,
        "[{backendRefs: [{name: v2, port: 80}]}]",
    );
    let yaml = http + &one_port;
    let both = compiled(&yaml);
    assert_eq!(
        (accepted(&both, "plain"), accepted(&both, "calls")),
        ("Accepted", "Accepted")
    );
    let web = web(&yaml);
    assert_eq!(get("/").outcome(&web), "v1");
    assert_eq!(
        crate::scene::Sent {
            port: "more",
            ..get("/")
        }
        .outcome(&web),
        "v2"
    );
}

#[test]
fn a_status_is_written_once_and_others_words_are_kept() {
    let at = |second| Time(Timestamp::from_second(second).unwrap());
    let yaml = http_route("one", 0, GOOD);
    let mut route = parsed(&yaml).remove(0);
    let theirs = json!([{"parentRef": {"name": "gateway"}, "controllerName": "example.com/gateway", "conditions": []}]);
    route.said = serde_json::from_value(theirs).unwrap();
    let verdicts = |route: &Parsed| {
        let compiled = compile([route], &services(), []);
        compiled.verdicts.into_values().next().unwrap()
    };
    let written = parents(&route, &verdicts(&route), &at(1)).unwrap();
    assert_eq!(written[0].controller_name, "example.com/gateway");
    assert_eq!(written[1].controller_name, CONTROLLER);
    let types: Vec<&str> = written[1].conditions.iter().map(|it| it.type_.as_str()).collect();
    assert_eq!(types, ["Accepted", "ResolvedRefs"]);
    assert!(
        written[1]
            .conditions
            .iter()
            .all(|it| it.observed_generation == Some(3) && it.status == "True")
    );
    route.said = written;
    assert_eq!(parents(&route, &verdicts(&route), &at(2)), None);
    // A new generation is said, and since when it is accepted stays.
    route.generation = Some(4);
    let again = parents(&route, &verdicts(&route), &at(3)).unwrap();
    assert_eq!(again[1].conditions[0].observed_generation, Some(4));
    assert_eq!(again[1].conditions[0].last_transition_time, at(1));
    // What is no parent any more is not spoken of.
    route.said = again;
    route.parents.clear();
    let left = parents(&route, &[], &at(4)).unwrap();
    assert_eq!(left.len(), 1);
}
