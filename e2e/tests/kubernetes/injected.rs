//! Acceptance: pods of an annotated namespace get a proxy, are ready with it, and what they send each other nobody on the
//! way can read; Jobs complete.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::{Capture, Namespace};

use crate::mesh::{CLIENT, INJECT, Mesh, model};

/// The first bytes of a TLS handshake (RFC 8446, §5.1).
const HANDSHAKE: [u8; 2] = [22, 3];

/// How many containers of a pod are ready, native sidecars among them, of how many.
fn ready(namespace: &Namespace, pod: &str) -> Result<String> {
    let line = namespace.kubectl().run(&["get", "pod", pod, "--no-headers"])?;
    let column = line.split_whitespace().nth(1);
    Ok(column.context("kubectl prints no READY")?.to_owned())
}

fn address(namespace: &Namespace, pod: &str) -> Result<Ipv4Addr> {
    let found = namespace.get(&format!("pod/{pod}"))?;
    Ok(found["status"]["podIP"]
        .as_str()
        .context("it has no address")?
        .parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_injected_pods_say_is_not_read_on_the_way() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("injected", &[INJECT], async |namespace| {
        namespace.apply(&(model("fraud", 2) + CLIENT)).await?;
        namespace.condition("pod/client", "Ready").await?;
        namespace.rolled_out("fraud").await?;
        let pods = namespace.pods("app=fraud")?;
        for pod in pods.iter().map(String::as_str).chain(["client"]) {
            let ready = ready(namespace, pod)?;
            ensure!(ready == "2/2", "{pod} has {ready} containers ready");
        }
        let command = "curl --silent --show-error --fail --max-time 10 http://fraud/v2/models/aBcDeFgH/infer --data '{}'";
        let ask = || namespace.exec("client", "client", &["sh", "-c", command]);
        let capture = if namespace.cluster().is_own() { Some(Capture::start()?) } else { None };
        for _ in 0..10 {
            ask()?;
        }
        let Some(capture) = capture else {
            eprintln!("SKIPPED: packets are seen on this machine's own cluster alone");
            return Ok(());
        };
        let client = address(namespace, "client")?;
        let servers = pods.iter().map(|pod| address(namespace, pod));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let seen = capture.end()?;
        // What kubectl says to the node's programs is of no interest, and has the path in it.
        let is_ours = |address: Ipv4Addr| address == client || servers.contains(&address);
        let ours = seen.iter().filter(|segment| is_ours(segment.from.0) || is_ours(segment.to.0));
        let ours: Vec<_> = ours.map(|segment| &segment.payload).collect();
        ensure!(
            ours.iter().any(|payload| payload.starts_with(&HANDSHAKE)),
            "no handshake in {} segments",
            ours.len()
        );
        let is_read =
            |needle: &[u8]| ours.iter().any(|payload| payload.windows(needle.len()).any(|bytes| bytes == needle));
        ensure!(!is_read(b"aBcDeFgH"), "the path of a request is read on the way");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_calls_a_service_in_its_first_moment_and_completes() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("job", &[INJECT], async |namespace| {
        let job = "
apiVersion: batch/v1
kind: Job
metadata: {name: batch}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: work
        image: mesh.local/client:e2e
        imagePullPolicy: IfNotPresent
        args: ['curl --fail --silent --show-error http://fraud/v2/models/fraud/infer --data {} && echo done']
";
        namespace.apply(&model("fraud", 1)).await?;
        namespace.rolled_out("fraud").await?;
        namespace.apply(job).await?;
        namespace.condition("job/batch", "Complete").await?;
        let pod = namespace.pod("job-name=batch")?;
        ensure!(namespace.logs(&pod, "work")?.ends_with("done\n"));
        Ok(())
    })
    .await
}
