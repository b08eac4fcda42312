//! The addresses of the tests' own cluster, and the bridge that its nodes are on.
//!
//! Every node is a network namespace on one bridge of this machine, which has routes to pods and services, so that a test
//! reaches them from where it is.

use std::process::Command;

use anyhow::{Result, ensure};

use super::programs::Program;

/// The bridge, and this machine's address on it.
const BRIDGE: &str = "mesh-k8s";
const HOST: &str = "10.200.0.1";
/// Where Services are.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// Where all pods are.
pub(super) const PODS: &str = "10.244.0.0/16";
/// The Service of the API server.
pub(super) const API_SERVICE: &str = "10.96.0.1";
/// The Service of the DNS server.
pub(super) const DNS_SERVICE: &str = "10.96.0.10";
/// The node that is the control plane as well.
pub(super) const FIRST: u8 = 1;
/// How many nodes there may be.
pub(super) const MOST: u8 = 3;

/// A node by its number, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node(pub(super) u8);

impl Node {
    pub(super) fn name(self) -> String {
        format!("node{}", self.0)
    }

    /// The zone that it says it is in: each node in its own.
    pub(super) fn zone(self) -> String {
        format!("zone-{}", char::from(b'a' + self.0 - 1))
    }

    pub(super) fn address(self) -> String {
        format!("10.200.0.{}", self.0 + 1)
    }

    pub(super) fn pods(self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    /// The bridge's port that it is on.
    fn port(self) -> String {
        format!("{BRIDGE}-{}", self.0)
    }

    fn others(self) -> impl Iterator<Item = Self> {
        (FIRST..=MOST).map(Self).filter(move |node| *node != self)
    }

    /// Gives the network namespace of this process an address on the bridge, and routes to the others' pods.
    pub(super) fn join(self, process: u32) -> Result<()> {
        let port = self.port();
        ip(&format!(
            "link add {port} type veth peer name eth0 netns {process}"
        ))?;
        ip(&format!("link set {port} master {BRIDGE} up"))?;
        let there = |arguments: &str| inside(process, arguments);
        there("link set lo up")?;
        there(&format!("address add {}/24 dev eth0", self.address()))?;
        there("link set eth0 up")?;
        there(&format!("route add default via {HOST}"))?;
        for other in self.others() {
            there(&format!("route add {} via {}", other.pods(), other.address()))?;
        }
        ip(&format!("route replace {} via {}", self.pods(), self.address()))
    }
}

/// Makes the bridge, with the way to Services.
pub(super) fn add_bridge() -> Result<()> {
    ip(&format!("link add {BRIDGE} type bridge stp_state 0"))?;
    ip(&format!("address add {HOST}/24 dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up"))?;
    ip(&format!("route replace {SERVICES} via {}", Node(FIRST).address()))
}

/// Removes the bridge, with all routes over it, and what is plugged into it. A node's plug goes with the node's namespace, but that
/// may stay for minutes after its last process, as long as the kernel has a connection in it.
pub(super) fn remove_bridge() -> Result<()> {
    for node in (FIRST..=MOST).map(Node) {
        remove(&node.port())?;
    }
    remove(BRIDGE)
}

/// Removes a link, if it is there.
fn remove(link: &str) -> Result<()> {
    if ip(&format!("link show {link}")).is_err() {
        return Ok(());
    }
    ip(&format!("link delete {link}"))
}

fn ip(arguments: &str) -> Result<()> {
    run(
        Command::new(Program::IP.path()?).args(arguments.split(' ')),
        arguments,
    )
}

/// The system's `ip` in the network namespace of a process, which needs no name for that.
fn inside(process: u32, arguments: &str) -> Result<()> {
    let mut command = Command::new("nsenter");
    command.args([format!("--net=/proc/{process}/ns/net"), "ip".into()]);
    run(command.args(arguments.split(' ')), arguments)
}

fn run(command: &mut Command, arguments: &str) -> Result<()> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
