//! AdmissionReviews as an API server writes them, and what they are answered with.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use mesh_api::document::{Kind, ObjectId};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

fn webhooks() -> Arc<Webhooks> {
    let governs = |kind: Kind, service: &mesh_api::name::ObjectName| {
        let there = kind == Kind::ModelRoute && service.to_string() == "ml/fraud";
        there.then(|| ObjectId {
            kind,
            name: "ml/first".parse().unwrap(),
        })
    };
    Arc::new(Webhooks {
        validate: validate::Validator {
            trust_domain: "cluster.local".parse().unwrap(),
            namespace: "mesh-system".parse().unwrap(),
            in_force: Arc::new(governs),
        },
        inject: None,
        metrics: Arc::default(),
    })
}

async fn send(webhooks: &Arc<Webhooks>, path: &str, body: Vec<u8>) -> (u16, Value) {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let response = webhooks.clone().router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn route(name: &str, service: &str, weights: [i64; 2]) -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1", "kind": "ModelRoute",
        "metadata": {"name": name, "namespace": "ml", "uid": "0c9a8d74", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-11-30T10:00:00Z",
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "mesh.dev/v1alpha1",
                "time": "2026-11-30T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"service": service, "rules": [{"name": "all", "split": {"backends": [
            {"name": "stable", "service": "fraud-v1", "weight": weights[0]},
            {"name": "canary", "service": "fraud-v2", "weight": weights[1]},
        ]}}]},
        "status": {"observedGeneration": 1},
    })
}

/// What an API server of version 1.36 asks.
fn review(object: &Value, old: &Value) -> Value {
    let kind = json!({"group": "mesh.dev", "version": "v1alpha1", "kind": object["kind"]});
    let resource = json!({"group": "mesh.dev", "version": "v1alpha1", "resource": "modelroutes"});
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
            "operation": if old.is_null() { "CREATE" } else { "UPDATE" },
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": object, "oldObject": old, "dryRun": false,
            "options": {"kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

async fn validated(object: &Value, old: &Value) -> Value {
    let body = review(object, old).to_string().into_bytes();
    let (status, answer) = send(&webhooks(), "/validate", body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    answer["response"].clone()
}

fn mesh_config(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "mesh.dev/v1alpha1", "kind": "MeshConfig",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

#[tokio::test]
async fn what_is_bad_is_refused_with_object_field_and_reason() {
    let good = route("spam", "spam", [95, 5]);
    assert_eq!(validated(&good, &Value::Null).await["allowed"], true);
    let mut unknown = good.clone();
    unknown["spec"]["rules"][0]["split"]["backend"] = json!([]);
    let mut dotted = good.clone();
    dotted["metadata"]["name"] = json!("spam.v1");
    for (what, object, old, words) in [
        (
            "weights of nothing",
            route("spam", "spam", [0, 0]),
            Value::Null,
            "ModelRoute ml/spam: spec.rules[0].split",
        ),
        (
            "weights of nothing, on an update",
            route("spam", "spam", [0, 0]),
            good.clone(),
            "ModelRoute ml/spam: spec.rules[0].split",
        ),
        ("an unknown field", unknown, Value::Null, "spec.rules[0].split"),
        ("a name with a dot", dotted, Value::Null, "metadata.name"),
        (
            "a second route of a service",
            route("second", "fraud", [1, 1]),
            Value::Null,
            "ModelRoute ml/second: spec.service: ModelRoute ml/first is about service ml/fraud already",
        ),
        (
            "a MeshConfig elsewhere",
            mesh_config("ml", "mesh", &json!({})),
            Value::Null,
            "MeshConfig ml/mesh: metadata.name: the MeshConfig of this mesh is mesh-system/mesh",
        ),
        (
            "another trust domain",
            mesh_config("mesh-system", "mesh", &json!({"trustDomain": "other.example"})),
            Value::Null,
            "spec.trustDomain: the control plane was started with trust domain cluster.local",
        ),
    ] {
        let response = validated(&object, &old).await;
        assert_eq!(response["allowed"], false, "{what}");
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{what}: {message} should say {words}");
        assert_eq!(response["status"]["code"], 422, "{what}");
    }
}

#[tokio::test]
async fn what_nobody_changed_is_not_judged() {
    let bad = route("spam", "spam", [0, 0]);
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"] = json!({"team": "risk"});
    assert_eq!(validated(&labelled, &bad).await["allowed"], true);
    assert_eq!(
        validated(&route("first", "fraud", [1, 1]), &Value::Null).await["allowed"],
        true
    );
    let mut deletion = review(&bad, &bad);
    deletion["request"]["operation"] = json!("DELETE");
    deletion["request"]["object"] = Value::Null;
    let (_, answer) = send(&webhooks(), "/validate", deletion.to_string().into_bytes()).await;
    assert_eq!(answer["response"]["allowed"], true);
    let mut unnamed = route("x", "spam", [1, 1]);
    unnamed["metadata"] = json!({"generateName": "spam-", "namespace": "ml"});
    let mut unnamed = review(&unnamed, &Value::Null);
    unnamed["request"].as_object_mut().unwrap().remove("name");
    let (_, answer) = send(&webhooks(), "/validate", unnamed.to_string().into_bytes()).await;
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}

#[tokio::test]
async fn what_is_no_review_is_an_error_and_counted() {
    let webhooks = webhooks();
    let good = review(&route("spam", "spam", [1, 1]), &Value::Null);
    let mut old_version = good.clone();
    old_version["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut empty = good.clone();
    empty["request"] = Value::Null;
    for (what, body, status) in [
        ("rubbish", b"rubbish".to_vec(), 400),
        ("nothing", Vec::new(), 400),
        ("another version", old_version.to_string().into_bytes(), 400),
        ("no request", empty.to_string().into_bytes(), 400),
        ("too large", vec![b' '; MAX_REVIEW + 1], 413),
    ] {
        assert_eq!(send(&webhooks, "/validate", body).await.0, status, "{what}");
    }
    assert_eq!(
        send(&webhooks, "/validate", good.to_string().into_bytes())
            .await
            .0,
        200
    );
    let text = webhooks.metrics.text(crate::metrics::Measured::default());
    for line in [
        "mesh_control_webhook_requests_total{webhook=\"validate\",outcome=\"failed\"} 5",
        "mesh_control_webhook_requests_total{webhook=\"validate\",outcome=\"allowed\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing of\n{text}");
    }
}

const SETTINGS: &str = "image: registry.example/mesh-proxy:1\n";

/// Who injects, before an API server that has namespaces `on` and `off`, and nothing else.
fn injecting(settings: &std::path::Path) -> Arc<Webhooks> {
    let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
        let (code, answer) = match request.uri().path() {
            "/api/v1/namespaces/on" => (
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "on", "labels": {"mesh.dev/inject": "enabled"}}}),
            ),
            "/api/v1/namespaces/off" => (
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "off"}}),
            ),
            _ => (
                404,
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                "message": "not found"}),
            ),
        };
        let body = kube::client::Body::from(serde_json::to_vec(&answer).unwrap());
        http::Response::builder().status(code).body(body)
    });
    let client = kube::Client::new(service, "mesh-system");
    let settings = Arc::new(inject::SettingsFile::open(settings).unwrap());
    let Webhooks {
        validate, metrics, ..
    } = Arc::into_inner(webhooks()).unwrap();
    Arc::new(Webhooks {
        validate,
        inject: Some(inject::Injector::new(client, settings)),
        metrics,
    })
}

