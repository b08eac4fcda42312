//! What a cluster leaves on disk while it runs, and how all of it goes away.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::network::{self, FIRST, MOST, Node};
use super::programs::cache;

/// How long the processes of a node may take to be gone.
const ENDING: Duration = Duration::from_secs(20);

/// The folder of the one cluster that a user has at a time.
#[derive(Clone, Debug)]
pub(super) struct State {
    folder: PathBuf,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            folder: cache().join("state"),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.pki().join("admin.kubeconfig")
    }

    /// Says that somebody wants the cluster to outlive the tests that started it.
    pub(super) fn kept(&self) -> PathBuf {
        self.folder.join("kept")
    }

    /// Written when the cluster is complete.
    pub(super) fn complete(&self) -> PathBuf {
        self.folder.join("complete")
    }

    /// What says that a node has this image.
    pub(super) fn loaded(&self, node: Node, image: &str) -> PathBuf {
        let name = image.replace(['/', ':'], "_");
        self.node(node).join("images").join(name)
    }

    pub(super) fn node(&self, node: Node) -> PathBuf {
        self.folder.join(node.name())
    }

    pub(super) fn logs(&self, node: Node) -> PathBuf {
        self.node(node).join("log")
    }

    /// Which requests the API server writes down, and where.
    pub(super) fn audit_policy(&self, node: Node) -> PathBuf {
        self.node(node).join("audit-policy.json")
    }

    pub(super) fn audit(&self, node: Node) -> PathBuf {
        self.logs(node).join("audit.log")
    }

    pub(super) fn containerd(&self, node: Node) -> PathBuf {
        self.node(node).join("containerd.sock")
    }

    /// The process whose end is a node's end.
    pub(super) fn process(&self, node: Node) -> PathBuf {
        self.node(node).join("pid")
    }

    /// The lock that whoever changes the cluster holds, for as long as the file is open.
    pub(super) fn lock(&self) -> Result<File> {
        fs::create_dir_all(cache())?;
        let file = File::create(cache().join("state.lock"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// The process of a node that runs.
    pub(super) fn running(&self, node: Node) -> Option<u32> {
        let process: u32 = fs::read_to_string(self.process(node)).ok()?.trim().parse().ok()?;
        // After a restart of the machine the number may be anybody's.
        let command = fs::read(format!("/proc/{process}/cmdline")).ok()?;
        let ours = self.node(node).into_os_string().into_encoded_bytes();
        command
            .split(|byte| *byte == 0)
            .any(|word| word == ours)
            .then_some(process)
    }

    /// The nodes that run.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let all = (FIRST..=MOST).map(Node);
        all.filter(|node| self.running(*node).is_some()).collect()
    }

    /// Ends every process, and removes everything that a cluster made, also what one that was killed left behind.
    pub(super) fn remove(&self) -> Result<()> {
        for node in self.nodes() {
            if let Some(process) = self.running(node) {
                end(process).with_context(|| format!("end {}", node.name()))?;
            }
        }
        for node in (FIRST..=MOST).map(Node) {
            remove_cgroups(node)?;
        }
        network::remove_bridge()?;
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Kills a node's outer process, with which the kernel kills all that is in its namespaces.
fn end(process: u32) -> Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.context("no process id")?;
    let _ = kill_process(pid, Signal::KILL);
    let told = Instant::now();
    while test_kill_process(pid).is_ok() && !is_zombie(process) {
        ensure!(told.elapsed() < ENDING, "process {process} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn is_zombie(process: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// The folders of a node's control groups: one with version 2, one for each controller with version 1.
pub(super) fn cgroups(node: Node) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let name = cgroup(node);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.join(name)]);
    }
    let folders = fs::read_dir(root).context("no control groups are mounted")?;
    let folders = folders.map(|folder| Ok(folder?.path()));
    let folders = folders.collect::<Result<Vec<_>>>()?;
    // A link is the second name of a controller that shares its hierarchy.
    let real = folders
        .into_iter()
        .filter(|folder| folder.is_dir() && !folder.is_symlink());
    Ok(real.map(|folder| folder.join(&name)).collect())
}

/// The name of a node's control group.
pub(super) fn cgroup(node: Node) -> String {
    format!("mesh-{}", node.name())
}

fn remove_cgroups(node: Node) -> Result<()> {
    let started = Instant::now();
    for group in cgroups(node)? {
        // The kernel takes a moment to take the last process off a group.
        while let Err(error) = remove_tree(&group) {
            if started.elapsed() > ENDING {
                return Err(error).with_context(|| format!("remove {}", group.display()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Removes control groups from the innermost outwards; their files go with them.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
