//! What is left when meshctl is killed outright: a guard ends the process groups that meshctl started.
//!
//! The guard is a process of its own that reads the groups from its standard input. When meshctl ends, however it
//! ends, the system closes that input, and the guard ends what meshctl did not end itself.

use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::Outcome;

/// How long groups have between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the guard.
#[derive(Debug, Default)]
pub(crate) struct Guard(Option<Mutex<ChildStdin>>);

impl Guard {
    /// Starts a guard: `meshctl guard` of this program.
    pub(crate) fn start(meshctl: &Path) -> Outcome<Self> {
        let mut child = Command::new(meshctl)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for meshctl: the guard outlives it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {} guard", meshctl.display()))?;
        Ok(Self(child.stdin.take().map(Mutex::new)))
    }

    /// From now on the group is the guard's care.
    pub(crate) fn watch(&self, group: Pid) {
        self.tell('+', group);
    }

    /// The group has ended.
    pub(crate) fn forget(&self, group: Pid) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: Pid) {
        if let Some(guard) = &self.0 {
            let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
            // Without its guard, meshctl goes on: the guard is for the day meshctl itself is killed.
            let _ = writeln!(guard, "{sign}{}", group.as_raw_nonzero());
        }
    }
}

/// The guard itself: learns groups until meshctl has ended, then ends those that are left.
pub(crate) fn run() -> Outcome {
    let mut groups: Vec<Pid> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let Some(group) = line
            .get(1..)
            .and_then(|it| it.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        groups.retain(|other| *other != group);
        if line.starts_with('+') {
            groups.push(group);
        }
    }
    let signal = |groups: &mut Vec<Pid>, signal| {
        groups.retain(|group| kill_process_group(*group, signal).is_ok());
    };
    signal(&mut groups, Signal::TERM);
    let mut waited = Duration::ZERO;
    while !groups.is_empty() && waited < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
        waited += Duration::from_millis(100);
        groups.retain(|group| rustix::process::test_kill_process_group(*group).is_ok());
    }
    signal(&mut groups, Signal::KILL);
    Ok(())
}
