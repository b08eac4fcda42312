//! `mesh-proxy outlast`: waits until nobody else in the network namespace has a connection or listens for one. It is the
//! preStop hook of a sidecar that Kubernetes would end together with the workload, which may still need it.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

/// How often sockets are looked at.
const PAUSE: Duration = Duration::from_millis(250);
/// How many looks in a row must find nothing: a workload may close its last connection and make another.
const QUIET: u32 = 12;

/// Wait until no process of another user has a TCP connection, or listens for one, in this network namespace.
///
/// Kubernetes ends all ordinary containers of a pod at the same time. As a preStop hook this lets the sidecar outlast the
/// workload's containers; the pod's grace period bounds it.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "mesh-proxy outlast", bin_name = "mesh-proxy outlast", version)]
pub struct Outlast {
    /// The user that mesh-proxy runs as: its own sockets do not count
    #[arg(long, value_name = "UID", env = "MESH_PROXY_UID")]
    pub proxy_uid: u32,
}

impl Outlast {
    /// Waits.
    ///
    /// # Errors
    /// When the sockets can't be read.
    pub fn run(&self) -> Result<()> {
        let mut quiet = 0;
        while quiet < QUIET {
            quiet = if self.anybody_else()? { 0 } else { quiet + 1 };
            sleep(PAUSE);
        }
        Ok(())
    }

    fn anybody_else(&self) -> Result<bool> {
        for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let table = match fs::read_to_string(file) {
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.with_context(|| format!("read {file}"))?,
            };
            if uses(&table, self.proxy_uid) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a table of sockets (proc(5), `/proc/net/tcp`) has one in use of another user's. What the kernel still has to do
/// for a process that is gone belongs to no inode.
fn uses(table: &str, proxy_uid: u32) -> bool {
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_ascii_whitespace().skip(3);
        // State, queues, timer, retransmits, user, timeout, inode.
        let (state, user, inode) = (columns.next(), columns.nth(3), columns.nth(1));
        let in_use = state.is_some_and(|state| ["01", "02", "03", "08", "0A"].contains(&state));
        let user: Option<u32> = user.and_then(|user| user.parse().ok());
        in_use && inode.is_some_and(|inode| inode != "0") && user != Some(proxy_uid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn sockets_of_others_are_told_from_the_proxy_s() {
        let row = |state: &str, uid: u32, inode: u32| {
            format!(
                "{HEAD}   0: 0100007F:1F40 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0 100 0 0 10 0\n"
            )
        };
        for (table, expected) in [
            (HEAD.to_owned(), false),
            (row("0A", 1000, 77), true),
            (row("0A", 0, 77), true),
            (row("01", 1000, 77), true),
            (row("08", 1000, 77), true),
            (row("0A", 2102, 77), false),
            (row("01", 2102, 77), false),
            // TIME_WAIT, and what a process left behind.
            (row("06", 0, 0), false),
            (row("01", 0, 0), false),
            ("nonsense\nnonsense\n".to_owned(), false),
        ] {
            assert_eq!(uses(&table, 2102), expected, "{table}");
        }
    }

    #[test]
    fn this_machine_s_own_table_is_understood() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = rustix::process::getuid().as_raw();
        let outlast = |proxy_uid| Outlast { proxy_uid };
        assert!(outlast(ours ^ 1).anybody_else().unwrap());
        drop(listener);
    }
}
