//! Acceptance: the control plane is upgraded under load, also by a command that is interrupted; then the workloads are named
//! whose proxies are of an older release, until they have been restarted.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_api::inject::INJECTED;
use mesh_e2e::kubernetes::Namespace;

use crate::load;
use crate::mesh::{INJECT, Mesh, SYSTEM, model};

/// What the proxy of an older release says.
const OLDER: &str = "0.0.9";
/// A value that makes pods of the control plane others than they were.
const CHANGED: &str = "control.podAnnotations.example\\.com/change";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_an_upgrade_and_older_proxies_are_named() -> Result<()> {
    let mesh = Mesh::installed()?;
    let system = mesh.cluster().kubectl().within(SYSTEM);
    let generation = || -> Result<String> {
        let deployment = system.get(&["deployment", "mesh-control"])?;
        Ok(deployment["metadata"]["generation"].to_string())
    };
    Namespace::scenario("upgraded", &[INJECT], async |namespace| {
        let mut counts = load::on_fraud(namespace, &model("fraud", 2)).await?;
        let older = format!("{INJECTED}={OLDER}");
        let annotate = ["annotate", "pods", "--selector=app=fraud", "--overwrite", &older];
        namespace.kubectl().run(&annotate)?;

        let before = generation()?;
        let change = format!("{CHANGED}={}", namespace.name());
        let mut interrupted = mesh.command(&["upgrade", "--set", &change])?.spawn()?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        interrupted.kill()?;
        interrupted.wait()?;
        let told = mesh.meshctl(&["upgrade", "--set", &change])?;
        ensure!(generation()? != before, "the control plane is what it was");
        let mut lines = told.lines().filter(|line| line.contains(OLDER));
        let named = format!("{}/deployment/fraud", namespace.name());
        ensure!(
            lines.any(|line| line.contains(&named)),
            "{named} is not named: {told}"
        );
        counts = counts.after(namespace, 500).await?;

        namespace
            .kubectl()
            .run(&["rollout", "restart", "deployment/fraud"])?;
        namespace.rolled_out("fraud").await?;
        load::all_answer(namespace, 2).await?;
        let told = mesh.meshctl(&["upgrade"])?;
        ensure!(!told.contains(OLDER), "{told}");
        counts.after(namespace, 200).await?.without_failure()
    })
    .await
}
