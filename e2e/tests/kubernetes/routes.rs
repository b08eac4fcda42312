//! The control plane finds the Gateway API installed after it has started, reads its routes, and says on their status what has
//! come of them, beside what other controllers say.

use anyhow::{Context as _, Result};
use mesh_api::route::Route;
use mesh_api::snapshot::Service;
use mesh_e2e::kubernetes::install_gateway_api;
use serde_json::{Value, json};

use crate::control::{Control, condition};

/// Services `web`, `v1`, `v2`, `lost`, `across`, `odd` and `calls` of `ml`, and `web` of `other`.
fn objects() -> String {
    let namespaces = ["ml", "other"]
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    let services = [
        "ml/web",
        "ml/v1",
        "ml/v2",
        "ml/lost",
        "ml/across",
        "ml/odd",
        "ml/calls",
        "other/web",
    ];
    let services = services.map(|of| {
        let (namespace, name) = of.split_once('/').unwrap_or_default();
        let metadata = json!({"name": name, "namespace": namespace});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}})
    });
    let all: Vec<Value> = namespaces.into_iter().chain(services).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string()
}

/// A route `ml/NAME` for the Service of its name.
fn route(kind: &str, name: &str, rules: &Value) -> String {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": name}], "rules": rules},
    });
    route.to_string() + "\n---\n"
}

const GRANT: &str = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: ml, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: ml}]
  to: [{group: '', kind: Service, name: web}]
";

/// What the mesh says of the one parent of a route.
fn ours(status: &Value) -> &Value {
    let mut parents = status["parents"].as_array().into_iter().flatten();
    let ours = parents.find(|parent| parent["controllerName"] == "mesh.dev/mesh-control");
    ours.map_or(&Value::Null, |ours| &ours["conditions"])
}

/// Whether the mesh says so of a route: of `Accepted` and `ResolvedRefs`, `True` or `False` with its reason.
fn says(status: &Value, accepted: &str, resolved: &str) -> bool {
    let word = |name| {
        let [status, reason, _] = condition(ours(status), name);
        format!("{status} {reason}")
    };
    word("Accepted") == accepted && word("ResolvedRefs") == resolved
}

const ACCEPTED: &str = "True Accepted";
const RESOLVED: &str = "True ResolvedRefs";

/// Backends with their weights, and whether they can be used.
fn backends(service: &Service) -> Vec<(String, u32, bool)> {
    let backends = service.route.iter().flat_map(Route::backends);
    let backends = backends.map(|it| (it.service.to_string(), it.weight, it.invalid.is_none()));
    backends.collect()
}

