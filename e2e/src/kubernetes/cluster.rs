//! A cluster that scenarios share: the one that `KUBECONFIG` names, or the tests' own.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::host;
use super::image::Archive;
use super::images::{self, Image, REGISTRY, REGISTRY_VARIABLE};
use super::kubectl::{KUBECONFIG_VARIABLE, Kubectl};
use super::network::{FIRST, Node};
use super::processes;
use super::state::State;
use crate::process::binary;

/// A Kubernetes cluster with nodes.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    registry: String,
    /// Its end takes the cluster down, also when this process is killed.
    own: Option<ChildStdin>,
    /// What its nodes have of this build.
    loaded: Mutex<Vec<Image>>,
}

impl Cluster {
    /// The cluster of this process, brought up by whoever asks first: the one that `KUBECONFIG` names; the tests' own, if
    /// it is up already; or a new one, which goes with this process.
    ///
    /// # Errors
    /// When there is none and none can be had here.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Cluster>> = OnceLock::new();
        let shared = SHARED.get_or_init(Self::start).as_ref();
        shared.map_err(|error| anyhow::anyhow!("there is no cluster: {error:#}"))
    }

    fn start() -> Result<Self> {
        let given = std::env::var_os(KUBECONFIG_VARIABLE).filter(|value| !value.is_empty());
        let own = State::new().kubeconfig();
        if let Some(kubeconfig) = given.map(PathBuf::from).filter(|given| *given != own) {
            let registry = std::env::var(REGISTRY_VARIABLE)
                .ok()
                .filter(|value| !value.is_empty());
            let registry = registry.with_context(|| {
                format!(
                    "{KUBECONFIG_VARIABLE} names a cluster that has to pull its images: set {REGISTRY_VARIABLE} to the \
                     registry where they are (docs/testing-on-kubernetes.md)"
                )
            })?;
            return Ok(Self {
                kubectl: Kubectl::new(&kubeconfig)?,
                registry,
                own: None,
                loaded: Mutex::default(),
            });
        }
        // Whoever takes it down waits from now on, so that nothing is left when bringing it up fails or is interrupted.
        let mut keeper = Command::new(binary("mesh-cluster")?)
            .args(["down", "--when-input-ends"])
            .stdin(Stdio::piped())
            // What interrupts the tests does not interrupt it.
            .process_group(0)
            .spawn()
            .context("start mesh-cluster")?;
        let own = keeper.stdin.take().context("its input")?;
        let kubeconfig = host::up(1, false, &mut |step| eprintln!("cluster: {step}"))?;
        Ok(Self {
            kubectl: Kubectl::new(&kubeconfig)?,
            registry: REGISTRY.to_owned(),
            own: Some(own),
            loaded: Mutex::default(),
        })
    }

    /// `kubectl` as its administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The registry that its images' names begin with.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Whether it is the tests' own, on this machine.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Sees to it that nodes have these images of this build, each once. Another cluster pulls them from where it was told.
    ///
    /// # Errors
    /// When an image can't be made or imported.
    pub fn load(&self, images: &[Image]) -> Result<()> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        for image in images {
            if self.is_own() && !loaded.contains(image) {
                host::load(&images::build(*image, REGISTRY)?)?;
                loaded.push(*image);
            }
        }
        Ok(())
    }

    /// Sees to it that nodes have this image.
    ///
    /// # Errors
    /// When it can't be imported, or the cluster is another one.
    pub fn load_archive(&self, archive: &Archive) -> Result<()> {
        ensure!(self.is_own(), "{} is not made for other clusters", archive.name());
        host::load(archive)
    }

    /// The key that tokens of service accounts are signed with; none: it is another cluster's.
    pub fn token_key(&self) -> Option<PathBuf> {
        self.is_own().then(|| State::new().pki().join("tokens.key"))
    }

    /// What an account has asked of the API server so far: events of its audit log, the oldest first.
    ///
    /// # Errors
    /// When the cluster is another one, or the log can't be read.
    pub fn audited(&self, account: &str) -> Result<Vec<Value>> {
        ensure!(self.is_own(), "the audit log of other clusters is out of reach");
        let file = State::new().audit(Node(FIRST));
        let log = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let user = format!("system:serviceaccount:{account}");
        // The last line may not be whole yet.
        let events = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        Ok(events
            .filter(|event: &Value| event["user"]["username"] == user.as_str())
            .collect())
    }

    /// Kills the processes of a program in a pod, which the pod's UID names, without a warning.
    ///
    /// # Errors
    /// When the cluster is another one, or there is no such process.
    pub fn kill(&self, uid: &str, program: &str) -> Result<()> {
        ensure!(self.is_own(), "processes of other clusters are out of reach");
        processes::kill(uid, program)
    }

    /// Adds nodes until there are so many; each is in a zone of its own.
    ///
    /// # Errors
    /// When another cluster has fewer, or one does not get ready.
    pub fn nodes(&self, count: u8) -> Result<()> {
        if self.is_own() {
            return host::up(count, false, &mut |step| eprintln!("cluster: {step}")).map(drop);
        }
        let nodes = self.kubectl.get(&["nodes"])?;
        let there = nodes["items"].as_array().map_or(0, Vec::len);
        if there < usize::from(count) {
            bail!("this takes {count} nodes, and the cluster has {there}");
        }
        Ok(())
    }
}
