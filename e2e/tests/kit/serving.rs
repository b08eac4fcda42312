//! A server script that runs beside a test, and what it says.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use meshctl::demo::Kit;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;

use super::here;

/// A server script that runs until this is dropped. It prints `ready`, and then lines of JSON.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Serving {
    /// Starts a server of `servers/` on this port of loopback, and waits until it is ready.
    pub(crate) fn start(kit: &Kit, name: &str, port: u16) -> Result<Self> {
        let mut command = Command::new(kit.python());
        command
            .arg(here("servers").join(name))
            .args(["127.0.0.1", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec only one system call is made, which prctl(2) allows there.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?);
        let lines = Arc::default();
        let serving = Self {
            child,
            lines: Arc::clone(&lines),
        };
        let mut first = String::new();
        output.read_line(&mut first)?;
        ensure!(
            first.trim() == "ready",
            "{name} said {first:?} instead of getting ready"
        );
        std::thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(serving)
    }

    /// What it has said since it was ready.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
