//! The first process in a node's namespaces: it makes the node look like a machine of its own, and runs its programs.
//! When one of them ends the node ends, and with it everything on it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{WaitOptions, wait};

use super::api_server;
use super::network::{FIRST, Node};
use super::programs::Program;
use super::state::{self, State};

/// What the kubelet sets for the whole machine. It finds files that say so already.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a node until one of its programs ends. It has to be started in new network, mount, pid, ipc and uts namespaces,
/// and begins when its input ends, which is when the network is there.
///
/// # Errors
/// When a program can't be started, or has ended.
pub fn run(number: u8) -> Result<()> {
    let node = Node(number);
    let state = State::new();
    std::io::stdin().read_to_end(&mut Vec::new())?;
    command("hostname", [node.name()])?;
    mounts(&state, node)?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    groups(node)?;
    let programs = start(&state, node)?;
    loop {
        // Whoever lost his parents is this process's child.
        let Some((pid, status)) = wait(WaitOptions::empty())? else {
            continue;
        };
        let ended = programs.iter().find(|(_, program)| {
            u32::try_from(pid.as_raw_nonzero().get()).is_ok_and(|pid| pid == program.id())
        });
        if let Some((name, _)) = ended {
            bail!("{name} ended: {status:?}; see {}", state.logs(node).display());
        }
    }
}

/// Folders that programs want in one place, the node's own there.
fn mounts(state: &State, node: Node) -> Result<()> {
    mount(["--make-rprivate", "/"])?;
    for folder in ["/run/netns", "/run/containerd", "/run/cni-ipam"] {
        fs::create_dir_all(folder)?;
        mount(["-t", "tmpfs", "tmpfs", folder])?;
    }
    for (name, folder) in [
        ("kubelet", "/var/lib/kubelet"),
        ("pods", "/var/log/pods"),
        ("containers", "/var/log/containers"),
        ("cni-cache", "/var/lib/cni"),
    ] {
        let own = state.node(node).join(name);
        fs::create_dir_all(&own)?;
        fs::create_dir_all(folder)?;
        mount([OsStr::new("--bind"), own.as_os_str(), OsStr::new(folder)])?;
    }
    mount(["--make-rshared", "/var/lib/kubelet"])?;
    let settings = state.node(node).join("settings");
    fs::create_dir_all(&settings)?;
    for (name, value) in SETTINGS {
        let setting = Path::new("/proc/sys").join(name);
        let file = settings.join(name.replace('/', "."));
        fs::write(&file, format!("{value}\n"))?;
        if setting.exists() {
            mount([OsStr::new("--bind"), file.as_os_str(), setting.as_os_str()])?;
        }
    }
    Ok(())
}

/// The control groups that pods are put under.
fn groups(node: Node) -> Result<()> {
    for group in state::cgroups(node)? {
        let above = group.parent().context("it stands in the root")?;
        if above.join("cgroup.subtree_control").exists() {
            for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
                // Not every kernel has every controller.
                let _ = fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
        // With version 1 a group begins without processors and memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = fs::read(above.join(file))
                && group.join(file).exists()
            {
                fs::write(group.join(file), all)?;
            }
        }
    }
    Ok(())
}

/// The node's programs, by their names.
fn start(state: &State, node: Node) -> Result<Vec<(&'static str, Child)>> {
    let mut running = Vec::new();
    let mut program = |program: Program, arguments: &[String]| -> Result<()> {
        running.push((program.name(), spawn(state, node, program, arguments)?));
        Ok(())
    };
    let file = |name: &str| state.node(node).join(name).display().to_string();
    let pki = |name: &str| state.pki().join(name).display().to_string();
    program(
        Program::CONTAINERD,
        &[format!("--config={}", file("containerd.toml"))],
    )?;
    if node.0 == FIRST {
        program(
            Program::ETCD,
            &api_server::etcd(&state.node(node).join("etcd"), "127.0.0.1:2379", "127.0.0.1:2380"),
        )?;
        program(Program::API_SERVER, &api_server::in_cluster(state, node))?;
        wait_for_api(state)?;
        let common = |name: &str| {
            vec![
                format!("--kubeconfig={}", pki(&format!("{name}.kubeconfig"))),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
                // Otherwise a new cluster's objects take seconds to appear.
                "--kube-api-qps=1000".into(),
                "--kube-api-burst=2000".into(),
            ]
        };
        let mut controllers = common("kube-controller-manager");
        controllers.extend([
            format!("--service-account-private-key-file={}", pki("tokens.key")),
            format!("--root-ca-file={}", pki("ca.crt")),
            format!("--cluster-signing-cert-file={}", pki("ca.crt")),
            format!("--cluster-signing-key-file={}", pki("ca.key")),
            "--use-service-account-credentials=true".into(),
            "--node-monitor-period=2s".into(),
            "--node-monitor-grace-period=40s".into(),
        ]);
        program(Program::CONTROLLER_MANAGER, &controllers)?;
        program(Program::SCHEDULER, &common("kube-scheduler"))?;
    } else {
        wait_for_api(state)?;
    }
    program(
        Program::KUBELET,
        &[
            format!("--config={}", file("kubelet.json")),
            format!("--kubeconfig={}", pki(&format!("{}.kubeconfig", node.name()))),
            format!("--hostname-override={}", node.name()),
            format!("--node-ip={}", node.address()),
            format!("--node-labels=topology.kubernetes.io/zone={}", node.zone()),
            "--root-dir=/var/lib/kubelet".into(),
        ],
    )?;
    program(
        Program::KUBE_PROXY,
        &[format!("--config={}", file("kube-proxy.json"))],
    )?;
    Ok(running)
}

fn spawn(state: &State, node: Node, program: Program, arguments: &[String]) -> Result<Child> {
    let log = state.logs(node).join(format!("{}.log", program.name()));
    let log = File::create(log)?;
    let mut command = Command::new(program.path()?);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // The runtime finds its shim there, and kube-proxy its nft.
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .spawn()
        .with_context(|| format!("start {}", program.name()))
}

fn wait_for_api(state: &State) -> Result<()> {
    let kubectl = super::Kubectl::new(&state.kubeconfig())?;
    let started = Instant::now();
    while let Err(error) = kubectl.run(&["get", "--raw", "/readyz"]) {
        ensure!(
            started.elapsed() < PATIENCE,
            "the API server is not ready: {error:#}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn mount<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<()> {
    command("mount", arguments)
}

fn command<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<()> {
    let mut command = Command::new(program);
    let output = command.args(arguments).output();
    let output = output.with_context(|| format!("start {program}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
