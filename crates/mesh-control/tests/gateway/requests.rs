//! What is matched, changed, redirected and split.

use std::time::Duration;

use http::Method;
use mesh_api::route::Action;

use crate::scene::{Sent, get, http_route, web};

const BACKEND: &str = "backendRefs: [{name: v1, port: 80}]";

#[test]
fn paths_are_compared_by_elements() {
    for (value, path, taken) in [
        ("/v1", "/v1", true),
        ("/v1", "/v1/", true),
        ("/v1", "/v1/models", true),
        ("/v1", "/v10", false),
        ("/v1", "/V1", false),
        ("/v1/", "/v1", true),
        ("/v1/", "/v1/models", true),
        ("/", "/anything", true),
    ] {
        let web = web(&http_route(
            "one",
            0,
            &format!("[{{matches: [{{path: {{value: {value}}}}}], {BACKEND}}}]"),
        ));
        assert_eq!(
            get(path).outcome(&web),
            if taken { "v1" } else { "404" },
            "{value} {path}"
        );
    }
}

#[test]
fn every_part_of_a_match_must_hold() {
    let matches = "{path: {value: /a}, method: POST, headers: [{name: X-Tier, value: gold}, {name: x-tier, value: silver}], \
        queryParams: [{name: user, value: 'a b'}]}";
    let web = web(&http_route(
        "one",
        0,
        &format!("[{{matches: [{matches}], {BACKEND}}}]"),
    ));
    let good = Sent {
        method: Method::POST,
        query: Some("x=1&user=a%20b"),
        headers: &[("x-tier", "gold")],
        ..get("/a")
    };
    assert_eq!(good.outcome(&web), "v1");
    for bad in [
        Sent {
            method: Method::GET,
            ..good.clone()
        },
        Sent {
            query: None,
            ..good.clone()
        },
        Sent {
            query: Some("user=ab"),
            ..good.clone()
        },
        Sent {
            headers: &[("x-tier", "silver")],
            ..good.clone()
        },
        Sent {
            path: "/b",
            ..good.clone()
        },
    ] {
        assert_eq!(bad.outcome(&web), "404", "{bad:?}");
    }
}

#[test]
fn paths_are_rewritten() {
    let rewrite = |path: &str| format!("filters: [{{type: URLRewrite, urlRewrite: {{path: {path}}}}}]");
    let prefix = |to: &str| rewrite(&format!("{{type: ReplacePrefixMatch, replacePrefixMatch: {to}}}"));
    let rules = format!(
        "[{{matches: [{{path: {{value: /prefix/one}}}}], {}, {BACKEND}}},
          {{matches: [{{path: {{value: /strip}}}}, {{path: {{value: /bare/}}}}], {}, {BACKEND}}},
          {{matches: [{{path: {{value: /full}}}}], {}, {BACKEND}}},
          {{matches: [{{path: {{value: /backend}}}}], backendRefs: [{{name: v1, port: 80, {}}}]}}]",
        prefix("/one"),
        prefix("/"),
        rewrite("{type: ReplaceFullPath, replaceFullPath: /two}"),
        prefix("/there"),
    );
    let web = web(&http_route("one", 0, &rules));
    for (path, expected) in [
        ("/prefix/one/two", "/one/two"),
        ("/prefix/one", "/one"),
        ("/strip/three", "/three"),
        ("/strip", "/"),
        ("/bare/three", "/three"),
        ("/full/three", "/two"),
        ("/backend/x", "/there/x"),
    ] {
        assert_eq!(get(path).path_there(&web), expected, "{path}");
    }
}

