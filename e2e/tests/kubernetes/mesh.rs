//! The mesh of this build on the cluster, as a user installs it.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::{Cluster, Image, KUBECONFIG_VARIABLE, Namespace};
use mesh_e2e::process::binary;
use serde_json::Value;

/// What makes a namespace's pods get a proxy.
pub(crate) const INJECT: (&str, &str) = ("mesh.dev/inject", "enabled");
/// Where the control plane is.
pub(crate) const SYSTEM: &str = "mesh-system";

/// The mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    cluster: &'static Cluster,
}

impl Mesh {
    /// The cluster with this build's images, and whatever mesh is there.
    pub(crate) fn prepared() -> Result<Self> {
        let cluster = Cluster::shared()?;
        cluster.load(&Image::ALL)?;
        Ok(Self { cluster })
    }

    /// The mesh, installed unless it is.
    pub(crate) fn installed() -> Result<Self> {
        let mesh = Self::prepared()?;
        mesh.install()?;
        Ok(mesh)
    }

    /// `meshctl install`, with this build's images.
    pub(crate) fn install(&self) -> Result<String> {
        let registry = format!("images.registry={}", self.cluster.registry());
        self.meshctl(&["install", "--set", &registry])
    }

    pub(crate) fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// `meshctl` for this mesh, to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("meshctl")?);
        command
            .args(arguments)
            .env(KUBECONFIG_VARIABLE, self.cluster.kubectl().kubeconfig());
        Ok(command)
    }

    /// Runs `meshctl`, and returns what it prints.
    pub(crate) fn meshctl(&self, arguments: &[&str]) -> Result<String> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments)?.output().context("start meshctl")?;
        let (out, error) = (String::from_utf8(stdout)?, String::from_utf8_lossy(&stderr));
        ensure!(
            status.success(),
            "meshctl {}: {status}\n{out}{error}",
            arguments.join(" ")
        );
        Ok(out)
    }
}

/// A Deployment of the server that does as it is told, and a Service of its own.
pub(crate) fn model(name: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, role: model}}}}
    spec:
      containers:
      - name: model
        image: mesh.local/model:e2e
        imagePullPolicy: IfNotPresent
        args: ['8080']
        ports: [{{containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080, appProtocol: mesh.dev/open-inference}}]
---
"
    )
}

/// A Service of all models, and the way from it to two of them.
pub(crate) const FRAUD: &str = "
apiVersion: v1
kind: Service
metadata: {name: fraud}
spec:
  selector: {role: model}
  ports: [{name: http, port: 80, targetPort: 8080, appProtocol: mesh.dev/open-inference}]
---
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: fraud}
spec:
  service: fraud
  rules:
  - name: canary
    matches: [{model: fraud, operation: [infer]}]
    split:
      backends:
      - {name: stable, service: fraud-v1, weight: 100}
      - {name: canary, service: fraud-v2, weight: 0}
---
";

/// A pod that puts load on the Service `fraud`.
pub(crate) const LOAD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: load
    image: mesh.local/model:e2e
    imagePullPolicy: IfNotPresent
    command: [/usr/local/bin/model-client]
    args: ['fraud:80', '--path=/v2/models/fraud/infer', '--body={}', '--clients=4', '--pause=5', '--streams=2']
---
";

/// A shell with curl.
pub(crate) const CLIENT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: client, image: 'mesh.local/client:e2e', imagePullPolicy: IfNotPresent, args: [sleep 3600]}
---
";

/// What the load has counted so far.
#[derive(Clone, Debug)]
pub(crate) struct Counts(Value);

impl Counts {
    /// The newest.
    pub(crate) fn newest(namespace: &Namespace) -> Result<Self> {
        let logs = namespace
            .kubectl()
            .run(&["logs", "load", "--container", "load", "--tail=1"])?;
        let line = logs.lines().last().context("the load has said nothing yet")?;
        Ok(Self(serde_json::from_str(line).with_context(|| line.to_owned())?))
    }

    /// Requests and events.
    pub(crate) fn done(&self) -> u64 {
        self.0["done"].as_u64().unwrap_or_default()
    }

    /// Requests that pods of this Deployment have answered.
    pub(crate) fn by(&self, deployment: &str) -> u64 {
        let by = self.0["by"].as_object().into_iter().flatten();
        let its = by.filter(|(pod, _)| pod.starts_with(&format!("{deployment}-")));
        its.filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Requests that this pod has answered.
    pub(crate) fn by_pod(&self, pod: &str) -> u64 {
        self.0["by"][pod].as_u64().unwrap_or_default()
    }

    /// Streams that came to their end.
    pub(crate) fn streams(&self) -> u64 {
        self.0["streams"].as_u64().unwrap_or_default()
    }

    /// Fails if anything has failed.
    pub(crate) fn without_failure(&self) -> Result<()> {
        ensure!(self.0["failed"] == 0, "the load has failed: {}", self.0);
        Ok(())
    }

    /// Waits until so much more is done, and returns the counts from then.
    pub(crate) async fn after(&self, namespace: &Namespace, more: u64) -> Result<Self> {
        namespace
            .until(&format!("{more} more requests and events"), async || {
                let now = Self::newest(namespace)?;
                now.without_failure()?;
                Ok((now.done() >= self.done() + more).then_some(now))
            })
            .await
    }
}
