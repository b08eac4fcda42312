//! Acceptance: what is wrong is refused where it is written, and changes nothing when it gets past that; a pod gets no
//! certificate but its own.

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::Namespace;

use crate::mesh::{CLIENT, FRAUD, INJECT, Mesh, model};

/// A second ModelRoute about the same Service.
const SECOND: &str = "
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: second}
spec:
  service: fraud
  rules:
  - name: all
    split: {backends: [{name: other, service: fraud-v2, weight: 1}]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_refused_and_changes_nothing_when_it_gets_through() -> Result<()> {
    let mesh = Mesh::installed()?;
    Namespace::scenario("refused", &[INJECT], async |namespace| {
        let documents = model("fraud-v1", 1) + &model("fraud-v2", 1) + FRAUD + CLIENT;
        namespace.apply(&documents).await?;
        for deployment in ["fraud-v1", "fraud-v2"] {
            namespace.rolled_out(deployment).await?;
        }
        namespace.condition("pod/client", "Ready").await?;
        namespace.condition("modelroute/fraud", "Programmed").await?;
        let refused = namespace
            .apply(SECOND)
            .await
            .err()
            .context("the second route is taken")?;
        let refused = format!("{refused:#}");
        let object = format!("ModelRoute {}/second", namespace.name());
        for part in [object.as_str(), "spec.service", "already"] {
            ensure!(refused.contains(part), "{part:?} is not in {refused:?}");
        }

        // The same one gets through while nobody asks.
        mesh.cluster()
            .kubectl()
            .run(&["delete", "validatingwebhookconfiguration", "mesh-validate"])?;
        namespace.apply(SECOND).await?;
        mesh.install()?;
        let reason = namespace
            .until("the second route to be refused on its status", async || {
                let found = namespace.get("modelroute/second")?;
                let conditions = found["status"]["conditions"].as_array();
                let mut conditions = conditions.into_iter().flatten();
                let accepted = conditions.find(|condition| condition["type"] == "Accepted");
                let refused = accepted.filter(|accepted| accepted["status"] == "False");
                Ok(refused.map(|refused| refused["message"].to_string()))
            })
            .await?;
        ensure!(reason.contains("spec.service"), "{reason}");
        for _ in 0..20 {
            let ask = "curl --silent --fail --dump-header - http://fraud/v2/models/fraud/infer --data '{}'";
            let answered = namespace.exec("client", "client", &["sh", "-c", ask])?;
            ensure!(answered.contains("x-server: fraud-v1-"), "{answered}");
        }
        Ok(())
    })
    .await
}
