//! Processes of pods, as this machine sees them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the processes of this name in the pod with this UID.
///
/// # Errors
/// When there is none.
pub(super) fn kill(uid: &str, program: &str) -> Result<()> {
    let mut killed = 0;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        if !is(&process, uid, program) {
            continue;
        }
        let id = process.file_name().and_then(|name| name.to_str()?.parse().ok());
        let id = id.and_then(Pid::from_raw).context("no process id")?;
        kill_process(id, Signal::KILL)?;
        killed += 1;
    }
    ensure!(killed > 0, "no {program} runs in the pod with UID {uid}");
    Ok(())
}

/// A process that has ended meanwhile is none.
fn is(process: &Path, uid: &str, program: &str) -> bool {
    let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
    // Control groups of pods are named after their UID.
    read("comm").trim_end() == program && read("cgroup").contains(uid)
}
