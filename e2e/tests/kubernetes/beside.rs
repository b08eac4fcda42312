//! Acceptance: what a sidecar must never do to its pod: fail its first request, or its probes, or go when it crashes.

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::Namespace;

use crate::mesh::{CLIENT, INJECT, Mesh, model};

/// Pods whose very first act is a request, in an init container and in the container of their own.
const HASTY: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: hasty}
spec:
  completions: 8
  parallelism: 4
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
      - name: init
        image: mesh.local/client:e2e
        imagePullPolicy: IfNotPresent
        command: [/usr/bin/curl]
        args: ASKS
      containers:
      - name: work
        image: mesh.local/client:e2e
        imagePullPolicy: IfNotPresent
        command: [/usr/bin/curl]
        args: ASKS
";

/// What curl is told.
const ASKS: &str =
    "[--fail, --silent, --show-error, --max-time, '30', --data, '{}', 'http://fraud/v2/models/fraud/infer']";

/// A pod of which one container is for ever started again.
const CRASHING: &str = "
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: client, image: 'mesh.local/client:e2e', imagePullPolicy: IfNotPresent, args: [sleep 3600]}
  - {name: crash, image: 'mesh.local/client:e2e', imagePullPolicy: IfNotPresent, args: [exit 1]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_act_of_a_pod_may_be_a_request() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("hasty", &[INJECT], async |namespace| {
        namespace.apply(&model("fraud", 2)).await?;
        namespace.rolled_out("fraud").await?;
        namespace.apply(&HASTY.replace("ASKS", ASKS)).await?;
        namespace
            .until("the Job to be over", async || {
                let status = namespace.get("job/hasty")?["status"].clone();
                ensure!(status["failed"].as_u64().unwrap_or_default() == 0, "{status}");
                Ok((status["succeeded"] == 8).then_some(()))
            })
            .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_pod_is_ready_and_refuses_strangers() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("strict", &[INJECT], async |namespace| {
        let strict = model("fraud", 1).replace(
            "    metadata: {labels: {app: fraud, role: model}}",
            "    metadata: {labels: {app: fraud, role: model}, annotations: {mesh.dev/mtls: strict}}",
        );
        let stranger = CLIENT.replace(
            "{name: client}",
            "{name: stranger, labels: {mesh.dev/inject: disabled}}",
        );
        namespace.apply(&(strict + CLIENT + &stranger)).await?;
        // The kubelet has no identity, and its probe passes all the same.
        namespace.rolled_out("fraud").await?;
        for pod in ["client", "stranger"] {
            namespace.condition(&format!("pod/{pod}"), "Ready").await?;
        }
        let ask =
            "curl --silent --show-error --fail --max-time 10 http://fraud/v2/models/fraud/infer --data '{}'";
        namespace.exec("client", "client", &["sh", "-c", ask])?;
        let stranger = namespace.exec("stranger", "client", &["sh", "-c", ask]);
        ensure!(stranger.is_err(), "a stranger is answered: {stranger:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashing_container_leaves_its_proxy_up() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("crashing", &[INJECT], async |namespace| {
        namespace.apply(&(model("fraud", 1) + CRASHING)).await?;
        namespace.rolled_out("fraud").await?;
        let statuses = |kind: &str, name: &str| {
            let pod = namespace.get("pod/crashing")?;
            let statuses = pod["status"][kind].as_array().cloned().unwrap_or_default();
            let found = statuses.into_iter().find(|status| status["name"] == name);
            anyhow::Ok(found.unwrap_or_default())
        };
        namespace
            .until("two crashes", async || {
                let restarts = statuses("containerStatuses", "crash")?["restartCount"].as_u64();
                Ok((restarts.unwrap_or_default() >= 2).then_some(()))
            })
            .await?;
        let proxy = statuses("initContainerStatuses", "mesh-proxy")?;
        ensure!(proxy["restartCount"] == 0 && proxy["ready"] == true, "{proxy}");
        let ask = "curl --silent --show-error --fail http://fraud/v2/models/fraud/infer --data '{}'";
        namespace.exec("crashing", "client", &["sh", "-c", ask])?;
        Ok(())
    })
    .await
}