#[test]
fn clients_are_redirected() {
    let redirect = |said: &str| format!("filters: [{{type: RequestRedirect, requestRedirect: {said}}}]");
    let rules = [
        ("/host", "{hostname: example.org}"),
        ("/status", "{hostname: example.org, statusCode: 301}"),
        ("/scheme", "{scheme: https}"),
        ("/port", "{port: 8083, statusCode: 307}"),
        (
            "/prefix",
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 308}",
        ),
        (
            "/full",
            "{path: {type: ReplaceFullPath, replaceFullPath: /there}, statusCode: 303}",
        ),
    ];
    let rules: Vec<String> = rules
        .iter()
        .map(|(path, said)| format!("{{matches: [{{path: {{value: {path}}}}}], {}}}", redirect(said)))
        .collect();
    let web = web(&http_route("one", 0, &format!("[{}]", rules.join(", "))));
    for (path, expected) in [
        ("/host", "302 http://example.org/host?a=b"),
        ("/status/x", "301 http://example.org/status/x?a=b"),
        ("/scheme", "302 https://web.ml/scheme?a=b"),
        ("/port", "307 http://web.ml:8083/port?a=b"),
        ("/prefix/x", "308 http://web.ml/new/x?a=b"),
        ("/full/x", "303 http://web.ml/there?a=b"),
    ] {
        let request = Sent {
            query: Some("a=b"),
            ..get(path)
        };
        assert_eq!(request.outcome(&web), expected);
    }
}

#[test]
fn headers_are_changed_by_rule_and_backend() {
    let rules = "[{filters: [
        {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: rule}, {name: x-set, value: second}],
            add: [{name: x-add, value: '1'}], remove: [x-gone]}},
        {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-answer, value: '1'}]}},
        {type: URLRewrite, urlRewrite: {hostname: models.example}}],
        backendRefs: [{name: v1, port: 80, filters: [
            {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: backend}]}}]}]}]";
    let rule = get("/").rule(&web(&http_route("one", 0, rules)));
    assert_eq!(
        rule.filters.as_deref().unwrap().in_words(),
        [
            "removes request header x-gone",
            "sets request header x-set: rule",
            "adds request header x-add: 1",
            "sets response header x-answer: 1",
            "makes the host models.example",
        ]
    );
    let backend = &rule.backends()[0];
    assert_eq!(
        backend.filters.as_deref().unwrap().in_words(),
        ["sets request header x-set: backend"]
    );
}

#[test]
fn weights_and_what_is_not_there() {
    for (backends, expected) in [
        ("[{name: v1, port: 80}, {name: v2, port: 80, weight: 9}]", "v1+v2"),
        ("[{name: v1, port: 80}, {name: v2, port: 80, weight: 0}]", "v1"),
        ("[{name: v1, port: 80}, {name: v1, port: 80}]", "v1+v1-2"),
        (
            "[{name: v1, port: 80, weight: 0}, {name: v2, port: 80, weight: 0}]",
            "500",
        ),
        ("[]", "500"),
        ("[{name: v1, port: 80}, {name: gone, port: 80}]", "v1+gone=500"),
        ("[{name: v1, port: 81}]", "v1=500"),
        (
            "[{name: Some.Thing, kind: Bucket, group: example.com, port: 80}]",
            "some-thing=500",
        ),
    ] {
        let web = web(&http_route("one", 0, &format!("[{{backendRefs: {backends}}}]")));
        assert_eq!(get("/").outcome(&web), expected, "{backends}");
    }
    let web = web(&http_route(
        "one",
        0,
        "[{backendRefs: [{name: v1, port: 80, weight: 3}, {name: gone, port: 80}]}]",
    ));
    let Action::Split(split) = get("/").rule(&web).action else {
        panic!()
    };
    assert_eq!(split.total, 4);
    assert_eq!(
        split.backends[1].invalid.as_deref(),
        Some("there is no Service ml/gone")
    );
}

#[test]
fn timeouts_are_of_the_request_and_of_each_try() {
    for (said, total, per_try) in [
        ("{}", None, None),
        ("{request: 10s, backendRequest: 500ms}", Some(10_000), Some(500)),
        ("{request: 0s, backendRequest: 0ms}", None, None),
    ] {
        let web = web(&http_route(
            "one",
            0,
            &format!("[{{timeouts: {said}, {BACKEND}}}]"),
        ));
        let timeouts = get("/").rule(&web).timeouts;
        assert_eq!(timeouts.total, total.map(Duration::from_millis), "{said}");
        assert_eq!(timeouts.per_try, per_try.map(Duration::from_millis), "{said}");
        assert_eq!((timeouts.first_byte, timeouts.idle), (None, None));
    }
}
