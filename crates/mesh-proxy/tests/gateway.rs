//! Filters, redirects, refusals and timeouts of the Gateway API at the proxy's boundary: what servers and clients see.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::generator::Generator;
use common::{Proxy, Server, send, service};
use http::{Request, StatusCode, Version};
use http_body_util::Full;
use mesh_api::name::{Name, ObjectName};
use mesh_api::snapshot::{Snapshot, Version as Published};
use mesh_control::source::kubernetes::gateway::{Parsed, Services, combine, compile};
use serde_json::{Value, json};

/// Services with one port, 80.
struct Known;

impl Services for Known {
    fn ports(&self, service: &ObjectName) -> Option<Vec<(u16, Name)>> {
        (service.name.as_str() != "gone").then(|| vec![(80, "http".parse().unwrap())])
    }

    fn is_routable(&self, _: &ObjectName) -> bool {
        true
    }
}

/// Puts an HTTPRoute for `fraud` into force.
fn apply(proxy: &mut Proxy, rules: &Value) {
    let route = json!({
        "metadata": {"name": "web.v1", "namespace": "ml"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "fraud"}], "rules": rules},
    });
    let parsed = Parsed::http(&serde_json::from_value(route).unwrap()).unwrap();
    let fraud: ObjectName = "ml/fraud".parse().unwrap();
    let mut compiled = compile([&parsed], &Known, []);
    let rules = compiled.rules.remove(&fraud).expect("the route is accepted");
    let table = proxy.shared.table.load_full().unwrap();
    let mut snapshot = Snapshot::clone(&table.snapshot);
    proxy.version += 1;
    snapshot.version = Published(proxy.version);
    let service = Arc::make_mut(snapshot.services.get_mut(&fraud).unwrap());
    service.route = combine(&fraud, None, rules).unwrap();
    proxy.applier.apply(Arc::new(snapshot)).unwrap();
}

async fn proxy(rules: &Value) -> (Proxy, Server, Server) {
    let (v1, own) = (Server::start("v1").await, Server::start("own").await);
    let documents = service("fraud", "http", &[own.address]) + &service("v1", "http", &[v1.address]);
    let mut proxy = Proxy::start(&documents);
    apply(&mut proxy, rules);
    (proxy, v1, own)
}

fn request(version: Version, target: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let target = match version {
        Version::HTTP_2 => format!("http://fraud.ml{target}"),
        _ => target.to_owned(),
    };
    let mut request = Request::get(target).version(version);
    if version != Version::HTTP_2 {
        request = request.header("host", "fraud.ml");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

#[tokio::test]
async fn headers_host_and_path_are_changed_on_the_way_and_back() {
    let rules = json!([{
        "matches": [{"path": {"value": "/old"}}],
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "x-set", "value": "rule"}, {"name": "x-both", "value": "rule"}],
                "add": [{"name": "x-add", "value": "more"}],
                "remove": ["x-gone"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "set": [{"name": "connection-note", "value": "changed"}], "add": [{"name": "x-answer", "value": "1"}]}},
            {"type": "URLRewrite", "urlRewrite": {
                "hostname": "models.example", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}},
        ],
        "backendRefs": [{"name": "v1", "port": 80, "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-both", "value": "backend"}]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["x-answer"]}}]}],
    }]);
    let (proxy, v1, _) = proxy(&rules).await;
    for version in VERSIONS {
        let headers = [
            ("x-set", "a"),
            ("x-add", "one"),
            ("x-gone", "1"),
            ("x-gone", "2"),
            ("x-kept", "1"),
        ];
        let answer = proxy.send(request(version, "/old/models?q=1", &headers)).await;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::OK, &b"v1"[..]),
            "{version:?}"
        );
        assert_eq!(answer.headers["connection-note"], "changed");
        assert!(!answer.headers.contains_key("x-answer"));
        let seen = v1.take().remove(0);
        assert_eq!(seen.target, "/new/models?q=1", "{version:?}");
        let all = |name: &str| -> Vec<_> { seen.headers.get_all(name).iter().cloned().collect() };
        assert_eq!(all("x-set"), ["rule"]);
        assert_eq!(all("x-both"), ["backend"]);
        assert_eq!(all("x-add"), ["one", "more"]);
        assert_eq!(all("x-kept"), ["1"]);
        assert!(all("x-gone").is_empty());
        if version == Version::HTTP_11 {
            assert_eq!(all("host"), ["models.example"]);
        }
    }
}

#[tokio::test]
async fn clients_are_sent_elsewhere_without_asking_a_server() {
    let rules = json!([
        {"matches": [{"path": {"value": "/host"}}], "filters": [
            {"type": "RequestRedirect", "requestRedirect": {"hostname": "example.org", "port": 8083, "statusCode": 301}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "cache-control", "value": "no-store"}]}}]},
        {"matches": [{"path": {"value": "/scheme"}}], "filters": [
            {"type": "RequestRedirect", "requestRedirect": {"scheme": "https",
                "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}}}]},
    ]);
    let (proxy, v1, own) = proxy(&rules).await;
    for version in VERSIONS {
        let answer = proxy.send(request(version, "/host/x?q=1", &[])).await;
        assert_eq!(answer.status, StatusCode::MOVED_PERMANENTLY);
        assert_eq!(answer.headers["location"], "http://example.org:8083/host/x?q=1");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.mesh_error(), "");
        let answer = proxy.send(request(version, "/scheme/x", &[])).await;
        assert_eq!(answer.status, StatusCode::FOUND);
        assert_eq!(answer.headers["location"], "https://fraud.ml/new/x");
    }
    assert!(v1.take().is_empty() && own.take().is_empty());
}

