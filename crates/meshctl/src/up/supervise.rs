//! Keeps one process running: starts it, tells when it is ready, starts it again when it dies, ends it when asked to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::logs::Log;
use super::process::{Group, in_words};
use super::unit::{Probe, Site, Unit};
use crate::output::{self, Style, Text};

/// How often an unready process is asked.
const ASK: Duration = Duration::from_millis(30);
/// The pause before the first new start; it doubles with every death.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A process that lived so long begins with the first pause again.
const LONG_LIFE: Duration = Duration::from_secs(60);
/// How many lines of its log are told about a process that died.
const TAIL: usize = 12;

/// How a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// It is not ready yet.
    #[default]
    Starting,
    /// It is ready.
    Ready,
    /// It died, or was not ready in time; it may come back.
    Failed,
}

/// A process that is kept running.
#[derive(Debug)]
pub(super) struct Kept {
    stop: CancellationToken,
    kill: CancellationToken,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Starts it as soon as `after` is ready, or has failed.
    pub(super) fn start(unit: Unit, site: Arc<Site>, after: Vec<watch::Receiver<State>>) -> Self {
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let (sender, state) = watch::channel(State::Starting);
        let keeper = Keeper {
            log: unit.log(&site),
            unit,
            site,
            stop: stop.clone(),
            kill: kill.clone(),
            state: sender,
        };
        let task = tokio::spawn(async move {
            let turn = async {
                for mut state in after {
                    // Its end is an answer too.
                    let _ = state.wait_for(|state| *state != State::Starting).await;
                }
            };
            tokio::select! {
                () = turn => keeper.keep().await,
                () = keeper.stop.cancelled() => {}
            }
        });
        Self {
            stop,
            kill,
            state,
            task,
        }
    }

    /// How it is, now and later.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Asks it to end, as fast as that goes if `at_once` is told.
    pub(super) async fn stop(self, at_once: &CancellationToken) {
        self.stop.cancel();
        let mut task = self.task;
        tokio::select! {
            _ = &mut task => return,
            () = at_once.cancelled() => self.kill.cancel(),
        }
        // The task only fails when it is aborted, which nobody does.
        let _ = task.await;
    }
}

struct Keeper {
    unit: Unit,
    site: Arc<Site>,
    log: Arc<Log>,
    stop: CancellationToken,
    kill: CancellationToken,
    state: watch::Sender<State>,
}

/// How one life of a process ended.
enum End {
    Asked,
    Died(String),
}

