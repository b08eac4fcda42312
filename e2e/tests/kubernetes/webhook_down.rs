//! Acceptance: while nobody answers the webhooks, pods that run and pods that ask for nothing notice nothing, those that ask
//! for a proxy wait, and come when it is over (docs/injection.md, "When the webhook is down").

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::{Kubectl, Namespace};

use crate::load;
use crate::mesh::{CLIENT, INJECT, Mesh, SYSTEM, model};

/// No control plane, until this value is dropped.
struct Down(Kubectl);

impl Down {
    async fn now(namespace: &Namespace, system: Kubectl) -> Result<Self> {
        system.run(&["scale", "deployment/mesh-control", "--replicas=0"])?;
        let down = Self(system);
        namespace
            .until("the control plane to be gone", async || {
                let there = down.0.run(&["get", "pods", "--output", "name"])?;
                Ok((!there.contains("mesh-control")).then_some(()))
            })
            .await?;
        Ok(down)
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        if let Err(error) = self.0.run(&["scale", "deployment/mesh-control", "--replicas=1"]) {
            eprintln!("{error:#}");
        }
    }
}

/// The containers of a pod that run beside its own.
fn sidecars(namespace: &Namespace, pod: &str) -> Result<String> {
    let names = "jsonpath={.spec.initContainers[*].name}";
    namespace.kubectl().run(&["get", "pod", pod, "--output", names])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_wait_for_their_proxy_while_the_webhook_is_down_and_others_do_not() -> Result<()> {
    let mesh = Mesh::installed()?;
    let system = mesh.cluster().kubectl().within(SYSTEM);
    Namespace::scenario("waiting", &[INJECT], async |namespace| {
        let counts = load::on_fraud(namespace, &model("fraud", 1)).await?;
        let down = Down::now(namespace, system.clone()).await?;

        // By its namespace's label: it waits, and its events say for what.
        namespace.apply(&model("late", 1)).await?;
        namespace
            .until("the reason why there is no pod", async || {
                let events = namespace.kubectl().run(&["get", "events"])?;
                let reason = "failed calling webhook \"namespace.inject.mesh.dev\"";
                Ok(events.contains(reason).then_some(()))
            })
            .await?;
        ensure!(
            namespace.pods("app=late")?.is_empty(),
            "a pod was made without its proxy"
        );

        // Who asks for nothing gets nothing, and at once.
        let without = CLIENT.replace(
            "{name: client}",
            "{name: without, labels: {mesh.dev/inject: disabled}}",
        );
        namespace.apply(&without).await?;
        namespace.condition("pod/without", "Ready").await?;
        ensure!(sidecars(namespace, "without")?.is_empty());

        // By annotation, which no selector of webhooks can see: made without a proxy.
        Namespace::scenario("annotated", &[], async |other| {
            let asks = CLIENT.replace(
                "{name: client}",
                "{name: client, annotations: {mesh.dev/inject: enabled}}",
            );
            other.apply(&asks).await?;
            other.condition("pod/client", "Ready").await?;
            ensure!(sidecars(other, "client")?.is_empty());
            // By its own label: refused, because nobody can say what it would be.
            let asks = CLIENT.replace(
                "{name: client}",
                "{name: labelled, labels: {mesh.dev/inject: enabled}}",
            );
            let refused = other.apply(&asks).await.err();
            let refused = refused.map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(
                refused.contains("failed calling webhook \"pod.inject.mesh.dev\""),
                "{refused:?}"
            );
            Ok(())
        })
        .await?;
        let counts = counts.after(namespace, 500).await?;

        drop(down);
        namespace.rolled_out("late").await?;
        let late = namespace.pod("app=late")?;
        ensure!(sidecars(namespace, &late)?.contains("mesh-proxy"));
        counts.after(namespace, 200).await?.without_failure()
    })
    .await
}
