//! A cluster seen from this machine: bringing it up, adding a node, giving it images, taking it down.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::api_server::names;
use super::files;
use super::image::Archive;
use super::images::{self, Image};
use super::kubectl::Kubectl;
use super::network::{self, FIRST, MOST, Node};
use super::pki::Pki;
use super::programs::Program;
use super::state::State;

/// The objects that every cluster has.
const BASE: &str = include_str!("../../cluster/base.yaml");
/// How long each step may take, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(180);
/// The binary that runs nodes.
const BINARY: &str = "mesh-cluster";

/// Why a cluster can't run here, if it can't.
///
/// # Errors
/// With what is missing, and how it comes here.
pub(super) fn possible() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a cluster takes root, for namespaces and control groups"
    );
    for program in Program::CLUSTER {
        program.path()?;
    }
    let namespaces = Command::new(Program::UNSHARE.path()?)
        .args([
            "--net",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--mount-proc",
            "true",
        ])
        .output()?;
    ensure!(
        namespaces.status.success(),
        "this machine gives out no namespaces: {}",
        String::from_utf8_lossy(&namespaces.stderr).trim()
    );
    Ok(())
}

/// Whether a cluster runs, and if none does, whether one could.
///
/// # Errors
/// When none runs and none could.
pub fn status() -> Result<String> {
    let state = State::new();
    let nodes = state.nodes();
    if nodes.is_empty() {
        possible()?;
        return Ok("no cluster runs; one could".into());
    }
    let names: Vec<_> = nodes.into_iter().map(Node::name).collect();
    Ok(format!(
        "{} run; KUBECONFIG={}",
        names.join(" and "),
        state.kubeconfig().display()
    ))
}

/// Brings a cluster with so many nodes up, or the one that runs to so many nodes, and returns its administrator's
/// kubeconfig. `told` hears of each step.
///
/// # Errors
/// When it can't run here, or a part of it does not get ready.
pub fn up(nodes: u8, keep: bool, told: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    ensure!(
        (FIRST..=MOST).contains(&nodes),
        "a cluster has 1 to {MOST} nodes, not {nodes}"
    );
    possible()?;
    let state = State::new();
    let _lock = state.lock()?;
    let first = Node(FIRST);
    if state.running(first).is_none() || !state.complete().exists() {
        state.remove()?;
        first_node(&state, told)?;
        File::create(state.complete())?;
    }
    if keep {
        File::create(state.kept())?;
    }
    for node in (FIRST + 1..=nodes).map(Node) {
        if state.running(node).is_none() {
            told(&format!("starting {}", node.name()));
            start_node(&state, node)?;
            for archive in archives(&state)? {
                import(&state, node, &archive)?;
            }
            ready(&state, node)?;
        }
    }
    Ok(state.kubeconfig())
}

/// Takes the cluster down, if one runs, with everything it left behind.
///
/// # Errors
/// When something can't be removed.
pub fn down() -> Result<()> {
    let state = State::new();
    let _lock = state.lock()?;
    state.remove()
}

/// Takes the cluster down when the input ends, unless somebody wants to keep it by then. This outlives the process at the
/// other end of the input, however that ends.
///
/// # Errors
/// When something can't be removed.
pub fn down_after(mut input: impl std::io::Read) -> Result<()> {
    input.read_to_end(&mut Vec::new())?;
    let state = State::new();
    let _lock = state.lock()?;
    if state.kept().exists() {
        return Ok(());
    }
    state.remove()
}

/// Gives an image to every node that runs, if it has another of this name or none.
///
/// # Errors
/// When none runs, or it can't be imported.
pub fn load(archive: &Archive) -> Result<()> {
    let state = State::new();
    let _lock = state.lock()?;
    let nodes = state.nodes();
    ensure!(!nodes.is_empty(), "no cluster runs: {BINARY} up");
    // A node that comes later gets it too.
    let list = state.folder().join("archives");
    fs::create_dir_all(&list)?;
    let name = archive.name().replace(['/', ':'], "_");
    fs::write(list.join(name), serde_json::to_vec(archive)?)?;
    for node in nodes {
        import(&state, node, archive)?;
    }
    Ok(())
}

fn archives(state: &State) -> Result<Vec<Archive>> {
    let list = state.folder().join("archives");
    let files = fs::read_dir(&list).with_context(|| format!("read {}", list.display()))?;
    files
        .map(|file| Ok(serde_json::from_slice(&fs::read(file?.path())?)?))
        .collect()
}

