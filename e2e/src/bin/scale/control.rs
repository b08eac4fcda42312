//! The control plane as it runs in a cluster: its process, with the permissions of its ServiceAccount, and what it takes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mesh_e2e::client;
use mesh_e2e::net::{free_port, local};
use mesh_e2e::process::Process;
use mesh_e2e::wait;

use crate::server::{SYSTEM, Server};

/// Its process.
pub(crate) struct Control {
    process: Process,
    /// Where proxies connect.
    pub(crate) address: SocketAddr,
    /// From its start until it had read everything.
    pub(crate) ready: Duration,
}

impl Control {
    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(program: &Path, server: &Server) -> Result<Self> {
        let kubeconfig = server.control_kubeconfig()?;
        let [address, webhooks, metrics, admin] =
            [free_port()?, free_port()?, free_port()?, free_port()?].map(local);
        let arguments = [
            "kubernetes".to_owned(),
            format!("--namespace={SYSTEM}"),
            "--pod=mesh-control-scale".to_owned(),
            format!("--listen={address}"),
            format!("--webhook-listen={webhooks}"),
            format!("--metrics-listen={metrics}"),
            format!("--admin-listen={admin}"),
        ];
        // It becomes the program, which has the same id then.
        let by = [
            "/usr/bin/env".to_owned(),
            format!("KUBECONFIG={}", kubeconfig.display()),
        ];
        let started = Instant::now();
        let mut process = Process::start_by(&by, "mesh-control", program, &arguments, server.folder())?;
        wait::until("the control plane to be ready", async || {
            process.check()?;
            let ready = client::get(metrics, "/ready").await;
            Ok(ready.is_ok_and(|answer| answer.success().is_ok()).then_some(()))
        })
        .await
        .with_context(|| process.last_words())?;
        Ok(Self {
            process,
            address,
            ready: started.elapsed(),
        })
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// What it said last.
    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// The processor time it has used, but for that of threads that have ended: none of those that work does.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let ran = text.split_ascii_whitespace().next();
            nanoseconds += ran.and_then(|ran| ran.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The memory it holds, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.process.resident_bytes()
    }

    /// The most it has held, in bytes.
    pub(crate) fn peak(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        Ok(kilobytes.context("the control plane has no memory")? << 10)
    }
}
