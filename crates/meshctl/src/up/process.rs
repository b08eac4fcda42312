//! A process and all that it starts: one process group, ended as one.
//!
//! Servers leave workers behind when they die. meshctl therefore makes itself the parent of orphans (a subreaper), so
//! that it can wait for a whole group, and asks the system to end its children when it is killed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getppid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, test_kill_process_group, waitpgid,
};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::time::{Instant, sleep};

use super::Guard;

/// How often an ending group is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a group has to be gone after SIGKILL; only a process that hangs in the kernel needs longer.
const KILLED: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// The program: a path, or a name in PATH.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<String>,
    /// More environment variables.
    pub(super) env: BTreeMap<String, String>,
    /// Where it runs.
    pub(super) dir: PathBuf,
}

/// A running process group.
#[derive(Debug)]
pub(super) struct Group {
    leader: tokio::process::Child,
    id: Pid,
    guard: Arc<Guard>,
}

/// Makes this process the parent of what its children leave behind.
pub(super) fn adopt_orphans() -> io::Result<()> {
    set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

impl Command {
    /// Starts it in a group of its own.
    pub(super) fn start(&self, guard: &Arc<Guard>) -> io::Result<Group> {
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.args)
            .envs(&self.env)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let parent = rustix::process::getpid();
        let on_death = move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            // The parent may have died before the line above.
            if getppid() != Some(parent) {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        };
        // SAFETY: between fork and exec only two system calls are made; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(on_death) };
        let leader = tokio::process::Command::from(command).spawn()?;
        let id = leader
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| io::Error::other("it ended before it began"))?;
        guard.watch(id);
        Ok(Group {
            leader,
            id,
            guard: guard.clone(),
        })
    }
}

impl Group {
    /// What its first process prints.
    pub(super) fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.leader.stdout.take(), self.leader.stderr.take())
    }

    /// Waits until its first process has ended.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Ends all of it: SIGTERM, then SIGKILL for what is still there after `patience`.
    pub(super) async fn stop(mut self, patience: Duration) {
        // A group that is gone already can't be signalled, which is as well.
        let _ = kill_process_group(self.id, Signal::TERM);
        if self.gone_within(patience).await {
            return;
        }
        let _ = kill_process_group(self.id, Signal::KILL);
        self.gone_within(KILLED).await;
    }

    async fn gone_within(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            if matches!(self.leader.try_wait(), Ok(Some(_)) | Err(_)) {
                // The leader is reaped; what it left behind is ours now.
                while let Ok(Some(_)) = waitpgid(self.id, WaitOptions::NOHANG) {}
                if test_kill_process_group(self.id).is_err() {
                    return true;
                }
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // After `stop` there is nobody left to signal. After anything else, nobody may be left.
        let _ = kill_process_group(self.id, Signal::KILL);
        self.guard.forget(self.id);
    }
}

/// How a process ended, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    fn shell(script: &str) -> Command {
        Command {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            dir: "/".into(),
            ..Command::default()
        }
    }

    async fn first_line(group: &mut Group) -> String {
        let stdout = group.output().0.unwrap();
        let mut lines = BufReader::new(stdout).lines();
        lines.next_line().await.unwrap().unwrap()
    }

    fn alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[tokio::test]
    async fn a_group_ends_with_what_it_started() {
        adopt_orphans().unwrap();
        let guard = Arc::default();
        let mut group = shell("sleep 1000 & echo $!; wait").start(&guard).unwrap();
        let sleeper = first_line(&mut group).await;
        assert!(alive(&sleeper));
        group.stop(Duration::from_secs(10)).await;
        assert!(!alive(&sleeper));
    }

    #[tokio::test]
    async fn what_ignores_sigterm_is_killed() {
        adopt_orphans().unwrap();
        let guard = Arc::default();
        let script = "trap '' TERM; (trap '' TERM; sleep 1000) & echo $!; wait";
        let mut group = shell(script).start(&guard).unwrap();
        let stubborn = first_line(&mut group).await;
        group.stop(Duration::from_millis(100)).await;
        assert!(!alive(&stubborn));
    }

    #[tokio::test]
    async fn what_a_dead_leader_left_behind_ends_too() {
        adopt_orphans().unwrap();
        let guard = Arc::default();
        let mut group = shell("sleep 1000 & echo $!; exit 3").start(&guard).unwrap();
        let orphan = first_line(&mut group).await;
        let status = group.ended().await.unwrap();
        assert_eq!(in_words(status), "ended with exit code 3");
        assert!(alive(&orphan));
        group.stop(Duration::from_secs(10)).await;
        assert!(!alive(&orphan));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let command = Command {
            program: "/no/such/program".into(),
            dir: "/".into(),
            ..Command::default()
        };
        assert!(command.start(&Arc::default()).is_err());
    }
}
