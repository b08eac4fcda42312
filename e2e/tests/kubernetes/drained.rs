//! Acceptance: a node is drained under load, and no request fails.

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::{Kubectl, Namespace};

use crate::load;
use crate::mesh::{INJECT, Mesh, model};

/// A node that takes no pods, until this value is dropped.
struct Cordoned {
    kubectl: Kubectl,
    node: String,
}

impl Drop for Cordoned {
    fn drop(&mut self) {
        if let Err(error) = self.kubectl.run(&["uncordon", &self.node]) {
            eprintln!("{error:#}");
        }
    }
}

/// The nodes that pods with this label are on.
fn nodes(namespace: &Namespace, label: &str) -> Result<Vec<String>> {
    let found = namespace.kubectl().get(&["pods", "--selector", label])?;
    let pods = found["items"].as_array().context("a list has no items")?;
    let nodes = pods
        .iter()
        .map(|pod| pod["spec"]["nodeName"].as_str().context("a pod has no node"));
    Ok(nodes
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .map(str::to_owned)
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_a_node_is_drained() -> Result<()> {
    let mesh = Mesh::installed()?;
    mesh.cluster().nodes(2)?;
    Namespace::scenario("drained", &[INJECT], async |namespace| {
        // As many on the one node as on the other; one that takes none does not count.
        let spread = "    spec:
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        nodeTaintsPolicy: Honor
        labelSelector: {matchLabels: {app: fraud}}
      containers:";
        let documents = model("fraud", 4).replace("    spec:\n      containers:", spread);
        let counts = load::on_fraud(namespace, &documents).await?;
        let load = namespace.get("pod/load")?;
        let stays = load["spec"]["nodeName"].as_str().context("the load is nowhere")?;
        let before = nodes(namespace, "app=fraud")?;
        let goes = before.iter().find(|node| *node != stays);
        let goes = goes.with_context(|| format!("all pods are on {stays}"))?;
        let counts = counts.after(namespace, 500).await?;

        let kubectl = mesh.cluster().kubectl().clone();
        let cordoned = Cordoned {
            kubectl,
            node: goes.clone(),
        };
        let drain = [
            "drain",
            goes,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--timeout=170s",
        ];
        mesh.cluster().kubectl().run(&drain)?;
        namespace.rolled_out("fraud").await?;
        let after = nodes(namespace, "app=fraud")?;
        ensure!(
            !after.contains(goes),
            "{goes} is drained, and pods are on {after:?}"
        );
        let counts = counts.after(namespace, 500).await?;
        drop(cordoned);
        counts.without_failure()
    })
    .await
}
