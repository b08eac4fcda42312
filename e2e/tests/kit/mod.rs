//! The installed servers and clients, and how a client is run: what the tests on real servers share.

#![allow(dead_code, reason = "each test uses the part it needs")]

pub(crate) mod serving;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use mesh_e2e::net::free_port;
use meshctl::demo::servers::Ports;
use meshctl::demo::{self, Kit};
use serde_json::Value;

/// What would send a client elsewhere, in whichever case it is written.
const PROXY_VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "GRPC_PROXY",
    "NO_PROXY",
    "NO_GRPC_PROXY",
];

/// The installed servers and clients. The first test to ask installs them, the others wait.
pub(crate) fn kit() -> anyhow::Result<Kit> {
    let extra = fs::read_to_string(here("requirements.txt"))?;
    Ok(demo::provision(&demo::home()?, &extra, &mut |_| ())?)
}

/// A file of this crate.
pub(crate) fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A client script, to be given its arguments. It goes straight to its address, whatever this machine's settings say.
pub(crate) fn script(kit: &Kit, name: &str) -> Command {
    let mut command = Command::new(kit.python());
    command.arg(here("clients").join(name));
    for variable in PROXY_VARIABLES {
        command.env_remove(variable).env_remove(variable.to_lowercase());
    }
    command
}

/// Runs a client script to its end and returns the line it prints.
pub(crate) fn client(kit: &Kit, name: &str, args: &[&str]) -> anyhow::Result<Value> {
    line(script(kit, name).args(args))
}

/// Runs a client to its end and returns the line it prints.
pub(crate) fn line(client: &mut Command) -> anyhow::Result<Value> {
    let line = output(client)?;
    serde_json::from_str(&line).with_context(|| format!("{client:?} printed {line:?}"))
}

/// Runs a command to its end and returns what it prints.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// An address on loopback, as clients take it.
pub(crate) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Ports that nobody listens on, each handed out once.
#[derive(Debug, Default)]
pub(crate) struct FreePorts;

impl FreePorts {
    /// One more.
    pub(crate) fn next(&mut self) -> anyhow::Result<u16> {
        free_port()
    }

    /// Those of a server that speaks Open Inference V2.
    pub(crate) fn three(&mut self) -> anyhow::Result<Ports> {
        Ok(Ports {
            http: self.next()?,
            grpc: self.next()?,
            metrics: self.next()?,
        })
    }
}
