//! A scenario's own namespace: objects are put there, waited for, asked, and shown when the scenario fails.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::cluster::Cluster;
use super::images::REGISTRY;
use super::kubectl::Kubectl;
use super::port_forward::PortForward;

/// How long anything may take on a cluster: images are unpacked, and machines are shared.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(200);
/// How much of each log is shown when a scenario fails.
const LAST_WORDS: &str = "--tail=40";
/// The environment variable that leaves the namespaces of failed scenarios there, to look at.
const KEEP_VARIABLE: &str = "MESH_E2E_KEEP";

/// A namespace that goes with this value. Unless [`Namespace::passed`] was said, everything in it is shown first.
#[derive(Debug)]
pub struct Namespace {
    cluster: &'static Cluster,
    name: String,
    kubectl: Kubectl,
    passed: bool,
}

impl Namespace {
    /// Runs a scenario in a namespace that begins with its name, and has these labels.
    ///
    /// # Errors
    /// When the scenario fails; its pods, events and logs are printed first.
    pub async fn scenario(
        name: &str,
        labels: &[(&str, &str)],
        scenario: impl AsyncFnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let mut namespace = Self::new(name, labels)?;
        scenario(&namespace).await?;
        namespace.passed = true;
        Ok(())
    }

    /// A new namespace.
    ///
    /// # Errors
    /// When there is no cluster.
    fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let cluster = Cluster::shared()?;
        let labels: serde_json::Map<_, _> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
            .collect();
        // Names are unique also among namespaces that are still going.
        let document = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"generateName": format!("{name}-"), "labels": labels},
        });
        let create = [
            "create",
            "--filename",
            "-",
            "--output",
            "jsonpath={.metadata.name}",
        ];
        let name = cluster.kubectl().run_with(&create, &document.to_string())?;
        Ok(Self {
            cluster,
            kubectl: cluster.kubectl().within(&name),
            name,
            passed: false,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is on.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// `kubectl` for it.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Applies documents. Images are named as if they were made here; another cluster's registry takes the place of that.
    /// It is not before the namespace's ServiceAccount is there that pods can be.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn apply(&self, documents: &str) -> Result<()> {
        self.until("the ServiceAccount default", async || {
            Ok(self
                .kubectl
                .run(&["get", "serviceaccount", "default"])
                .is_ok()
                .then_some(()))
        })
        .await?;
        let own = format!("{REGISTRY}/");
        let documents = documents.replace(&own, &format!("{}/", self.cluster.registry()));
        self.kubectl.apply(&documents).map(drop)
    }

    /// An object, such as `pod/a`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn get(&self, object: &str) -> Result<Value> {
        self.kubectl.get(&[object])
    }

    /// Waits until an object has a condition, such as `Available` or `Complete`.
    ///
    /// # Errors
    /// When it does not get it; with its last status.
    pub async fn condition(&self, object: &str, condition: &str) -> Result<()> {
        self.until(&format!("{object} to be {condition}"), async || {
            let Ok(found) = self.get(object) else {
                return Ok(None);
            };
            let conditions = found["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            let found = conditions.find(|found| found["type"] == condition);
            Ok(found.filter(|found| found["status"] == "True").map(drop))
        })
        .await
        .with_context(|| self.status(object))
    }

    /// Waits until a Deployment has all its new pods and no old ones.
    ///
    /// # Errors
    /// When it does not.
    pub async fn rolled_out(&self, deployment: &str) -> Result<()> {
        self.until(&format!("deployment/{deployment} to be rolled out"), async || {
            let rollout = [
                "rollout",
                "status",
                "--timeout=5s",
                &format!("deployment/{deployment}"),
            ];
            Ok(self.kubectl.run(&rollout).is_ok().then_some(()))
        })
        .await
    }

    /// Waits for an answer, and asks until there is one.
    ///
    /// # Errors
    /// When there is none in time, or a question fails; `what` says what was waited for.
    pub async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            if started.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} for {what} in namespace {}", self.name);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs a command in a pod's container, and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let mut arguments = vec!["exec", pod, "--container", container, "--"];
        arguments.extend(command);
        self.kubectl.run(&arguments)
    }

    /// What a pod's container has printed.
    ///
    /// # Errors
    /// When it has not started.
    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.kubectl.run(&["logs", pod, "--container", container])
    }

    /// A port of a pod or Service, on loopback.
    ///
    /// # Errors
    /// When it can't be forwarded.
    pub fn port_forward(&self, to: &str, port: u16) -> Result<PortForward> {
        PortForward::start(&self.kubectl, to, port)
    }

    /// The names of the pods with this label that are not on their way out.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn pods(&self, label: &str) -> Result<Vec<String>> {
        let found = self.kubectl.get(&["pods", "--selector", label])?;
        let pods = found["items"].as_array().context("a list has no items")?;
        let staying = pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let names = staying.map(|pod| Ok(pod["metadata"]["name"].as_str().context("no name")?.to_owned()));
        names.collect()
    }

    /// The name of the one pod with this label.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn pod(&self, label: &str) -> Result<String> {
        let mut pods = self.pods(label)?;
        ensure!(
            pods.len() == 1,
            "{} pods have the label {label}: {pods:?}",
            pods.len()
        );
        Ok(pods.remove(0))
    }

    fn status(&self, object: &str) -> String {
        match self.get(object) {
            Ok(found) => format!("{object} says {}", found["status"]),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Prints the state, events and logs of everything here.
    fn show(&self) {
        let show = |title: &str, arguments: &[&str]| {
            let text = self
                .kubectl
                .run(arguments)
                .unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("---- {}: {title}\n{}", self.name, text.trim_end());
        };
        show("objects", &["get", "all,endpointslices", "--output", "wide"]);
        show("events", &["get", "events", "--sort-by=.lastTimestamp"]);
        show("pods", &["describe", "pods"]);
        let pods = self.kubectl.get(&["pods"]).unwrap_or_default();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            for containers in ["initContainers", "containers"] {
                for container in pod["spec"][containers].as_array().into_iter().flatten() {
                    let container = container["name"].as_str().unwrap_or_default();
                    let logs = ["logs", name, "--container", container, LAST_WORDS];
                    show(&format!("log of {name}/{container}"), &logs);
                    // Only a container that was restarted has another.
                    let mut before = logs.to_vec();
                    before.push("--previous");
                    if let Ok(text) = self.kubectl.run(&before) {
                        eprintln!("---- {}: log of {name}/{container} before\n{text}", self.name);
                    }
                }
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.passed {
            self.show();
            if std::env::var_os(KEEP_VARIABLE).is_some() {
                eprintln!("namespace {} is kept", self.name);
                return;
            }
        }
        let delete = ["delete", "namespace", &self.name, "--wait=false"];
        if let Err(error) = self.cluster.kubectl().run(&delete) {
            eprintln!("{error:#}");
        }
    }
}
