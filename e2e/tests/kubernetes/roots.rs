//! Acceptance: the root of trust is replaced under load, step by step, and no request fails.

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::Namespace;

use crate::load;
use crate::mesh::{CLIENT, Counts, INJECT, Mesh, model};

/// The roots that proxies of a namespace are given.
fn roots(namespace: &Namespace) -> Result<Vec<String>> {
    let found = namespace.get("configmap/mesh-trust-bundle")?;
    let bundle = found["data"]["roots.pem"]
        .as_str()
        .context("it has no roots.pem")?;
    let roots = bundle.split_inclusive("-----END CERTIFICATE-----");
    let roots = roots.map(str::trim).filter(|root| !root.is_empty());
    Ok(roots.map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_the_root_is_replaced() -> Result<()> {
    let mesh = Mesh::installed()?;
    Namespace::scenario("roots", &[INJECT], async |namespace| {
        load::on_fraud(namespace, &model("fraud", 2)).await?;
        let before = roots(namespace)?;
        ensure!(before.len() == 1, "a rotation is under way");
        mesh.meshctl(&["rotate"])?;
        for (phase, told, count) in [
            ("distributing", "trust the next root", 2),
            ("renewing", "have a certificate of the next root", 2),
            ("", "", 1),
        ] {
            let said = namespace
                .until(&format!("the rotation to be {phase:?}"), async || {
                    Counts::newest(namespace)?.without_failure()?;
                    // A proxy that is behind for a moment is no failure of the rotation.
                    let Ok(said) = mesh.meshctl(&["check"]) else {
                        return Ok(None);
                    };
                    let is_there = match phase {
                        "" => !said.contains("the root is being replaced"),
                        phase => said.contains(&format!("the root is being replaced ({phase})")),
                    };
                    Ok(is_there.then_some(said))
                })
                .await?;
            ensure!(said.contains(told), "{said}");
            namespace
                .until(&format!("{count} roots"), async || {
                    Ok((roots(namespace)?.len() == count).then_some(()))
                })
                .await?;
        }
        let after = roots(namespace)?;
        ensure!(after != before, "the root is the old one");

        // Whoever comes now knows the new root alone, and talks to those who were there before.
        namespace.apply(CLIENT).await?;
        namespace.condition("pod/client", "Ready").await?;
        let ask = "curl --silent --show-error --fail http://fraud/v2/models/fraud/infer --data '{}'";
        namespace.exec("client", "client", &["sh", "-c", ask])?;
        // Those open new connections, too, and new pods answer them.
        namespace
            .kubectl()
            .run(&["rollout", "restart", "deployment/fraud"])?;
        namespace.rolled_out("fraud").await?;
        load::all_answer(namespace, 2).await?.without_failure()?;
        mesh.meshctl(&["check"]).map(drop)
    })
    .await
}
