//! What an injected pod stands on, written out by hand: native sidecars, and rules of interception that a container with
//! one right more than none writes.

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::{Cluster, Image, Namespace};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_completes_beside_a_sidecar() -> Result<()> {
    Cluster::shared()?.load(&[Image::Client, Image::Model])?;
    Namespace::scenario("job", &[], async |namespace| {
        let job = "
apiVersion: batch/v1
kind: Job
metadata: {name: batch}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
      - name: sidecar
        image: mesh.local/model:e2e
        imagePullPolicy: IfNotPresent
        args: ['8080']
        restartPolicy: Always
        startupProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
      containers:
      - name: work
        image: mesh.local/client:e2e
        imagePullPolicy: IfNotPresent
        args: ['curl --fail --silent --show-error http://127.0.0.1:8080/x && echo done']
";
        namespace.apply(job).await?;
        // The sidecar was there before the work began, and is no reason to go on.
        namespace.condition("job/batch", "Complete").await?;
        let pod = namespace.pod("job-name=batch")?;
        ensure!(namespace.logs(&pod, "work")?.ends_with("done\n"));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_container_of_our_image_writes_the_rules() -> Result<()> {
    Cluster::shared()?.load(&[Image::Client, Image::Proxy])?;
    Namespace::scenario("rules", &[], async |namespace| {
        let pod = "
apiVersion: v1
kind: Pod
metadata: {name: meshed}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: mesh-init
    image: mesh.local/mesh-proxy:VERSION
    imagePullPolicy: IfNotPresent
    args: [init, --proxy-uid=2102]
    securityContext:
      runAsUser: 0
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL], add: [NET_ADMIN]}
  containers:
  # In the place of the sidecar: whatever is called, what listens at the port of interception answers.
  - name: sidecar
    image: mesh.local/model:e2e
    imagePullPolicy: IfNotPresent
    args: ['15001']
    securityContext: {runAsUser: 2102}
  - name: client
    image: mesh.local/client:e2e
    imagePullPolicy: IfNotPresent
    args: [sleep 3600]
";
        namespace.cluster().load(&[Image::Model])?;
        let pod = pod.replace("VERSION", mesh_e2e::kubernetes::images::VERSION);
        namespace.apply(&pod).await?;
        namespace.condition("pod/meshed", "Ready").await?;
        let ask = |container: &str| {
            let command =
                "curl --silent --max-time 5 --output /dev/null --write-out %{http_code} http://192.0.2.1/x";
            namespace.exec("meshed", container, &["sh", "-c", command])
        };
        // An address that is nobody's (RFC 5737).
        let answered = namespace
            .until("an answer", async || {
                Ok(ask("client").ok().filter(|status| status == "200"))
            })
            .await?;
        ensure!(answered == "200");
        Ok(())
    })
    .await
}
