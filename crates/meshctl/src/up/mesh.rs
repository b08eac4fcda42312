//! The processes of a mesh together: begun in order, kept in step with the documents, ended in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use mesh_api::name::ObjectName;
use mesh_api::wire::admin::GetStatusRequest;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::logs::Logs;
use super::plan::{Plan, plans};
use super::process::adopt_orphans;
use super::supervise::{Kept, State};
use super::unit::{Site, Unit, program};
use super::{Guard, Lock};
use crate::client::{self, Admin, answer};
use crate::cmd::Context;
use crate::documents;
use crate::error::{Failure, Outcome};
use crate::mesh_home::{Mesh, MeshHome};
use crate::output::in_words;

/// How often documents are compared with what runs.
const AGAIN: Duration = Duration::from_secs(1);

/// What a mesh is started with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The documents: a folder or a file.
    pub(crate) config: PathBuf,
    /// The mesh.
    pub(crate) mesh: Mesh,
    /// How many threads each proxy has.
    pub(crate) workers: usize,
    /// Whether logs go to standard output too.
    pub(crate) echo: bool,
}

/// A running mesh. Dropping it kills what is left of it; [`Running::stop`] ends it in order.
#[derive(Debug)]
pub(crate) struct Running {
    site: Arc<Site>,
    control: Kept,
    workloads: BTreeMap<ObjectName, Member>,
    problems: BTreeSet<String>,
    _lock: Lock,
}

/// What runs for a Workload.
#[derive(Debug)]
struct Member {
    plan: Plan,
    sidecar: Kept,
    own: Option<Kept>,
}

impl Running {
    /// Starts the control plane, then what the documents say, and waits until each process is ready or has failed.
    /// Ends what it started when `stop` comes first.
    pub(crate) async fn start(
        context: &Context,
        options: Options,
        stop: &CancellationToken,
    ) -> Outcome<Self> {
        let printer = context.printer;
        let (control, proxy) = (program("mesh-control")?, program("mesh-proxy")?);
        options.mesh.make()?;
        let lock = Lock::take(&options.mesh)?;
        MeshHome::find()?.set_current(&options.mesh)?;
        adopt_orphans().context("cannot become the parent of orphans")?;
        // What an earlier mesh of this name left behind says nothing about this one.
        for stale in [options.mesh.control_address(), options.mesh.socket()] {
            let _ = std::fs::remove_file(stale);
        }
        let meshctl = std::env::current_exe().context("cannot find meshctl itself")?;
        let site = Arc::new(Site {
            config: options.config,
            control,
            proxy,
            workers: options.workers,
            guard: Arc::new(Guard::start(&meshctl)?),
            logs: Logs::new(printer, options.echo),
            mesh: options.mesh,
            printer,
        });
        let control = Kept::start(Unit::Control, site.clone(), vec![]);
        let mut running = Self {
            site,
            control,
            workloads: BTreeMap::new(),
            problems: BTreeSet::new(),
            _lock: lock,
        };
        let begun = Instant::now();
        let starting = async {
            let mut state = running.control.state();
            let state = *state
                .wait_for(|state| *state != State::Starting)
                .await
                .context("the control plane's keeper ended")?;
            if state == State::Failed {
                return Err(Failure::new("the control plane does not start"));
            }
            running.follow().await?;
            running.settled().await;
            Ok(())
        };
        let started = tokio::select! {
            started = starting => started,
            () = stop.cancelled() => Err(Failure::Silent),
        };
        if let Err(failure) = started {
            running.stop().await;
            return Err(failure);
        }
        let (ready, all) = running.count();
        printer.say(format!(
            "mesh {} is up: {ready}/{all} processes ready after {}",
            running.site.mesh.name,
            in_words(begun.elapsed())
        ));
        Ok(running)
    }