fn split(weights: [u32; 2]) -> Value {
    let backend = |name: &str, weight| json!({"name": name, "port": 80, "weight": weight});
    json!([{"backendRefs": [backend("v1", weights[0]), backend("v2", weights[1])]}])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_read_and_their_status_is_written_beside_that_of_others() -> Result<()> {
    let control = Control::start(&objects()).await?;
    let kubectl = control.kubectl();
    control
        .service("ml/web", "the Service", |service| service.route.is_none())
        .await?;

    // The Gateway API comes later.
    install_gateway_api(kubectl)?;
    let lost = json!([{"backendRefs": [{"name": "gone", "port": 80}]}]);
    let across = json!([{"backendRefs": [{"name": "web", "namespace": "other", "port": 80}]}]);
    let mirror =
        json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v1", "port": 80}}});
    let odd = json!([{"filters": [mirror], "backendRefs": [{"name": "v1", "port": 80}]}]);
    let calls = json!([{"matches": [{"method": {"service": "shop.Cart"}}], "backendRefs": [{"name": "v1", "port": 80}]}]);
    let routes = [
        ("HTTPRoute", "web", split([95, 5])),
        ("HTTPRoute", "lost", lost),
        ("HTTPRoute", "across", across),
        ("HTTPRoute", "odd", odd),
        ("HTTPRoute", "nowhere", split([1, 1])),
        ("GRPCRoute", "calls", calls),
    ];
    let routes = routes.map(|(kind, name, rules)| route(kind, name, &rules));
    kubectl.apply(&routes.concat())?;
    for (object, accepted, resolved) in [
        ("httproute/web", ACCEPTED, RESOLVED),
        ("httproute/lost", ACCEPTED, "False BackendNotFound"),
        ("httproute/across", ACCEPTED, "False RefNotPermitted"),
        ("httproute/odd", "False UnsupportedValue", RESOLVED),
        ("httproute/nowhere", "False NoMatchingParent", RESOLVED),
        ("grpcroute/calls", ACCEPTED, RESOLVED),
    ] {
        let status = control
            .status(object, "its conditions", |status| {
                says(status, accepted, resolved)
            })
            .await?;
        let conditions = ours(&status).as_array().context("no conditions")?;
        let generations = conditions
            .iter()
            .map(|condition| &condition["observedGeneration"]);
        assert!(
            generations.into_iter().all(|generation| *generation == 1),
            "{status}"
        );
    }
    let view = control.view();
    let known = |name: &str| {
        let name = name.parse().ok()?;
        view.service(&name).map(|service| backends(service))
    };
    let (v1, v2) = ("ml/v1".to_owned(), "ml/v2".to_owned());
    assert_eq!(
        known("ml/web"),
        Some(vec![(v1.clone(), 95, true), (v2.clone(), 5, true)])
    );
    assert_eq!(known("ml/lost"), Some(vec![("ml/gone".to_owned(), 1, false)]));
    assert_eq!(known("ml/across"), Some(vec![("other/web".to_owned(), 1, false)]));
    assert_eq!(
        known("ml/odd"),
        Some(vec![]),
        "what is not supported changes nothing"
    );
    assert_eq!(known("ml/calls"), Some(vec![(v1.clone(), 1, true)]));

    // Another controller has its own words on the same list.
    let theirs = json!({
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"},
        "controllerName": "example.com/gateway",
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    let patch = json!([{"op": "add", "path": "/status/parents/0", "value": theirs}]).to_string();
    let patch = [
        "patch",
        "httproute/web",
        "--namespace=ml",
        "--subresource=status",
        "--type=json",
        "--patch",
        &patch,
    ];
    kubectl.run(&patch)?;
    kubectl.apply(&route("HTTPRoute", "web", &split([90, 10])))?;
    let status = control
        .status("httproute/web", "the second generation", |status| {
            ours(status)[0]["observedGeneration"] == 2
        })
        .await?;
    let parents = status["parents"].as_array().context("no parents")?;
    assert!(parents.len() == 2 && parents.contains(&theirs), "{status}");
    control
        .service("ml/web", "its weights", |service| {
            backends(service) == [(v1.clone(), 90, true), (v2.clone(), 10, true)]
        })
        .await?;

    // What a namespace permits counts while it does, and what has nothing new said of it is not written.
    let version = || -> Result<Value> {
        Ok(kubectl.get(&["httproute/web", "--namespace=ml"])?["metadata"]["resourceVersion"].clone())
    };
    let before = version()?;
    kubectl.apply(GRANT)?;
    control
        .status("httproute/across", "the grant", |status| {
            says(status, ACCEPTED, RESOLVED)
        })
        .await?;
    let granted = [("other/web".to_owned(), 1, true)];
    control
        .service("ml/across", "its backend", |service| backends(service) == granted)
        .await?;
    kubectl.run(&["delete", "referencegrant/ml", "--namespace=other"])?;
    control
        .status("httproute/across", "no grant", |status| {
            says(status, ACCEPTED, "False RefNotPermitted")
        })
        .await?;
    assert_eq!(version()?, before);

    kubectl.run(&["delete", "httproute/web", "--namespace=ml"])?;
    control
        .service("ml/web", "no route", |service| service.route.is_none())
        .await
}
