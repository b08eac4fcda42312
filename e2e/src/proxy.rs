//! A sidecar of a mesh on this machine: its process, what it says, and how it is killed, upgraded and drained.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::client;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::wait;

const BINARY: &str = "mesh-proxy";

/// A sidecar.
#[derive(Debug)]
pub struct Proxy {
    workload: String,
    process: Process,
    /// Processes that have handed over to a later one.
    before: Vec<Process>,
    admin: SocketAddr,
    arguments: Vec<String>,
    folder: PathBuf,
}

impl Proxy {
    /// Starts the sidecar of a Workload. It finds what it needs, and keeps its log, in this folder.
    ///
    /// # Errors
    /// When its binary is not built.
    pub(crate) fn start(
        workload: &str,
        admin: SocketAddr,
        arguments: Vec<String>,
        folder: &Path,
    ) -> Result<Self> {
        Ok(Self {
            workload: workload.to_owned(),
            process: Process::start(workload, BINARY, &arguments, folder)?,
            before: Vec::new(),
            admin,
            arguments,
            folder: folder.to_owned(),
        })
    }

    /// The Workload's name.
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where its admin endpoint listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead, or takes too long.
    pub async fn ready(&mut self) -> Result<()> {
        let admin = self.admin;
        wait::until(&format!("the sidecar of {}", self.workload), async || {
            self.process.check()?;
            let answer = client::get(admin, "/ready").await;
            Ok(answer
                .ok()
                .filter(|answer| answer.status.is_success())
                .map(|_| ()))
        })
        .await
    }

    /// Waits until a configuration is in its state: from then on it starts without the control plane.
    ///
    /// # Errors
    /// When it has no state, or saves nothing.
    pub async fn saved(&self) -> Result<()> {
        let mut arguments = self
            .arguments
            .iter()
            .skip_while(|argument| *argument != "--state");
        let state = arguments
            .nth(1)
            .context("a sidecar without --state saves nothing")?;
        let file = Path::new(state).join("config.bin");
        wait::until(&format!("{}", file.display()), async || {
            Ok(file.exists().then_some(()))
        })
        .await
    }

    /// Kills it, and starts it again with the same arguments and state; its join token was used up by the first start.
    ///
    /// # Errors
    /// When it does not get ready again.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = self.start_again()?;
        self.ready().await
    }

    /// Starts it once more beside itself, and waits until the new process has taken over. The old one drains, and ends by
    /// itself.
    ///
    /// # Errors
    /// When the new one does not get ready, or does not take over.
    pub async fn upgrade(&mut self) -> Result<()> {
        let old = self.id().await?;
        let next = self.start_again()?;
        self.before.push(std::mem::replace(&mut self.process, next));
        wait::until(&format!("the next sidecar of {}", self.workload), async || {
            self.process.check()?;
            let new = self.id().await;
            Ok(new.ok().filter(|new| *new != old).map(|_| ()))
        })
        .await?;
        self.ready().await
    }

    /// Waits until every process that has handed over has ended, and ended well.
    ///
    /// # Errors
    /// When one has not, or its limit was over before its streams were.
    pub async fn predecessors_ended(&mut self) -> Result<()> {
        for mut process in self.before.drain(..) {
            let status = process.ended().await?;
            ensure!(
                status.success(),
                "a sidecar of {} ended with {status}",
                self.workload
            );
        }
        let log = self.process.log();
        ensure!(
            !log.contains("--drain-limit is over"),
            "a sidecar of {} did not drain in time",
            self.workload
        );
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }

    fn start_again(&self) -> Result<Process> {
        Process::start(&self.workload, BINARY, &self.arguments, &self.folder)
    }

    /// Tells one start of it from another.
    async fn id(&self) -> Result<String> {
        let table: Value = serde_json::from_slice(&self.page("/table").await?.body)?;
        let id = table["proxyId"].as_str().context("it has no proxyId")?;
        Ok(id.to_owned())
    }

    /// A page of its admin endpoint.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn page(&self, path: &str) -> Result<client::Answer> {
        client::get(self.admin, path).await
    }

    /// Tells it to end when its requests have.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn drain(&self) -> Result<client::Answer> {
        client::post(self.admin, "/drain", "").await
    }

    /// What it counts, now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        let page = self.page("/metrics").await?;
        Ok(Metrics::parse(&page.text()))
    }

    /// The certificates it has obtained since it started.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn certificates(&self) -> Result<u64> {
        let count = self
            .metrics()
            .await?
            .sum("mesh_certificates_total", &[("result", "ok")]);
        Ok(count as u64)
    }
}
