//! The control plane reads Services, pods and the mesh's own objects as they change, and says on status what has come of them.

use anyhow::Result;
use mesh_api::route::Route;
use mesh_api::snapshot::Service;
use mesh_e2e::wait;

use crate::control::{Control, condition};

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: ml, annotations: {mesh.dev/mtls: strict}}
---
apiVersion: v1
kind: Service
metadata: {name: fraud, namespace: ml}
spec:
  clusterIP: None
  ports: [{name: http, port: 80, targetPort: 8000, appProtocol: mesh.dev/open-inference}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: ml}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Pod
metadata: {name: triton-0, namespace: ml, labels: {mesh.dev/proxy: 'true'}}
spec:
  serviceAccountName: triton
  automountServiceAccountToken: false
  containers: [{name: triton, image: triton, ports: [{name: http, containerPort: 8000}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: triton-1, namespace: ml}
spec:
  automountServiceAccountToken: false
  containers: [{name: triton, image: triton}]
";

const ROUTE: &str = "
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: fraud, namespace: ml}
spec:
  service: fraud
  rules:
  - name: all
    split:
      backends:
      - {name: stable, service: fraud, weight: 95}
      - {name: canary, service: fraud, weight: 5}
";

/// Whether each of the two endpoints is ready.
fn slice(ready: [bool; 2]) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: fraud-1, namespace: ml, labels: {{kubernetes.io/service-name: fraud}}}}
addressType: IPv4
ports: [{{name: http, port: 8000, protocol: TCP}}]
endpoints:
- {{addresses: [10.77.0.1], conditions: {{ready: {}}}, targetRef: {{kind: Pod, name: triton-0, namespace: ml}}}}
- {{addresses: [10.77.0.2], conditions: {{ready: {}}}, targetRef: {{kind: Pod, name: triton-1, namespace: ml}}}}
",
        ready[0], ready[1]
    )
}

/// Where a service is served, with the account of whoever is called in mutual TLS.
fn endpoints(service: &Service) -> Vec<String> {
    let endpoints = service.endpoints.iter().flat_map(|endpoint| {
        let account = endpoint
            .identity
            .as_ref()
            .map_or("-", |identity| identity.account.as_str());
        endpoint
            .addresses
            .values()
            .map(move |address| format!("{address} {account}"))
    });
    endpoints.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_read_as_they_change_and_their_status_is_written() -> Result<()> {
    let control = Control::start(&format!("{OBJECTS}---{}", slice([true, true]))).await?;
    let kubectl = control.kubectl();
    let both = ["10.77.0.1:8000 triton", "10.77.0.2:8000 -"];
    control
        .service("ml/fraud", "the service", |service| endpoints(service) == both)
        .await?;
    let view = control.view();
    assert!(view.service(&"ml/elsewhere".parse()?).is_none());
    assert!(
        view.identity(&"ml/triton-0".parse()?).is_some() && view.identity(&"ml/triton-1".parse()?).is_none()
    );

    // The mesh's own kinds come later.
    for kind in ["modelroutes", "trafficpolicies", "meshconfigs"] {
        let file = format!("{}/../charts/mesh/crds/{kind}.yaml", env!("CARGO_MANIFEST_DIR"));
        kubectl.apply(&std::fs::read_to_string(file)?)?;
    }
    wait::until("the kind", async || Ok(kubectl.apply(ROUTE).ok())).await?;
    let weights = |wanted: [u32; 2]| {
        move |service: &Service| {
            let backends = service.route.iter().flat_map(Route::backends);
            backends.map(|backend| backend.weight).eq(wanted)
        }
    };
    control.service("ml/fraud", "the route", weights([95, 5])).await?;
    let first = control
        .status("modelroute/fraud", "its status", |status| {
            status["weights"] == "stable=95 canary=5"
        })
        .await?;
    assert_eq!(condition(&first["conditions"], "Accepted")[0], "True");
    assert_eq!(condition(&first["conditions"], "ResolvedRefs")[0], "True");
    assert_eq!(
        (first["proxies"].as_str(), first["observedGeneration"].as_u64()),
        (Some("0/0"), Some(1))
    );

    kubectl.apply(&ROUTE.replace("95", "90").replace("weight: 5", "weight: 10"))?;
    control
        .service("ml/fraud", "other weights", weights([90, 10]))
        .await?;
    let second = control
        .status("modelroute/fraud", "their status", |status| {
            status["weights"] == "stable=90 canary=10"
        })
        .await?;
    assert!(
        second["version"].as_u64() > first["version"].as_u64(),
        "{first} {second}"
    );

    // What no schema can say is wrong is refused here, and what it said before holds.
    let bad = ROUTE.replace(
        "  - name: all",
        "  - name: all\n    matches: [{headers: {'not a name': x}}]",
    );
    kubectl.apply(&bad)?;
    let refused = control
        .status("modelroute/fraud", "why it is refused", |status| {
            condition(&status["conditions"], "Accepted")[0] == "False"
        })
        .await?;
    assert!(
        condition(&refused["conditions"], "Accepted")[2].contains("spec.rules[0].matches[0].headers"),
        "{refused}"
    );
    assert_eq!(
        (
            refused["weights"].as_str(),
            refused["observedGeneration"].as_u64()
        ),
        (Some("stable=90 canary=10"), Some(3))
    );
    control
        .service("ml/fraud", "the weights before", weights([90, 10]))
        .await?;

    // Endpoints, and pods that go before their slices say so.
    kubectl.apply(&slice([true, false]))?;
    control
        .service("ml/fraud", "one endpoint", |service| {
            endpoints(service) == both[..1]
        })
        .await?;
    kubectl.apply(&slice([true, true]))?;
    control
        .service("ml/fraud", "both", |service| endpoints(service) == both)
        .await?;
    kubectl.run(&[
        "delete",
        "pod",
        "triton-0",
        "-n",
        "ml",
        "--force",
        "--grace-period=0",
    ])?;
    control
        .service("ml/fraud", "the other", |service| endpoints(service) == both[1..])
        .await?;
    kubectl.run(&["delete", "modelroute", "fraud", "-n", "ml"])?;
    control
        .service("ml/fraud", "no route", |service| service.route.is_none())
        .await
}
