//! Which tokens are taken, with an API server that answers as told.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// An API server that answers reviews and reads of pods with what it was given, and counts the reviews.
fn server(review: Value, pod: Option<Value>) -> (Reviewer, Arc<Mutex<Vec<Value>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (review, pod, seen) = (review.clone(), pod.clone(), seen.clone());
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            let (code, answer) = match (path.as_str(), pod) {
                ("/apis/authentication.k8s.io/v1/tokenreviews", _) => {
                    seen.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    (
                        201,
                        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                        "metadata": {}, "spec": {"token": ""}, "status": review}),
                    )
                }
                ("/api/v1/namespaces/ml/pods/triton-0", Some(pod)) => (200, pod),
                _ => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                    "message": "not found"}),
                ),
            };
            Response::builder()
                .status(code)
                .body(Body::from(serde_json::to_vec(&answer).unwrap()))
        }
    });
    let client = Client::new(service, "mesh-system");
    (Reviewer::new(client, "cluster.local".parse().unwrap()), asked)
}

fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

fn good_token() -> String {
    token(&json!({"aud": [AUDIENCE], "exp": crate::clock::unix_now() + 3_600}))
}

fn accepted(change: impl FnOnce(&mut Value)) -> Value {
    let mut status = json!({
        "authenticated": true,
        "audiences": [AUDIENCE],
        "user": {
            "username": "system:serviceaccount:ml:triton",
            "extra": {POD_NAME: ["triton-0"], POD_UID: ["u1"], NODE_NAME: ["node-1"]},
        },
    });
    change(&mut status);
    status
}

fn pod(uid: &str, phase: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "triton-0", "namespace": "ml", "uid": uid},
        "spec": {"containers": [], "nodeName": node}, "status": {"phase": phase}})
}

#[tokio::test]
async fn a_pod_is_its_service_account() {
    let (reviewer, asked) = server(accepted(|_| {}), Some(pod("u1", "Running", "node-1")));
    let workload = "ml/triton-0".parse().unwrap();
    let token = good_token();
    let identity = reviewer.review(&token, &workload).await.unwrap();
    assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/ml/sa/triton");
    reviewer.review(&token, &workload).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "nothing is remembered");
    assert_eq!(asked[0]["spec"], json!({"token": token, "audiences": [AUDIENCE]}));
}

#[tokio::test]
async fn whoever_is_not_that_pod_is_refused() {
    let running = || Some(pod("u1", "Running", "node-1"));
    let refused = || json!({"authenticated": false, "error": "[invalid bearer token, and more of it]"});
    let in_an_hour = crate::clock::unix_now() + 3_600;
    let other_audience = token(&json!({"aud": ["https://kubernetes.default.svc"], "exp": in_an_hour}));
    let cases = [
        (
            "wrong audience",
            other_audience.clone(),
            refused(),
            running(),
            Reason::Audience,
        ),
        (
            "an API server that knows no audiences",
            other_audience,
            accepted(|it| it["audiences"] = json!([])),
            running(),
            Reason::Audience,
        ),
        (
            "expired",
            token(&json!({"aud": [AUDIENCE], "exp": 1})),
            refused(),
            running(),
            Reason::Expired,
        ),
        ("forged", good_token(), refused(), running(), Reason::Invalid),
        ("no answer", good_token(), json!({}), running(), Reason::Invalid),
        (
            "a user",
            good_token(),
            accepted(|it| it["user"]["username"] = json!("alice")),
            running(),
            Reason::Invalid,
        ),
        (
            "unbound",
            good_token(),
            accepted(|it| it["user"]["extra"] = json!({})),
            running(),
            Reason::Unbound,
        ),
        (
            "bound to a secret",
            good_token(),
            accepted(|it| it["user"]["extra"] = json!({POD_NAME: ["triton-0"]})),
            running(),
            Reason::Unbound,
        ),
        (
            "another pod's",
            good_token(),
            accepted(|it| it["user"]["extra"][POD_NAME] = json!(["triton-1"])),
            running(),
            Reason::OtherPod,
        ),
        (
            "another namespace's",
            good_token(),
            accepted(|it| it["user"]["username"] = json!("system:serviceaccount:web:triton")),
            running(),
            Reason::OtherNamespace,
        ),
        (
            "an account whose name is no label",
            good_token(),
            accepted(|it| it["user"]["username"] = json!("system:serviceaccount:ml:a.b")),
            running(),
            Reason::Name,
        ),
        (
            "deleted pod",
            good_token(),
            accepted(|_| {}),
            None,
            Reason::PodGone,
        ),
        (
            "a later pod of that name",
            good_token(),
            accepted(|_| {}),
            Some(pod("u2", "Running", "node-1")),
            Reason::PodGone,
        ),
        (
            "a pod that has ended",
            good_token(),
            accepted(|_| {}),
            Some(pod("u1", "Succeeded", "node-1")),
            Reason::PodGone,
        ),
        (
            "another node",
            good_token(),
            accepted(|_| {}),
            Some(pod("u1", "Running", "node-2")),
            Reason::PodGone,
        ),
    ];
    for (what, token, review, pod, reason) in cases {
        let (reviewer, _) = server(review, pod);
        let refusal = reviewer
            .review(&token, &"ml/triton-0".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(refusal.reason, reason, "{what}: {refusal}");
        assert!(!refusal.message.contains(&token), "{what}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_not_taken_to_the_api_server() {
    let (reviewer, asked) = server(accepted(|_| {}), Some(pod("u1", "Running", "node-1")));
    let huge = format!("a.{}.c", "x".repeat(MAX_TOKEN));
    for (token, reason) in [
        ("", Reason::NoToken),
        (huge.as_str(), Reason::Oversized),
        ("rubbish", Reason::Malformed),
        ("a.b", Reason::Malformed),
        ("a.!!.c", Reason::Malformed),
        ("a.bm8.c", Reason::Malformed),
        ("mesh-join-AAAA", Reason::Malformed),
        ("a.b\n.c", Reason::Malformed),
    ] {
        let refusal = reviewer
            .review(token, &"ml/triton-0".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(refusal.reason, reason, "{:.40}", token);
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_no_proof() {
    let service = tower::service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<Body>, std::io::Error>>()
    });
    let reviewer = Reviewer::new(Client::new(service, "x"), "cluster.local".parse().unwrap());
    let workload: ObjectName = "ml/triton-0".parse().unwrap();
    let refusal = reviewer.review(&good_token(), &workload).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::Unavailable);
    let token = good_token();
    let waiting = (0..AT_ONCE + 1).map(|_| reviewer.review(&token, &workload));
    let refusals = futures_util::future::join_all(waiting).await;
    let busy = refusals
        .iter()
        .filter(|it| it.as_ref().unwrap_err().reason == Reason::Busy)
        .count();
    assert_eq!(busy, 1);
}