    /// Keeps what runs in step with the documents until `stop`.
    pub(crate) async fn keep(&mut self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = stop.cancelled() => return,
            }
            // While the control plane is away, what runs goes on.
            let _ = self.follow().await;
        }
    }

    /// The Admin service of this mesh.
    pub(crate) async fn admin(&self) -> Outcome<Admin> {
        client::connect(&self.site.mesh).await
    }

    /// Ends all of it: the Workloads' processes, then the sidecars, then the control plane. A second signal ends it at
    /// once.
    pub(crate) async fn stop(self) {
        let at_once = CancellationToken::new();
        let printer = self.site.printer;
        let impatient = async {
            if let Ok(()) = interrupted().await {
                printer.say("ending at once");
                at_once.cancel();
            }
            std::future::pending::<()>().await;
        };
        let ending = async {
            printer.say(format!("ending mesh {}", self.site.mesh.name));
            let (own, sidecars): (Vec<_>, Vec<_>) = self
                .workloads
                .into_values()
                .map(|it| (it.own, it.sidecar))
                .unzip();
            join_all(own.into_iter().flatten().map(|it| it.stop(&at_once))).await;
            join_all(sidecars.into_iter().map(|it| it.stop(&at_once))).await;
            self.control.stop(&at_once).await;
        };
        tokio::select! {
            () = ending => {}
            () = impatient => {}
        }
    }

    /// Brings what runs in step with the documents in force.
    async fn follow(&mut self) -> Outcome {
        let mut admin = self.admin().await?;
        let status = answer(admin.get_status(GetStatusRequest {})).await?;
        let problems: BTreeSet<String> = status
            .problems
            .iter()
            .map(|problem| {
                let text = crate::cmd::apply::in_words(problem);
                if problem.warning {
                    format!("warning: {text}")
                } else {
                    format!("error: {text}")
                }
            })
            .collect();
        for problem in problems.difference(&self.problems) {
            self.site.printer.say(problem.clone());
        }
        self.problems = problems;
        let listed = documents::list(&mut admin, None, None, None).await?;
        let mut wanted = plans(&listed, &self.site.config);
        self.let_go(&wanted).await;
        // What serves others begins before what only calls.
        let (first, last): (Vec<_>, Vec<_>) = std::mem::take(&mut wanted)
            .into_values()
            .partition(|plan| plan.serves);
        for plan in first {
            self.take_on(plan, false);
        }
        for plan in last {
            self.take_on(plan, true);
        }
        Ok(())
    }

    /// Ends what no document asks for any more, or asks for in another way.
    async fn let_go(&mut self, wanted: &BTreeMap<ObjectName, Plan>) {
        let now = CancellationToken::new();
        let gone: Vec<ObjectName> = self
            .workloads
            .keys()
            .filter(|name| !wanted.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(running) = self.workloads.remove(&name) {
                self.site
                    .printer
                    .say(format!("Workload {name} is gone: ending it"));
                if let Some(own) = running.own {
                    own.stop(&now).await;
                }
                running.sidecar.stop(&now).await;
            }
        }
        for (name, running) in &mut self.workloads {
            let changed = wanted
                .get(name)
                .is_some_and(|plan| plan.process != running.plan.process);
            if let Some(own) = running.own.take_if(|_| changed) {
                self.site
                    .printer
                    .say(format!("Workload {name} has another command: starting it anew"));
                own.stop(&now).await;
            }
        }
    }

    /// Starts what is not running yet.
    fn take_on(&mut self, plan: Plan, after_servers: bool) {
        let servers: Vec<_> = self
            .workloads
            .values()
            .filter(|it| after_servers && it.plan.serves)
            .filter_map(|it| Some(it.own.as_ref()?.state()))
            .collect();
        let site = &self.site;
        let running = self
            .workloads
            .entry(plan.workload.clone())
            .or_insert_with(|| Member {
                sidecar: Kept::start(Unit::Sidecar(plan.workload.clone()), site.clone(), vec![]),
                plan: plan.clone(),
                own: None,
            });
        if let (None, Some(process)) = (&running.own, &plan.process) {
            let unit = Unit::Own(plan.workload.clone(), process.clone());
            let after = std::iter::once(running.sidecar.state()).chain(servers).collect();
            running.own = Some(Kept::start(unit, site.clone(), after));
        }
        running.plan = plan;
    }

    /// Waits until each process is ready, or has failed once.
    async fn settled(&self) {
        for mut state in self.states() {
            // A keeper that ended has nothing more to wait for.
            let _ = state.wait_for(|state| *state != State::Starting).await;
        }
    }

    fn states(&self) -> Vec<tokio::sync::watch::Receiver<State>> {
        let workloads = self.workloads.values();
        let of = |it: &Member| std::iter::once(it.sidecar.state()).chain(it.own.as_ref().map(Kept::state));
        std::iter::once(self.control.state())
            .chain(workloads.flat_map(|it| of(it).collect::<Vec<_>>()))
            .collect()
    }

    /// How many processes are ready, of how many.
    pub(crate) fn count(&self) -> (usize, usize) {
        let states = self.states();
        let ready = states
            .iter()
            .filter(|state| *state.borrow() == State::Ready)
            .count();
        (ready, states.len())
    }
}

/// Waits for the signal that asks meshctl to end: Ctrl-C, SIGTERM, or the terminal's end.
pub(crate) async fn interrupted() -> Outcome {
    let mut term = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = hang_up.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
