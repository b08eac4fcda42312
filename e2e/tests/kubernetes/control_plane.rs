//! Acceptance: the control plane is rolled, and killed outright, under load; no request fails, and the new one is listened
//! to.

use anyhow::{Context as _, Result};
use mesh_e2e::kubernetes::Namespace;
use serde_json::Value;

use crate::load;
use crate::mesh::{INJECT, Mesh, SYSTEM, model};

/// The pods of the control plane.
const CONTROL: &str = "app.kubernetes.io/name=mesh-control";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_the_control_plane_is_rolled_and_killed() -> Result<()> {
    let mesh = Mesh::installed()?;
    let system = mesh.cluster().kubectl().within(SYSTEM);
    Namespace::scenario("rolled", &[INJECT], async |namespace| {
        let mut counts = load::on_fraud(namespace, &model("fraud", 2)).await?;
        system.run(&["rollout", "restart", "deployment/mesh-control"])?;
        counts = counts.after(namespace, 200).await?;
        system.run(&["rollout", "status", "deployment/mesh-control", "--timeout=120s"])?;
        counts = counts.after(namespace, 500).await?;

        if mesh.cluster().is_own() {
            let pods = system.get(&["pods", "--selector", CONTROL])?;
            let mut pods = pods["items"].as_array().into_iter().flatten();
            let pod = pods.find(|pod| pod["metadata"]["deletionTimestamp"].is_null());
            let pod = pod.context("no replica runs")?;
            let name = pod["metadata"]["name"].as_str().context("it has no name")?;
            let uid = pod["metadata"]["uid"].as_str().context("it has no UID")?;
            let restarts = restarted(pod);
            mesh.cluster().kill(uid, "mesh-control")?;
            counts = counts.after(namespace, 500).await?;
            namespace
                .until("the control plane to be started again", async || {
                    let pod = system.get(&["pod", name])?;
                    let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
                    Ok((ready && restarted(&pod) > restarts).then_some(()))
                })
                .await?;
        } else {
            eprintln!("SKIPPED: processes are killed on this machine's own cluster alone");
        }

        // Proxies hear of new pods by the one that is there now.
        namespace
            .kubectl()
            .run(&["rollout", "restart", "deployment/fraud"])?;
        namespace.rolled_out("fraud").await?;
        load::all_answer(namespace, 2).await?;
        counts.after(namespace, 500).await?.without_failure()
    })
    .await
}

/// How often the one container of a pod was started again.
fn restarted(pod: &Value) -> u64 {
    let status = &pod["status"]["containerStatuses"][0];
    status["restartCount"].as_u64().unwrap_or_default()
}
