//! What a cluster does without a mesh, and what the scenarios here stand on: names, Services, exec, logs, forwarded
//! ports, and packets seen on the node.

use anyhow::{Result, ensure};
use mesh_e2e::client;
use mesh_e2e::kubernetes::{ApiServer, Capture, Cluster, Image, Namespace};
use mesh_e2e::net::local;
use mesh_e2e::wait;

/// A client, and two servers behind a Service.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: client, image: 'mesh.local/client:e2e', imagePullPolicy: IfNotPresent, args: [echo began; sleep 3600]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: model}
spec:
  replicas: 2
  selector: {matchLabels: {app: model}}
  template:
    metadata: {labels: {app: model}}
    spec:
      containers:
      - name: model
        image: mesh.local/model:e2e
        imagePullPolicy: IfNotPresent
        args: ['8080']
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: model}
spec: {selector: {app: model}, ports: [{port: 80, targetPort: 8080}]}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_finds_a_service_by_its_name_and_reaches_every_pod_behind_it() -> Result<()> {
    Cluster::shared()?.load(&[Image::Client, Image::Model])?;
    Namespace::scenario("pods", &[], async |namespace| {
        namespace.apply(PODS).await?;
        namespace.condition("pod/client", "Ready").await?;
        namespace.rolled_out("model").await?;
        let url = format!("http://model.{}.svc.cluster.local/x", namespace.name());
        let ask = |url: &str| {
            let command = [
                "curl",
                "--silent",
                "--dump-header",
                "-",
                "--output",
                "/dev/null",
                url,
            ];
            namespace.exec("client", "client", &command)
        };
        let capture = if namespace.cluster().is_own() {
            Some(Capture::start()?)
        } else {
            None
        };
        for url in [url.as_str(), "http://model/x"] {
            let answered = namespace
                .until(&format!("an answer of {url}"), async || Ok(ask(url).ok()))
                .await?;
            ensure!(answered.starts_with("HTTP/1.1 200"), "{url}: {answered}");
        }
        let pods = namespace.pods("app=model")?;
        namespace
            .until("an answer of every pod", async || {
                let mut waited_for = pods.clone();
                for _ in 0..20 {
                    let answered = ask("http://model/x")?;
                    waited_for.retain(|pod| !answered.contains(pod.as_str()));
                }
                Ok(waited_for.is_empty().then_some(()))
            })
            .await?;
        // Without a mesh everybody on the way can read it, which is what shows that looking works.
        match capture {
            Some(capture) => {
                let seen = capture.end()?;
                let plain = |needle: &[u8]| {
                    let mut payloads = seen.iter().map(|segment| &segment.payload);
                    payloads.any(|payload| payload.windows(needle.len()).any(|bytes| bytes == needle))
                };
                ensure!(
                    plain(b"GET /x HTTP/1.1"),
                    "{} segments, and no request",
                    seen.len()
                );
                ensure!(!plain(b"GET /y HTTP/1.1"));
            }
            None => eprintln!("SKIPPED: packets are seen on this machine's own cluster alone"),
        }

        ensure!(namespace.logs("client", "client")? == "began\n");
        let forward = namespace.port_forward("service/model", 80)?;
        let answer = client::get(local(forward.port()), "/x").await?.success()?;
        ensure!(pods.iter().any(|pod| pod == answer.server()), "{answer:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_alone_keeps_objects() -> Result<()> {
    let server = ApiServer::start().await?;
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {b: c}}";
    server.kubectl().apply(map)?;
    wait::until("the ConfigMap", async || {
        let found = server.kubectl().get(&["configmap", "a"])?;
        Ok((found["data"]["b"] == "c").then_some(()))
    })
    .await
}
