//! Acceptance: people, GitOps tools and `meshctl split` write the same ModelRoute, and each knows what is whose.

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::Namespace;

use crate::load;
use crate::mesh::{FRAUD, INJECT, Mesh, model};

/// A ModelRoute as a repository has it that leaves the weights to others, and wants a timeout.
fn without_weights() -> Result<String> {
    let route = FRAUD.split("---").nth(1).context("FRAUD has a route")?;
    let route = route.replace(", weight: 100", "").replace(", weight: 0", "");
    Ok(route.replace(
        "  - name: canary\n",
        "  - name: canary\n    timeouts: {total: 30s}\n",
    ))
}

/// `kubectl apply --server-side`, as a tool with this name.
fn applied_as(namespace: &Namespace, manager: &str, documents: &str) -> Result<String> {
    let manager = format!("--field-manager={manager}");
    let apply = ["apply", "--server-side", &manager, "--filename", "-"];
    namespace.kubectl().run_with(&apply, documents)
}

/// A row of `kubectl get modelroutes`, once it has this in it.
async fn shown(namespace: &Namespace, part: &str) -> Result<String> {
    namespace
        .until(&format!("kubectl get to show {part:?}"), async || {
            let row = namespace.kubectl().run(&["get", "modelroutes", "fraud"])?;
            Ok(row.contains(part).then_some(row))
        })
        .await
}

fn refused(what: Result<String>) -> Result<String> {
    let error = what.err().context("it is not refused")?;
    Ok(format!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_have_one_owner_at_a_time() -> Result<()> {
    let mesh = Mesh::installed()?;
    Namespace::scenario("hands", &[INJECT], async |namespace| {
        let split = |weights: &[&str], more: &[&str]| {
            let mut arguments = vec!["split", "fraud"];
            arguments.extend(weights);
            arguments.extend(["--namespace", namespace.name()]);
            arguments.extend(more);
            mesh.meshctl(&arguments)
        };
        // A Deployment and a Service `fraud` for the load, which the route then leads to two others.
        let documents = model("fraud-v1", 1) + &model("fraud-v2", 1) + &model("fraud", 1);
        let route = FRAUD.split("---").nth(1).context("FRAUD has a route")?;
        load::on_fraud(namespace, &documents).await?;
        namespace.apply(route).await?;
        let row = shown(namespace, "stable=100 canary=0").await?;
        ensure!(row.contains("PROXIES"), "{row}");
        shown(namespace, "1/1").await?;

        // What kubectl has set is taken over when that is said, and not before.
        let said = refused(split(&["stable=90", "canary=10"], &[]))?;
        ensure!(said.contains("kubectl-client-side-apply"), "{said}");
        split(&["stable=90", "canary=10"], &["--force-conflicts"])?;
        shown(namespace, "stable=90 canary=10").await?;

        // Who leaves the weights out changes the rest, and takes nothing back.
        applied_as(namespace, "gitops", &without_weights()?)?;
        let found = namespace.get("modelroute/fraud")?;
        ensure!(
            found["spec"]["rules"][0]["timeouts"]["total"] == "30s",
            "{}",
            found["spec"]
        );
        shown(namespace, "stable=90 canary=10").await?;
        // Who has them in is told whose they are.
        let said = refused(applied_as(namespace, "gitops", route))?;
        ensure!(said.contains("meshctl-split"), "{said}");
        split(&["stable=50", "canary=50"], &[])?;
        split(&["undo"], &[])?;
        let row = shown(namespace, "stable=90 canary=10").await?;
        let found = namespace.get("modelroute/fraud")?;
        ensure!(found["spec"]["rules"][0]["timeouts"]["total"] == "30s", "{row}");
        crate::mesh::Counts::newest(namespace)?.without_failure()
    })
    .await
}
