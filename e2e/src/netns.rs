//! Machines of a scenario's own: network namespaces on one bridge, each with an IPv4 and an IPv6 address.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A bridge, itself a machine, and the machines on it. All of them go with this value.
#[derive(Debug)]
pub struct Network {
    hub: Machine,
    joined: u8,
}

/// One machine: a network namespace.
#[derive(Debug)]
pub struct Machine {
    name: String,
    number: u8,
}

/// The bridge's own number; it is where everybody sends what is for nobody on the bridge, and where that ends.
const HUB: u8 = 254;

impl Network {
    /// A bridge with nobody on it. It needs root, and `ip`.
    ///
    /// # Errors
    /// When either is missing.
    pub fn new() -> Result<Self> {
        let hub = Machine::new(HUB)?;
        hub.ip("link add br0 type bridge stp_state 0")?;
        hub.address("br0")?;
        Ok(Self { hub, joined: 0 })
    }

    /// The bridge as a machine: whoever listens there sees what all others send each other.
    pub fn hub(&self) -> &Machine {
        &self.hub
    }

    /// One more machine on the bridge.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn join(&mut self) -> Result<Machine> {
        self.joined += 1;
        let machine = Machine::new(self.joined)?;
        let port = format!("port{}", machine.number);
        machine.ip(&format!(
            "link add eth0 type veth peer name {port} netns {}",
            self.hub.name
        ))?;
        self.hub.ip(&format!("link set {port} master br0 up"))?;
        machine.address("eth0")?;
        machine.ip(&format!("-4 route add default via {}", v4(HUB)))?;
        machine.ip(&format!("-6 route add default via {}", v6(HUB)))?;
        Ok(machine)
    }
}

impl Machine {
    fn new(number: u8) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "mesh-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        ip(&["netns", "add", &name])?;
        let machine = Self { name, number };
        machine.ip("link set lo up")?;
        Ok(machine)
    }

    fn address(&self, device: &str) -> Result<()> {
        self.ip(&format!("address add {}/16 dev {device}", self.v4()))?;
        self.ip(&format!("address add {}/64 dev {device} nodad", self.v6()))?;
        self.ip(&format!("link set {device} up"))
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        v4(self.number)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        v6(self.number)
    }

    /// The namespace, as a file.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// What runs a program on it, to be given the program.
    pub fn runs(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// What runs a program on it as another user, who may read what root may: the program to be given next may stand in
    /// root's folders.
    pub fn runs_as(&self, user: u32) -> Vec<String> {
        let mut words = self.runs();
        words.extend(
            [
                "setpriv",
                &format!("--reuid={user}"),
                &format!("--regid={user}"),
                "--clear-groups",
                "--inh-caps=+dac_read_search",
                "--ambient-caps=+dac_read_search",
            ]
            .map(str::to_owned),
        );
        words
    }

    /// A program on it.
    pub fn command(&self, program: &str) -> Command {
        let words = self.runs();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let mut words = vec!["-n", &self.name];
        words.extend(arguments.split(' '));
        ip(&words)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

/// Does something on a machine, on a thread of its own, and returns what came of it. Sockets stay where they were made.
///
/// # Errors
/// When there is no such machine, or this process may not go there.
pub fn on<T: Send>(namespace: &std::path::Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(namespace).with_context(|| format!("open {}", namespace.display()))?;
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))?;
            anyhow::Ok(work())
        });
        there
            .join()
            .ok()
            .context("the thread on the other machine failed")?
    })
}

fn v4(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, number).into()
}

fn v6(number: u8) -> IpAddr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()).into()
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("can't run ip: run e2e/packages")?;
    ensure!(
        output.status.success(),
        "ip {} failed (network namespaces need root): {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
