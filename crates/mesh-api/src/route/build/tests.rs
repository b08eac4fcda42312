//! Rules and their names, and what is refused of them.

use super::*;

fn route(rules: &serde_json::Value) -> Result<Route, Vec<String>> {
    let spec = serde_json::from_value(serde_json::json!({"service": "fraud", "rules": rules})).unwrap();
    Route::new(&"ml/fraud".parse().unwrap(), &spec)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn rules_are_named_by_position_when_nobody_names_them() {
    let backends = serde_json::json!({"backends": [{"name": "a", "service": "other/a"}]});
    let route =
        route(&serde_json::json!([{"split": backends}, {"name": "rest", "split": backends}])).unwrap();
    assert_eq!(route.rules[0].name.as_str(), "rule-0");
    assert_eq!(route.rules[1].name.as_str(), "rest");
    let split = route.rules[0].split().unwrap();
    assert_eq!(split.backends[0].service.to_string(), "other/a");
    assert_eq!(split.total, 1);
    assert_eq!(route.rules[1].origin.to_string(), "ModelRoute ml/fraud");
}

#[test]
fn what_is_wrong_is_named_by_field() {
    let split = serde_json::json!({"backends": [{"name": "a", "service": "a"}]});
    for (rule, expected) in [
        (
            serde_json::json!({"split": {"backends": []}}),
            "spec.rules[0].split.backends: 0 backends",
        ),
        (
            serde_json::json!({"split": {"backends": [{"name": "a", "service": "a", "weight": 0}]}}),
            "spec.rules[0].split.backends: all weights are 0",
        ),
        (
            serde_json::json!({"split": {"backends": [{"name": "a", "service": "a"}, {"name": "a", "service": "b"}]}}),
            "spec.rules[0].split.backends[1].name: \"a\" names an earlier backend too",
        ),
        (
            serde_json::json!({"split": {"backends": [{"name": "a", "service": "a", "weight": 1000001}]}}),
            "spec.rules[0].split.backends[0].weight: 1000001 is more than 1000000",
        ),
        (
            serde_json::json!({"split": {"backends": [{"name": "a", "service": "A!"}]}}),
            "spec.rules[0].split.backends[0].service: ",
        ),
        (
            serde_json::json!({"split": {"backends": [{"name": "a", "service": "a", "model": {}}]}}),
            "spec.rules[0].split.backends[0].model: says neither",
        ),
        (
            serde_json::json!({"split": {"by": {"header": "x y"}, "backends": [{"name": "a", "service": "a"}]}}),
            "spec.rules[0].split.by.header: \"x y\" is not a header name",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"path": "v2"}]}),
            "spec.rules[0].matches[0].path: ",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"method": "post"}]}),
            "spec.rules[0].matches[0].method: ",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"caller": "ml"}]}),
            "spec.rules[0].matches[0].caller: ",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"model": ""}]}),
            "spec.rules[0].matches[0].model: ",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"headers": {"a b": "x"}}]}),
            "spec.rules[0].matches[0].headers: \"a b\" is not a header name",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"headers": {"X-A": "x", "x-a": "y"}}]}),
            "spec.rules[0].matches[0].headers: \"x-a\" stands twice",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"headers": {"x-a": "x\n"}}]}),
            "spec.rules[0].matches[0].headers.x-a: no header can have this value",
        ),
        (
            serde_json::json!({"split": split, "timeouts": {"total": "0s"}}),
            "spec.rules[0].timeouts.total: 0s",
        ),
        (
            serde_json::json!({"split": split, "retries": {"attempts": 11}}),
            "spec.rules[0].retries.attempts: ",
        ),
        (
            serde_json::json!({"split": split, "timeouts": {"perTry": "0s"}}),
            "spec.rules[0].timeouts.perTry: 0s",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"path": {"under": "v2"}}]}),
            "spec.rules[0].matches[0].path: \"v2\" must begin with /",
        ),
        (
            serde_json::json!({"split": split, "matches": [{"query": {"": "x"}}]}),
            "spec.rules[0].matches[0].query: a parameter needs a name",
        ),
        (
            serde_json::json!({"split": split, "headers": {"request": {"set": {"Host": "x"}}}}),
            "spec.rules[0].headers.request.set: \"Host\" names what a request is for",
        ),
        (
            serde_json::json!({"split": split, "headers": {"request": {"remove": ["content-length"]}}}),
            "spec.rules[0].headers.request.remove: \"content-length\" says how long a body is",
        ),
        (
            serde_json::json!({"split": split, "headers": {"response": {"add": {"mesh-error": "x"}}}}),
            "spec.rules[0].headers.response.add: \"mesh-error\" is said by the mesh alone",
        ),
        (
            serde_json::json!({"split": split, "headers": {"response": {"set": {"X-A": "x", "x-a": "y"}}}}),
            "spec.rules[0].headers.response.set: \"x-a\" stands twice",
        ),
        (
            serde_json::json!({"split": {"backends": [{"name": "a", "service": "a",
                "headers": {"request": {"set": {"x-a": "a\nb"}}}}]}}),
            "spec.rules[0].split.backends[0].headers.request.set.x-a: no header can have this value",
        ),
    ] {
        let problems = route(&serde_json::json!([rule])).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.starts_with(expected)),
            "{expected}: {problems:?}"
        );
    }
}
