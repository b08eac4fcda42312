//! A port of a pod, on loopback.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::kubectl::Kubectl;

/// `kubectl port-forward`, until this value is dropped.
#[derive(Debug)]
pub struct PortForward {
    child: Child,
    port: u16,
}

impl PortForward {
    /// Forwards a port of loopback to this port of what is meant, such as `pod/a` or `service/b`.
    ///
    /// # Errors
    /// When `kubectl` does not.
    pub fn start(kubectl: &Kubectl, to: &str, port: u16) -> Result<Self> {
        let mut command = kubectl.command();
        command
            .args(["port-forward", "--address=127.0.0.1", to, &format!(":{port}")])
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec only one system call is made, which prctl(2) allows there.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().context("start kubectl port-forward")?;
        let mut said = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        // `Forwarding from 127.0.0.1:40123 -> 8080`
        let port = line
            .split_once("127.0.0.1:")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let Some(port) = port else {
            let _ = child.kill();
            child.wait()?;
            bail!("kubectl port-forward {to} said {line:?}");
        };
        // It prints a line for each connection, and would wait for somebody to read it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Ok(Self { child, port })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
