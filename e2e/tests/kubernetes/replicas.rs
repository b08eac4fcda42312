//! Acceptance: several replicas serve, and the status of an object tells of the proxies of all of them.

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::Namespace;
use serde_json::Value;

use crate::mesh::{FRAUD, INJECT, Mesh, SYSTEM, model};

/// How many pods call the Service.
const CALLERS: u32 = 6;

/// Pods that put a little load on the Service `fraud`.
fn callers() -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: callers}}
spec:
  replicas: {CALLERS}
  selector: {{matchLabels: {{app: callers}}}}
  template:
    metadata: {{labels: {{app: callers}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: load
        image: mesh.local/model:e2e
        imagePullPolicy: IfNotPresent
        command: [/usr/local/bin/model-client]
        args: ['fraud:80', '--path=/v2/models/fraud/infer', '--body={{}}', '--clients=1', '--pause=100']
"
    )
}

/// Waits until the route's status says of its present generation that all callers serve it.
async fn served_by_all(namespace: &Namespace) -> Result<Value> {
    let wanted = format!("{CALLERS}/{CALLERS}");
    namespace
        .until("all callers to serve the route", async || {
            let route = namespace.kubectl().get(&["modelroute", "fraud"])?;
            let status = &route["status"];
            let current = status["observedGeneration"] == route["metadata"]["generation"];
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let mut programmed = conditions.filter(|it| it["type"] == "Programmed");
            let programmed = programmed.all(|it| it["status"] == "True");
            Ok((current && programmed && status["proxies"] == wanted.as_str()).then_some(route))
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_tells_of_the_proxies_of_all_replicas() -> Result<()> {
    let mesh = Mesh::installed()?;
    let system = mesh.cluster().kubectl().within(SYSTEM);
    let scale = |replicas: &str| -> Result<()> {
        system.run(&["scale", "deployment/mesh-control", "--replicas", replicas])?;
        system.run(&["rollout", "status", "deployment/mesh-control", "--timeout=120s"])?;
        Ok(())
    };
    let before = system.get(&["deployment", "mesh-control"])?["spec"]["replicas"].to_string();
    scale("3")?;
    let shown = Namespace::scenario("replicas", &[INJECT], async |namespace| {
        namespace
            .apply(&(model("fraud-v1", 1) + &model("fraud-v2", 1) + FRAUD + &callers()))
            .await?;
        for deployment in ["fraud-v1", "fraud-v2", "callers"] {
            namespace.rolled_out(deployment).await?;
        }
        served_by_all(namespace).await?;
        let split = [
            "split",
            "fraud",
            "stable=50",
            "canary=50",
            "--force-conflicts",
            "--namespace",
        ];
        mesh.meshctl(&[&split[..], &[namespace.name()]].concat())?;
        let route = served_by_all(namespace).await?;
        ensure!(route["status"]["weights"] == "stable=50 canary=50", "{route}");
        // What is left of the replicas that go is counted once, where it goes.
        scale("1")?;
        served_by_all(namespace).await?;
        namespace
            .until("what replicas that are gone told to be gone, too", async || {
                let told = system.get(&["configmap", "mesh-replicas"])?;
                let told = told["data"].as_object().map_or(0, serde_json::Map::len);
                Ok((told <= 1).then_some(()))
            })
            .await
    })
    .await;
    scale(&before)?;
    shown
}
