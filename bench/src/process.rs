//! Processes that the bench starts: each on its own core, each ended with the bench, however that ends.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{Pid, Signal, kill_process, nice, set_parent_process_death_signal, setsid},
    thread::{CpuSet, sched_setaffinity},
};
use serde::Serialize;

use crate::measure::tree;

/// How long a process may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a process runs.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Place {
    /// The core it is bound to.
    pub(crate) core: usize,
    /// How much nicer than the bench it is to others, -20 to 19 (nice(2)).
    pub(crate) nice: i8,
    /// Whether it may run on all others besides.
    pub(crate) every_core: bool,
}

/// A process that runs until this value is dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How to start a process.
pub(crate) struct Start<'a> {
    /// What people call it.
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) place: Place,
    /// The folder its log (`NAME.log`) goes to.
    pub(crate) folder: &'a Path,
    /// Where it finds libraries that the system does not have.
    pub(crate) libraries: Option<&'a Path>,
}

impl Start<'_> {
    /// Starts it with these arguments; what it prints goes to the log.
    pub(crate) fn quiet<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Running> {
        let log = self.log()?;
        let stdout = log.try_clone().context("cannot share a log file")?;
        self.spawn(arguments, stdout.into(), log)
    }

    /// Starts it with these arguments, and gives what it prints on standard output as lines.
    pub(crate) fn talking<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<(Running, Lines)> {
        let log = self.log()?;
        let mut running = self.spawn(arguments, Stdio::piped(), log)?;
        let stdout = running
            .child
            .stdout
            .take()
            .context("the process has no standard output")?;
        Ok((running, Lines(BufReader::new(stdout))))
    }

    fn spawn<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], stdout: Stdio, log: File) -> Result<Running> {
        // The bench starts itself as launcher, which binds itself to the core and then becomes the program.
        let itself = std::env::current_exe().context("cannot find the bench's own program")?;
        let mut command = Command::new(itself);
        if let Some(libraries) = self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let child = command
            .arg("launch")
            .arg(format!("--core={}", self.place.core))
            .arg(format!("--nice={}", self.place.nice))
            .args(self.place.every_core.then_some("--every-core"))
            .arg("--")
            .arg(self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        Ok(Running {
            name: self.name.to_owned(),
            child,
            log: self.log_path(),
        })
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn log(&self) -> Result<File> {
        let path = self.log_path();
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Running {
    /// Its process id and those of its descendants.
    pub(crate) fn pids(&self) -> Vec<u32> {
        tree::of(self.child.id())
    }

    /// Where what it prints goes.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Fails, with the end of its log, if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self
            .child
            .try_wait()
            .with_context(|| format!("cannot wait for {}", self.name))?
        {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}\n{}", self.name, self.last_words()),
        }
    }

    /// The last lines of its log, indented.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(10)..];
        tail.iter()
            .map(|line| format!("  {}: {line}", self.name))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Waits for it to end by itself; it must end well.
    pub(crate) fn finish(mut self) -> Result<()> {
        let status = self
            .child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))?;
        if !status.success() {
            bail!("{} ended with {status}\n{}", self.name, self.last_words());
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::TERM);
            let patience = Instant::now() + PATIENCE;
            while Instant::now() < patience && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process prints, line by line.
pub(crate) struct Lines(BufReader<ChildStdout>);

impl Lines {
    /// The next line, read as JSON; it is an error if the process ends first.
    pub(crate) fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        let read = self
            .0
            .read_line(&mut line)
            .context("cannot read from a process")?;
        anyhow::ensure!(read > 0, "the process ended too early");
        serde_json::from_str(&line).with_context(|| format!("cannot understand {:?}", line.trim_end()))
    }
}

/// Becomes `command`, put in its place, and ended by the kernel when the process that started it ends.
pub(crate) fn launch(place: Place, command: &[std::ffi::OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("launch needs a command")?;
    if !place.every_core {
        let mut cores = CpuSet::new();
        cores.set(place.core);
        sched_setaffinity(None, &cores).with_context(|| format!("cannot bind to core {}", place.core))?;
    }
    if place.nice != 0 {
        be_nice(place.nice).with_context(|| format!("cannot be as nice as {}", place.nice))?;
    }
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot ask to end with the parent")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Changes this process's priority, also where the kernel shares cores out between sessions first ("autogroup", see
/// sched(7)): there niceness counts only within a session, so the process gets one of its own with the same niceness.
fn be_nice(by: i8) -> Result<()> {
    nice(by.into())?;
    if Path::new(AUTOGROUP).exists() {
        setsid()?;
        fs::write(AUTOGROUP, by.to_string())?;
    }
    Ok(())
}

const AUTOGROUP: &str = "/proc/self/autogroup";

/// Writes a new file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