fn pod_review(namespace: &str, spec: &Value) -> Value {
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "triton-"}, "spec": spec});
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u", "kind": kind, "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace, "operation": "CREATE", "userInfo": {"username": "alice"},
            "object": pod, "oldObject": null, "dryRun": false,
        },
    })
}

#[tokio::test]
async fn a_pod_gets_its_sidecar_where_its_namespace_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, SETTINGS).unwrap();
    let webhooks = injecting(&file);
    let spec = json!({"containers": [{"name": "triton", "image": "triton:1"}]});
    let ask = async |namespace: &str, spec: &Value| {
        send(
            &webhooks,
            "/inject",
            pod_review(namespace, spec).to_string().into_bytes(),
        )
        .await
    };
    let (status, answer) = ask("on", &spec).await;
    let response = &answer["response"];
    assert_eq!(
        (status, &response["allowed"], &response["patchType"]),
        (200, &json!(true), &json!("JSONPatch"))
    );
    // An API server reads the bytes of a patch as a list of numbers as well as in base64.
    let patch: Vec<u8> = serde_json::from_value(response["patch"].clone()).unwrap();
    assert!(
        String::from_utf8(patch)
            .unwrap()
            .contains("registry.example/mesh-proxy:1")
    );

    let (status, answer) = ask("off", &spec).await;
    assert_eq!((status, &answer["response"]["allowed"]), (200, &json!(true)));
    assert!(answer["response"].get("patch").is_none());
    // Nobody knows what the namespace wants: the API server goes by its failure policy.
    assert_eq!(ask("gone", &spec).await.0, 500);
    let text = webhooks.metrics.text(crate::metrics::Measured::default());
    for outcome in ["patched", "allowed", "failed"] {
        let line =
            format!("mesh_control_webhook_requests_total{{webhook=\"inject\",outcome=\"{outcome}\"}} 1");
        assert!(text.contains(&line), "{line} is missing of\n{text}");
    }
}
