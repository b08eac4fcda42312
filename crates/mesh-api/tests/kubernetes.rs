//! The definitions are what API servers take, and objects are read as documents are.

#![cfg(feature = "kubernetes")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_api::document::Document;
use mesh_api::kubernetes::{ConditionType, Conditions as _, GROUP, ModelRoute, condition, crds, read};
use serde_json::{Value, json};

/// Every node of a definition's schema, with its path.
fn nodes(definition: &Value) -> Vec<(String, Value)> {
    fn walk(at: String, node: &Value, found: &mut Vec<(String, Value)>) {
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            walk(format!("{at}.{name}"), field, found);
        }
        for within in ["items", "additionalProperties"] {
            if node[within].is_object() {
                walk(format!("{at}[]"), &node[within], found);
            }
        }
        found.push((at, node.clone()));
    }
    let mut found = Vec::new();
    walk(
        String::new(),
        &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        &mut found,
    );
    found
}

fn definitions() -> Vec<Value> {
    let all = crds().unwrap();
    all.iter().map(|it| serde_json::to_value(it).unwrap()).collect()
}

#[test]
fn schemas_are_structural() {
    for definition in definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        for (at, node) in nodes(&definition) {
            for never in [
                "$ref", "oneOf", "allOf", "not", "default", "nullable", "const", "$defs",
            ] {
                assert!(node.get(never).is_none(), "{name}{at}: {never}");
            }
            let open = node["x-kubernetes-preserve-unknown-fields"] == true;
            // A value of several types, unless it is a whole `spec`.
            let several = open && at != ".status.inForce";
            assert_ne!(node["type"].is_string(), several, "{name}{at}: {node}");
            assert_eq!(node.get("anyOf").is_some(), several, "{name}{at}: {node}");
        }
    }
}

#[test]
fn whatever_can_be_long_is_bounded() {
    for definition in definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let of_spec = |at: &str| at.starts_with(".spec");
        for (at, node) in nodes(&definition).into_iter().filter(|(at, _)| of_spec(at)) {
            let bound = match node["type"].as_str() {
                Some("string") if node.get("enum").is_none() => "maxLength",
                Some("array") => "maxItems",
                Some("object") if node.get("additionalProperties").is_some() => "maxProperties",
                _ => continue,
            };
            assert!(node[bound].is_u64(), "{name}{at}: {bound}: {node}");
        }
    }
}

#[test]
fn every_field_is_described() {
    for definition in definitions() {
        for (at, node) in nodes(&definition) {
            let own = at.ends_with("[]") || ["", ".apiVersion", ".kind", ".metadata"].contains(&at.as_str());
            assert!(
                own || node["description"].is_string() || at.ends_with("status"),
                "{at}: {node}"
            );
        }
    }
}

#[test]
fn rules_stand_at_fields_that_are_there() {
    for definition in definitions() {
        for (at, node) in nodes(&definition) {
            assert!(
                node.get("x-kubernetes-validations").is_none() || node["type"].is_string(),
                "{at}: {node}"
            );
        }
    }
}

#[test]
fn lists_of_named_things_are_merged_by_name() {
    let definition = &definitions()[0];
    let all = nodes(definition);
    for at in [".spec.rules", ".spec.rules[].split.backends"] {
        let (_, node) = all.iter().find(|(path, _)| path == at).unwrap();
        assert_eq!(node["x-kubernetes-list-map-keys"], json!(["name"]));
        assert!(
            node["items"]["required"]
                .as_array()
                .unwrap()
                .contains(&json!("name")),
            "{at}"
        );
    }
}

#[test]
fn a_resource_has_the_path_of_its_definition() {
    use kube::Resource as _;
    let route = ModelRoute::new(
        "ml",
        "fraud",
        serde_json::from_value(json!({"service": "fraud", "rules": []})).unwrap(),
    );
    assert_eq!(
        ModelRoute::url_path(&(), Some("ml")),
        "/apis/mesh.dev/v1alpha1/namespaces/ml/modelroutes"
    );
    let text = serde_json::to_value(&route).unwrap();
    assert_eq!(text["apiVersion"], "mesh.dev/v1alpha1");
    assert_eq!(text["kind"], "ModelRoute");
    assert_eq!(serde_json::from_value::<ModelRoute>(text).unwrap(), route);
    for definition in crds().unwrap() {
        let names = &definition.spec.names;
        assert_eq!(
            definition.metadata.name.unwrap(),
            format!("{}.{GROUP}", names.plural)
        );
    }
}

fn object() -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {
            "name": "fraud", "namespace": "ml", "uid": "7", "resourceVersion": "12", "managedFields": [{"manager": "kubectl"}],
            "labels": {"team": "risk"},
        },
        "spec": {"service": "fraud", "rules": [{"name": "all", "matches": [{"model": {"prefix": "fraud-"}}],
            "split": {"backends": [{"name": "stable", "service": "fraud-v1"}]}}]},
        "status": {"weights": "stable=1"},
    })
}

#[test]
fn an_object_of_the_api_server_is_read_as_a_document() {
    let Document::ModelRoute(route) = read(&object()).unwrap() else {
        panic!()
    };
    assert_eq!(route.id().to_string(), "ModelRoute ml/fraud");
    assert_eq!(route.metadata.labels["team"], "risk");
    assert_eq!(route.spec.rules[0].split.backends[0].weight, 1);
}

#[test]
fn what_is_wrong_with_an_object_is_named_by_field() {
    type Spoil = fn(&mut Value);
    let cases: [(Spoil, &str); 8] = [
        (
            |it| it["apiVersion"] = "mesh.dev/v1".into(),
            "apiVersion: \"mesh.dev/v1\" is not an API",
        ),
        (
            |it| it["kind"] = "Workload".into(),
            "kind: \"Workload\" is no kind of this API",
        ),
        (
            |it| it["metadata"]["name"] = "fraud.v1".into(),
            "metadata.name: \"fraud.v1\" is not a name",
        ),
        (|it| it["spec"] = Value::Null, "spec: missing"),
        (
            |it| it["spec"]["rules"][0]["splt"] = 1.into(),
            "spec.rules[0].splt: unknown field `splt`",
        ),
        (
            |it| it["spec"]["rules"][0]["matches"][0]["model"] = 5.into(),
            "spec.rules[0].matches[0].model: expected a text",
        ),
        (
            |it| it["spec"]["rules"][0]["split"]["backends"][0]["weight"] = (-5).into(),
            "spec.rules[0].split.backends[0].weight: invalid value",
        ),
        (
            |it| it["metadata"]["labels"]["team"] = 5.into(),
            "metadata.labels.team: invalid type",
        ),
    ];
    for (spoil, expected) in cases {
        let mut object = object();
        spoil(&mut object);
        let problem = read(&object).unwrap_err().to_string();
        assert!(problem.starts_with(expected), "{expected:?}: {problem}");
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    let at = |second: i64| Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap());
    let accepted =
        |holds, reason, second| condition(ConditionType::Accepted, holds, reason, "", Some(1), at(second));
    let mut conditions = vec![accepted(true, "Accepted", 1)];
    conditions.set([accepted(true, "StillAccepted", 2)]);
    assert_eq!(
        (
            conditions[0].last_transition_time.clone(),
            conditions[0].reason.as_str()
        ),
        (at(1), "StillAccepted")
    );
    conditions.set([
        accepted(false, "Invalid", 3),
        condition(ConditionType::Programmed, true, "Programmed", "", None, at(3)),
    ]);
    assert_eq!(conditions[0].last_transition_time, at(3));
    assert_eq!(conditions.len(), 2);
}
