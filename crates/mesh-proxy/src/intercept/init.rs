//! `mesh-proxy init`: writes or removes the rules of interception with `nft`, or prints them.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use mesh_api::network::{Cidr, Ports};

use super::rules::{self, Rules};

/// Where the sidecar takes intercepted connections from others, where nobody says.
pub const INBOUND_PORT: u16 = 15_006;
/// Where the sidecar takes intercepted connections to others, where nobody says.
pub const OUTBOUND_PORT: u16 = 15_001;

/// Lead this network namespace's TCP connections to its sidecar.
///
/// Writes one nftables table, `inet mesh_proxy`, in one transaction: all of it or nothing, in place of what this command
/// wrote before. The Workload's `interception` must name the same two ports. Loopback, UDP and DNS are left alone.
/// It needs `nft`, and CAP_NET_ADMIN in the network namespace: run it as an init container, or as root.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "mesh-proxy init", bin_name = "mesh-proxy init", version)]
pub struct Init {
    /// The user that mesh-proxy runs as, and nothing else does: its own connections are left alone
    #[arg(
        long,
        value_name = "UID",
        env = "MESH_PROXY_UID",
        required_unless_present = "remove"
    )]
    pub proxy_uid: Option<u32>,

    /// Where mesh-proxy takes intercepted connections from others, 1 to 65535
    #[arg(long, value_name = "PORT", default_value_t = INBOUND_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub inbound_port: u16,

    /// Where mesh-proxy takes intercepted connections to others, 1 to 65535
    #[arg(long, value_name = "PORT", default_value_t = OUTBOUND_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub outbound_port: u16,

    /// Leave alone what these users connect to; may be repeated
    #[arg(long, value_name = "UID,..", value_delimiter = ',')]
    pub skip_uid: Vec<u32>,

    /// Leave alone connections from others to these ports, such as 22,9000-9010; may be repeated
    #[arg(long, value_name = "PORTS,..", value_delimiter = ',')]
    pub skip_inbound_port: Vec<Ports>,

    /// Leave alone connections to these ports elsewhere; may be repeated
    #[arg(long, value_name = "PORTS,..", value_delimiter = ',')]
    pub skip_outbound_port: Vec<Ports>,

    /// Leave alone connections to these networks, such as 169.254.169.254,fd00::/8; may be repeated
    #[arg(long, value_name = "CIDR,..", value_delimiter = ',')]
    pub skip_cidr: Vec<Cidr>,

    /// Remove the rules instead; nothing happens if there are none
    #[arg(long)]
    pub remove: bool,

    /// Print what nft would be given, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// The nft program; default: the one on PATH
    #[arg(long, value_name = "FILE", default_value = "nft", hide_default_value = true)]
    pub nft: PathBuf,
}

impl Init {
    /// Does what the flags ask for.
    ///
    /// # Errors
    /// When the flags contradict each other, or nft can't be run or refuses; nothing has changed then.
    pub fn run(&self, out: &mut impl Write) -> Result<()> {
        let transaction = self.transaction()?;
        if self.dry_run {
            return match out.write_all(transaction.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(error).context("print the rules")
                }
                _ => Ok(()),
            };
        }
        self.give(&transaction)
    }

    /// What nft is to be given.
    ///
    /// # Errors
    /// When the flags contradict each other.
    pub fn transaction(&self) -> Result<String> {
        if self.remove {
            return Ok(rules::remove());
        }
        if self.inbound_port == self.outbound_port {
            bail!(
                "--inbound-port and --outbound-port: both are {}: the sidecar must tell the two ways apart",
                self.inbound_port
            );
        }
        let rules = Rules {
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            proxy_uid: self.proxy_uid.context("--proxy-uid: missing")?,
            skip_uids: self.skip_uid.clone(),
            skip_inbound_ports: self.skip_inbound_port.clone(),
            skip_outbound_ports: self.skip_outbound_port.clone(),
            skip_cidrs: self.skip_cidr.clone(),
        };
        Ok(rules.install())
    }

    /// Gives nft a transaction on its standard input.
    fn give(&self, transaction: &str) -> Result<()> {
        let nft = self.nft.display();
        let mut child = Command::new(&self.nft)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => anyhow!(
                    "{nft}: there is no such program: install it (apt-get install nftables), or name it with --nft"
                ),
                _ => anyhow!("{nft}: can't be run: {error}"),
            })?;
        if let Some(mut input) = child.stdin.take() {
            // An nft that ended before it read has its reason to tell.
            let _ = input.write_all(transaction.as_bytes());
        }
        let output = child
            .wait_with_output()
            .with_context(|| format!("wait for {nft}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        Err(anyhow!(
            "{nft} refused the rules, and nothing has changed: {}\n{said}",
            advice(said)
        ))
    }
}

/// What to do about what nft said.
fn advice(said: &str) -> &'static str {
    if said.contains("Operation not permitted") || said.contains("must be root") {
        "run this as root, or with CAP_NET_ADMIN in the network namespace of the workload"
    } else if said.contains("Operation not supported") || said.contains("No such file or directory") {
        "the kernel lacks a part of nftables: it needs nf_tables with nft_chain_nat, nft_redir and nft_fib_inet"
    } else {
        "see what it says"
    }
}

#[cfg(test)]
mod tests;