impl Keeper {
    async fn keep(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let born = Instant::now();
            let End::Died(why) = self.live().await else {
                return;
            };
            self.state.send_replace(State::Failed);
            if born.elapsed() > LONG_LIFE {
                pause = FIRST_PAUSE;
            }
            self.tell_death(&why, pause);
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// One life of the process.
    async fn live(&self) -> End {
        let born = Instant::now();
        let preparing = tokio::select! {
            prepared = self.unit.command(&self.site) => prepared,
            () = self.stop.cancelled() => return End::Asked,
        };
        let (command, probe) = match preparing {
            Ok(prepared) => prepared,
            Err(failure) => return End::Died(failure.to_string()),
        };
        let mut group = match command.start(&self.site.guard) {
            Ok(group) => group,
            Err(error) => return End::Died(format!("cannot run {}: {error}", command.program.display())),
        };
        let reading = self.read(&mut group);
        let end = tokio::select! {
            ended = group.ended() => End::Died(match ended {
                Ok(status) => in_words(status),
                Err(error) => error.to_string(),
            }),
            end = self.watch(&probe, born) => end,
        };
        let patience = match end {
            End::Asked => self.unit.farewell(),
            // Workers that it left behind need no long farewell.
            End::Died(_) => Duration::from_secs(1),
        };
        tokio::select! {
            () = group.stop(patience) => {}
            // Dropping the group kills it.
            () = self.kill.cancelled() => {}
        }
        // Its last words are in the pipe still; a stranger who holds the pipe open must not hold us.
        let _ = tokio::time::timeout(Duration::from_millis(500), reading).await;
        end
    }

    fn read(&self, group: &mut Group) -> JoinHandle<()> {
        let (stdout, stderr) = group.output();
        let (one, other) = (self.log.clone(), self.log.clone());
        tokio::spawn(async move {
            let out = async {
                if let Some(stdout) = stdout {
                    one.take(stdout).await;
                }
            };
            let err = async {
                if let Some(stderr) = stderr {
                    other.take(stderr).await;
                }
            };
            tokio::join!(out, err);
        })
    }

    /// Tells when the process is ready, and goes on until somebody asks for its end.
    async fn watch(&self, probe: &Probe, born: Instant) -> End {
        let ready = async {
            while !probe.answers().await {
                sleep(ASK).await;
            }
        };
        let patience = self.unit.patience();
        let mut late = false;
        tokio::pin!(ready);
        loop {
            tokio::select! {
                () = &mut ready => break,
                () = self.stop.cancelled() => return End::Asked,
                () = sleep(patience), if !late => {
                    late = true;
                    self.state.send_replace(State::Failed);
                    self.tell_late(patience);
                }
            }
        }
        self.state.send_replace(State::Ready);
        self.tell_ready(born.elapsed());
        self.stop.cancelled().await;
        End::Asked
    }

    fn tell_ready(&self, after: Duration) {
        self.tell(
            Style::Good,
            "✓ ready",
            format!("{:<32} {:>7}", self.unit.name(), output::in_words(after)),
        );
    }

    fn tell_late(&self, patience: Duration) {
        let text = format!(
            "{} after {}; waiting on",
            self.unit.name(),
            output::in_words(patience)
        );
        self.tell(Style::Warn, "! not ready", text);
        self.tell_tail();
    }

    fn tell_death(&self, why: &str, pause: Duration) {
        let again = output::in_words(pause);
        self.tell(
            Style::Bad,
            "✗ failed",
            format!("{} {why}; starting it again in {again}", self.unit.name()),
        );
        self.tell_tail();
    }

    fn tell_tail(&self) {
        for line in self.log.tail(TAIL) {
            self.site
                .printer
                .say(Text::styled(Style::Faint, "    │ ").plain(line));
        }
    }

    fn tell(&self, style: Style, word: &str, text: String) {
        self.site
            .printer
            .say(Text::styled(style, format!("{word:<12}")).plain(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh_home::MeshHome;
    use crate::up::logs::Logs;
    use crate::up::plan::Process;
    use crate::up::process::Command;

    fn site(dir: &std::path::Path) -> Arc<Site> {
        let mesh = MeshHome::at(dir).mesh(&"test".parse().unwrap());
        mesh.make().unwrap();
        Arc::new(Site {
            config: dir.to_owned(),
            control: "/no/mesh-control".into(),
            proxy: "/no/mesh-proxy".into(),
            workers: 1,
            guard: Arc::default(),
            logs: Logs::new(output::Printer, false),
            printer: output::Printer,
            mesh,
        })
    }

    fn unit(script: &str, dir: &std::path::Path) -> Unit {
        let command = Command {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            dir: dir.to_owned(),
            ..Command::default()
        };
        Unit::Own("ml/a".parse().unwrap(), Process { command, ready: None })
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo x >> lives; [ $(wc -l < lives) -ge 2 ] && exec sleep 1000; exit 1";
        let kept = Kept::start(unit(script, dir.path()), site(dir.path()), vec![]);
        let mut state = kept.state();
        state.wait_for(|state| *state == State::Failed).await.unwrap();
        state.wait_for(|state| *state == State::Ready).await.unwrap();
        // It counts as ready when it runs: what it does first may take a moment.
        while std::fs::read_to_string(dir.path().join("lives")).unwrap() != "x\nx\n" {
            tokio::task::yield_now().await;
        }
        kept.stop(&CancellationToken::new()).await;
    }

    #[tokio::test]
    async fn it_waits_for_those_before_it_and_can_be_stopped_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (_never, before) = watch::channel(State::Starting);
        let kept = Kept::start(unit("touch started", dir.path()), site(dir.path()), vec![before]);
        kept.stop(&CancellationToken::new()).await;
        assert!(!dir.path().join("started").exists());
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_when_there_is_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done";
        let kept = Kept::start(unit(script, dir.path()), site(dir.path()), vec![]);
        kept.state()
            .wait_for(|state| *state == State::Ready)
            .await
            .unwrap();
        let at_once = CancellationToken::new();
        at_once.cancel();
        kept.stop(&at_once).await;
    }
}