#[tokio::test]
async fn what_has_no_rule_or_no_backend_is_refused_with_its_object() {
    let rules = json!([
        {"matches": [{"path": {"value": "/none"}}], "backendRefs": []},
        {"matches": [{"path": {"value": "/zero"}}], "backendRefs": [{"name": "v1", "port": 80, "weight": 0}]},
        {"matches": [{"path": {"value": "/gone"}}], "backendRefs": [{"name": "gone", "port": 80}]},
        {"matches": [{"path": {"value": "/port"}}], "backendRefs": [{"name": "v1", "port": 81}]},
    ]);
    let (proxy, v1, own) = proxy(&rules).await;
    for (path, status, reason, detail) in [
        (
            "/none",
            500,
            "no-backend",
            "rule 0 of HTTPRoute ml/web.v1 names no backend",
        ),
        (
            "/zero",
            500,
            "no-backend",
            "rule 1 of HTTPRoute ml/web.v1 gives no backend a weight",
        ),
        (
            "/gone",
            500,
            "no-backend",
            "backend gone: there is no Service ml/gone",
        ),
        (
            "/port",
            500,
            "no-backend",
            "backend v1: Service ml/v1 has no port 81",
        ),
        (
            "/other",
            404,
            "no-rule",
            "no rule of HTTPRoute ml/web.v1 takes the request",
        ),
    ] {
        let answer = proxy.send(request(Version::HTTP_11, path, &[])).await;
        assert_eq!(
            (answer.status.as_u16(), answer.mesh_error()),
            (status, reason),
            "{path}"
        );
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let message = format!("{reason} (HTTPRoute ml/web.v1): {detail}");
        assert_eq!(body["error"]["message"], message.as_str(), "{path}");
    }
    assert!(v1.take().is_empty() && own.take().is_empty());
    let call = Request::post("http://fraud.ml/other")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    let answer = proxy.send(call).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["grpc-status"]),
        (200, &"12".parse().unwrap())
    );
}

#[tokio::test]
async fn a_part_of_the_requests_is_refused_where_a_part_of_the_backends_is_not_there() {
    let rules = json!([{"backendRefs": [{"name": "v1", "port": 80, "weight": 1}, {"name": "gone", "port": 80, "weight": 1}]}]);
    let (proxy, v1, _) = proxy(&rules).await;
    let mut refused = 0;
    for _ in 0..200 {
        let answer = proxy.send(request(Version::HTTP_11, "/", &[])).await;
        match answer.status.as_u16() {
            200 => {}
            500 => refused += 1,
            other => panic!("{other}"),
        }
    }
    // Half of 200, within five standard deviations.
    assert!((65..=135).contains(&refused), "{refused}");
    assert_eq!(v1.take().len(), 200 - refused);
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_given_up() {
    let mut server = Generator::start().await;
    let documents = service("fraud", "http", &[]) + &service("v1", "http", &[server.address]);
    let mut proxy = Proxy::start(&documents);
    for (timeouts, reason) in [
        (json!({"backendRequest": "100ms"}), "try-timeout"),
        (
            json!({"request": "100ms", "backendRequest": "90ms"}),
            "try-timeout",
        ),
        (json!({"request": "100ms"}), "total-timeout"),
    ] {
        apply(
            &mut proxy,
            &json!([{"timeouts": timeouts, "backendRefs": [{"name": "v1", "port": 80}]}]),
        );
        let answer = send(proxy.fraud_port, request(Version::HTTP_11, "/think", &[])).await;
        assert_eq!(
            (answer.status, answer.mesh_error()),
            (StatusCode::GATEWAY_TIMEOUT, reason),
            "{timeouts}"
        );
    }
    server.begun(1).await;
}

#[tokio::test]
async fn model_routes_change_headers_too() {
    let v1 = Server::start("v1").await;
    let documents = service("fraud", "http", &[])
        + &service("v1", "http", &[v1.address])
        + &common::route(
            "{matches: [{path: {under: /v1}, query: {user: gold}}], headers: {request: {set: {x-rule: '1'}}}, \
              split: {backends: [{name: a, service: v1, headers: {request: {set: {x-backend: '2'}}, response: {remove: [connection-note]}}}]}}",
        );
    let proxy = Proxy::start(&documents);
    let answer = proxy
        .send(request(Version::HTTP_11, "/v1/models?user=gold", &[]))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.headers.contains_key("connection-note"));
    let seen = v1.take().remove(0);
    assert_eq!(
        (&seen.headers["x-rule"], &seen.headers["x-backend"]),
        (&"1".parse().unwrap(), &"2".parse().unwrap())
    );
    let answer = proxy.send(request(Version::HTTP_11, "/v10?user=gold", &[])).await;
    assert_eq!((answer.status.as_u16(), answer.mesh_error()), (404, "no-rule"));
}