fn import(state: &State, node: Node, archive: &Archive) -> Result<()> {
    let loaded = state.loaded(node, archive.name());
    if fs::read_to_string(&loaded).is_ok_and(|digest| digest == archive.digest()) {
        return Ok(());
    }
    let socket = state.containerd(node);
    let file = archive.path().display().to_string();
    let mut command = Command::new(Program::CTR.path()?);
    command.arg("--address").arg(&socket);
    command.args(["--namespace", "k8s.io", "images", "import", &file]);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "import {} into {}: {}",
        archive.name(),
        node.name(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    fs::create_dir_all(loaded.parent().unwrap_or(Path::new("/")))?;
    Ok(fs::write(loaded, archive.digest())?)
}

fn first_node(state: &State, told: &mut dyn FnMut(&str)) -> Result<()> {
    told("making certificates");
    let node = Node(FIRST);
    let pki = Pki::new(&state.pki())?;
    let names = names(node);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    pki.issue("apiserver", "kube-apiserver", &[], &names)?;
    pki.issue("kubelet-client", "kube-apiserver", &["system:masters"], &[])?;
    let server = format!("https://{}:6443", node.address());
    pki.kubeconfig("admin", "admin", &["system:masters"], &server)?;
    for name in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        pki.kubeconfig(name, &format!("system:{name}"), &[], &server)?;
    }
    // Every node that there may be, so that the authority's key is not needed again.
    for node in (FIRST..=MOST).map(Node) {
        let (user, groups) = (format!("system:node:{}", node.name()), ["system:nodes"]);
        pki.kubeconfig(&node.name(), &user, &groups, &server)?;
        pki.issue(&node.name(), &user, &groups, &[&node.address(), &node.name()])?;
    }
    network::add_bridge()?;
    told("starting node1, the control plane");
    start_node(state, node)?;
    let archives = [Image::Pause, Image::CoreDns].map(|image| images::build(image, images::REGISTRY));
    for archive in archives {
        let archive = archive?;
        let list = state.folder().join("archives");
        fs::create_dir_all(&list)?;
        fs::write(
            list.join(archive.name().replace(['/', ':'], "_")),
            serde_json::to_vec(&archive)?,
        )?;
        import(state, node, &archive)?;
    }
    let kubectl = Kubectl::new(&state.kubeconfig())?;
    until(state, node, "the API server", || {
        kubectl.run(&["get", "namespace", "kube-system"]).map(drop)
    })?;
    told("the API server is ready");
    until(state, node, "the base objects", || kubectl.apply(BASE).map(drop))?;
    ready(state, node)?;
    told("node1 is ready");
    until(state, node, "the ServiceAccount default", || {
        kubectl.run(&["get", "serviceaccount", "default"]).map(drop)
    })?;
    let dns = ["rollout", "status", "deployment/coredns", "--timeout=5s"];
    until(state, node, "CoreDNS", || {
        kubectl.within("kube-system").run(&dns).map(drop)
    })?;
    told("CoreDNS is ready");
    Ok(())
}

fn ready(state: &State, node: Node) -> Result<()> {
    let kubectl = Kubectl::new(&state.kubeconfig())?;
    let name = node.name();
    until(state, node, &format!("{name} to be ready"), || {
        let found = kubectl.get(&["node", &name])?;
        let conditions = found["status"]["conditions"].as_array();
        let conditions = conditions.context("it has no status yet")?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let ready = ready.context("it does not say whether it is ready")?;
        ensure!(ready["status"] == "True", "{}", ready["message"]);
        Ok(())
    })
}

/// Starts a node's process, detached, and gives it its network.
fn start_node(state: &State, node: Node) -> Result<()> {
    let folder = state.node(node);
    fs::create_dir_all(state.logs(node))?;
    files::write(state, node)?;
    let log = File::create(state.logs(node).join("node.log"))?;
    let mut command = Command::new(Program::UNSHARE.path()?);
    command
        .args([
            "--net",
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(crate::process::binary(BINARY)?)
        .args(["node", &node.0.to_string()])
        // The folder in its arguments is how the process is known again.
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: between fork and exec only one system call is made, which setsid(2) allows there.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    let mut child = command.spawn().context("start unshare")?;
    fs::write(state.process(node), child.id().to_string())?;
    let own = fs::read_link("/proc/self/ns/net")?;
    until(state, node, "its namespaces", || {
        let its = fs::read_link(format!("/proc/{}/ns/net", child.id()))?;
        ensure!(its != own, "it is still in this machine's");
        Ok(())
    })?;
    network::Node::join(node, child.id())?;
    // The end of its input lets it begin.
    drop(child.stdin.take());
    let socket = state.containerd(node);
    let ctr = Program::CTR.path()?;
    until(state, node, "containerd", || {
        let mut command = Command::new(&ctr);
        let output = command.arg("--address").arg(&socket).arg("version").output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    })
}

/// Asks until it succeeds; fails when the node has ended, or after a while, with what was waited for and the last answer.
fn until(state: &State, node: Node, what: &str, mut ask: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    while let Err(error) = ask() {
        if state.running(node).is_none() {
            let mut log = String::new();
            File::open(state.logs(node).join("node.log"))?.read_to_string(&mut log)?;
            bail!(
                "{} ended while it was waited for {what}: {}",
                node.name(),
                log.trim()
            );
        }
        if started.elapsed() > PATIENCE {
            return Err(error).context(format!(
                "waited {PATIENCE:?} for {what}; logs are in {}",
                state.logs(node).display()
            ));
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    Ok(())
}
