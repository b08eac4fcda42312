//! Acceptance: weights move from 0 to 100 under load, each as it was said and without a failure, also while the control
//! plane is killed.

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::Namespace;

use crate::mesh::{Counts, FRAUD, INJECT, LOAD, Mesh, SYSTEM, model};

/// How many requests a share is judged by.
const SAMPLE: u64 = 1500;

async fn start(namespace: &Namespace) -> Result<Counts> {
    let documents = model("fraud-v1", 1) + &model("fraud-v2", 1) + FRAUD;
    namespace.apply(&documents).await?;
    for deployment in ["fraud-v1", "fraud-v2"] {
        namespace.rolled_out(deployment).await?;
    }
    namespace.condition("modelroute/fraud", "Accepted").await?;
    namespace.apply(LOAD).await?;
    namespace.condition("pod/load", "Ready").await?;
    namespace
        .until("the first requests", async || {
            Ok(Counts::newest(namespace).ok().filter(|counts| counts.done() > 0))
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_moves_under_load_without_a_failure() -> Result<()> {
    let mesh = Mesh::installed()?;
    Namespace::scenario("split", &[INJECT], async |namespace| {
        start(namespace).await?;
        for percent in [0_u32, 5, 50, 100] {
            let (stable, canary) = (format!("stable={}", 100 - percent), format!("canary={percent}"));
            let said = mesh.meshctl(&[
                "split",
                "fraud",
                &stable,
                &canary,
                "--namespace",
                namespace.name(),
                "--force-conflicts",
            ])?;
            // What the load counts next was sent after every proxy had the weights.
            let from = Counts::newest(namespace)?.after(namespace, 20).await?;
            let to = from.after(namespace, SAMPLE).await?;
            let of = |deployment: &str| to.by(deployment) - from.by(deployment);
            let all = (of("fraud-v1") + of("fraud-v2")) as f64;
            let (share, expected) = (of("fraud-v2") as f64 / all, f64::from(percent) / 100.0);
            let deviation = (expected * (1.0 - expected) / all).sqrt();
            ensure!(
                (share - expected).abs() <= 3.0 * deviation,
                "{percent} % was asked for, and {:.1} % of {all} requests came; meshctl said: {said}",
                share * 100.0
            );
            let weights = namespace.kubectl().run(&["get", "modelroute", "fraud"])?;
            let shown = weights.contains(&stable) && weights.contains(&canary);
            ensure!(shown, "kubectl get shows other weights: {weights}");
        }
        Counts::newest(namespace)?.without_failure()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_the_control_plane_is_killed() -> Result<()> {
    let mesh = Mesh::installed()?;
    Namespace::scenario("killed", &[INJECT], async |namespace| {
        let mut counts = start(namespace).await?;
        let system = mesh.cluster().kubectl().within(SYSTEM);
        for _ in 0..2 {
            let kill = [
                "delete",
                "pods",
                "--selector=app.kubernetes.io/name=mesh-control",
                "--grace-period=0",
                "--force",
            ];
            system.run(&kill)?;
            counts = counts.after(namespace, 500).await?;
            system.run(&["rollout", "status", "deployment/mesh-control", "--timeout=120s"])?;
            counts = counts.after(namespace, 500).await?;
        }
        // The new one is listened to.
        let arguments = [
            "split",
            "fraud",
            "stable=0",
            "canary=100",
            "--namespace",
            namespace.name(),
            "--force-conflicts",
        ];
        mesh.meshctl(&arguments)?;
        let from = Counts::newest(namespace)?.after(namespace, 50).await?;
        let to = from.after(namespace, 200).await?;
        ensure!(to.by("fraud-v1") == from.by("fraud-v1"), "{from:?} {to:?}");
        to.without_failure()
    })
    .await
}
