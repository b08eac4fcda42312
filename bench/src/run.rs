//! One run: every round starts all contenders afresh and sends each load through each of them in turn; the order is
//! reversed from round to round, so that a drift of the machine hits all alike.

use std::{fs, net::SocketAddr, path::Path, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    contender::{Contender, Ground, Name, Pair},
    interrupt,
    load::Event,
    measure::{cpu, memory::Memory, tree},
    process::{Lines, Place, Running, Start},
    report::sample::{LoadSample, MemorySample, RestSample, Samples},
    rest::{self, Held},
    scenario::{Exchange, Scenario, word},
    tls,
};

/// How long a pair is left alone before its idle memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// How long streams take until all of them are under way.
const STREAMS_BEGIN: Duration = Duration::from_secs(4);

/// How many times as long as the others open loops are measured. They are quoted with their p99: at 2,000 requests a second,
/// one stall of the machine of 25 ms alone makes up the slowest hundredth of 2.5 s.
const OPEN_LOOPS: u32 = 4;

/// What to run.
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) rounds: usize,
    pub(crate) warmup: Duration,
    /// How long each load is measured; open loops four times as long.
    pub(crate) duration: Duration,
    /// Requests per second of the open loops.
    pub(crate) rate: u32,
    /// How many connections are held to see what an idle one takes; none: that is left out.
    pub(crate) held: Option<Held>,
    /// Where load generator and backend run.
    pub(crate) load: Place,
    /// Where both proxies run.
    pub(crate) proxies: Place,
}

/// A contender ready to start, under its name.
pub(crate) type Entry = (Name, Box<dyn Contender>);

/// Runs all rounds. `progress` is told what happens, for people.
pub(crate) fn run(plan: &Plan, contenders: &[Entry], mut progress: impl FnMut(&str)) -> Result<Samples> {
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    interrupt::remove_on_end(scratch.path().to_owned())?;
    let mut stage = Stage::set(plan, scratch.path())?;
    let mut samples = Samples::default();
    for round in 0..plan.rounds {
        let mut order: Vec<&Entry> = contenders.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        stage
            .round(round, &order, &mut samples, &mut progress)
            .with_context(|| format!("round {}", round + 1))?;
    }
    Ok(samples)
}

/// What stays the same over all rounds.
struct Stage<'a> {
    plan: &'a Plan,
    scratch: &'a Path,
    /// Where the backend listens: for inferences, for chats, and for what is opaque.
    backend: [SocketAddr; 3],
    backend_process: Running,
}

/// A contender on the stage.
struct Actor {
    name: Name,
    pair: Pair,
    idle: Memory,
    loaded: Memory,
}

impl<'a> Stage<'a> {
    fn set(plan: &'a Plan, scratch: &'a Path) -> Result<Self> {
        tls::write(scratch)?;
        let itself = std::env::current_exe().context("cannot find the bench's own program")?;
        let start = Start {
            name: "backend",
            program: &itself,
            place: plan.load,
            folder: scratch,
            libraries: None,
        };
        let (backend_process, mut lines) = start.talking(&["backend", "--listen", "127.0.0.1:0"])?;
        let backend = lines
            .next()
            .context("the backend does not say where it listens")?;
        Ok(Self {
            plan,
            scratch,
            backend,
            backend_process,
        })
    }

    fn round(
        &mut self,
        round: usize,
        order: &[&Entry],
        samples: &mut Samples,
        progress: &mut impl FnMut(&str),
    ) -> Result<()> {
        self.backend_process.check()?;
        let mut actors = Vec::new();
        for (name, contender) in order {
            actors.push(
                self.enter(round, *name, contender.as_ref())
                    .with_context(|| name.as_str())?,
            );
        }
        self.rest(round, &actors, samples, progress)?;
        for &scenario in &self.plan.scenarios {
            for actor in actors.iter_mut().filter(|actor| actor.name.plays(scenario)) {
                let name = actor.name.as_str();
                let title = scenario.title(self.plan.rate);
                progress(&format!(
                    "round {}/{}: {title}: {name}",
                    round + 1,
                    self.plan.rounds
                ));
                let sample = self
                    .play(round, scenario, actor)
                    .with_context(|| format!("{title}: {name}"))?;
                samples.loads.push(sample);
            }
        }
        samples.memory.extend(
            actors
                .iter()
                .filter(|actor| !actor.pair.proxies.is_empty())
                .map(|actor| MemorySample {
                    contender: actor.name,
                    round,
                    idle: actor.idle,
                    loaded: actor.loaded,
                }),
        );
        Ok(())
    }

    /// Watches all pairs while they have nothing to do.
    fn rest(
        &self,
        round: usize,
        actors: &[Actor],
        samples: &mut Samples,
        progress: &mut impl FnMut(&str),
    ) -> Result<()> {
        let Some(held) = self.plan.held else { return Ok(()) };
        let resting: Vec<&Actor> = actors
            .iter()
            .filter(|actor| !actor.pair.proxies.is_empty() && !actor.name.compares_workers())
            .collect();
        progress(&format!("round {}/{}: at rest", round + 1, self.plan.rounds));
        let pairs: Vec<&Pair> = resting.iter().map(|actor| &actor.pair).collect();
        let idle_cpu = rest::idle_cpu(&pairs)?;
        for (actor, idle_cpu) in resting.iter().zip(idle_cpu) {
            let name = actor.name.as_str();
            let takes = |is_tls| {
                rest::bytes_per_connection(&actor.pair, is_tls, held, self.plan.load, self.scratch)
                    .with_context(|| format!("idle connections: {name}"))
            };
            samples.rest.push(RestSample {
                contender: actor.name,
                round,
                idle_cpu,
                plaintext: takes(false)?,
                tls: takes(true)?,
            });
        }
        Ok(())
    }

    /// Starts a pair and reads its memory before any load.
    fn enter(&self, round: usize, name: Name, contender: &dyn Contender) -> Result<Actor> {
        let folder = self.scratch.join(format!("{}-{round}", name.as_str()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let ground = Ground {
            backend: self.backend[0],
            chat: self.backend[1],
            opaque: self.backend[2],
            tls: self.scratch,
            folder: &folder,
            place: self.plan.proxies,
            elsewhere: self.plan.load,
        };
        let mut pair = contender.start(&ground)?;
        pair.wait()?;
        thread::sleep(SETTLE);
        let idle = heavier(&pair)?;
        Ok(Actor {
            name,
            pair,
            idle,
            loaded: idle,
        })
    }

    /// Sends one load through one pair.
    fn play(&self, round: usize, scenario: Scenario, actor: &mut Actor) -> Result<LoadSample> {
        let pids: Vec<u32> = actor.pair.proxies.iter().flat_map(Running::pids).collect();
        let (process, mut lines) = self.generate(scenario, &actor.pair)?;
        let own = || tree::of(std::process::id());

        expect(&mut lines, |event| matches!(event, Event::Opened).then_some(()))?;
        let (before, all_before) = (cpu::ticks_of(&pids)?, Busy::read(&own())?);
        expect(&mut lines, |event| matches!(event, Event::Closed).then_some(()))?;
        let (after, all_after) = (cpu::ticks_of(&pids)?, Busy::read(&own())?);
        actor.loaded = actor.loaded.max(heavier(&actor.pair)?);
        let outcome = expect(&mut lines, |event| match event {
            Event::Done(outcome) => Some(outcome),
            Event::Opened | Event::Closed => None,
        })?;
        process.finish()?;

        let failure = || outcome.failure.as_deref().unwrap_or("no reason").to_owned();
        ensure!(outcome.completed > 0, "no request was answered: {}", failure());
        let cpu = cpu::duration_of(after.saturating_sub(before)).as_secs_f64();
        Ok(LoadSample {
            contender: actor.name,
            scenario,
            round,
            cpu_us: (!pids.is_empty()).then(|| cpu * 1e6 / outcome.completed as f64),
            rps: outcome.completed as f64 / outcome.seconds,
            others: all_after.others_since(&all_before).as_secs_f64() / outcome.seconds,
            outcome,
        })
    }

    fn generate(&self, scenario: Scenario, pair: &Pair) -> Result<(Running, Lines)> {
        let (connections, streams) = scenario.connections();
        let warmup = match scenario.exchange() {
            // Hundreds of connections are made first, each with its handshake.
            Exchange::Stream => self.plan.warmup.max(STREAMS_BEGIN),
            _ => self.plan.warmup,
        };
        let duration = match scenario.is_open() {
            true => self.plan.duration * OPEN_LOOPS,
            false => self.plan.duration,
        };
        let seconds = |duration: Duration| format!("{}ms", duration.as_millis());
        let mut arguments = vec![
            "load".to_owned(),
            pair.address(scenario).to_string(),
            format!("--protocol={}", word(&scenario.protocol())),
            format!("--exchange={}", word(&scenario.exchange())),
            format!("--authority={}", pair.authority),
            format!("--connections={connections}"),
            format!("--streams={streams}"),
            format!("--warmup={}", seconds(warmup)),
            format!("--duration={}", seconds(duration)),
        ];
        if scenario.is_open() {
            arguments.push(format!("--rate={}", self.plan.rate));
        }
        if scenario.exchange() == Exchange::Handshake {
            arguments.push(format!("--identity={}", pair.identity.display()));
        }
        let itself = std::env::current_exe().context("cannot find the bench's own program")?;
        Start {
            name: "load",
            program: &itself,
            place: self.plan.load,
            folder: self.scratch,
            libraries: None,
        }
        .talking(&arguments)
    }
}

/// The memory of the heavier one of a pair's proxies, figure by figure.
fn heavier(pair: &Pair) -> Result<Memory> {
    pair.proxies.iter().try_fold(Memory::default(), |most, proxy| {
        Ok(most.max(Memory::of(&proxy.pids())?))
    })
}

/// Waits for one certain event of the load generator.
fn expect<T>(lines: &mut Lines, pick: impl FnOnce(Event) -> Option<T>) -> Result<T> {
    let event: Event = lines.next().context("the load generator")?;
    let text = format!("{event:?}");
    pick(event).with_context(|| format!("the load generator said {text} out of turn"))
}

/// CPU time of the machine and of the bench with all it has started.
struct Busy {
    machine: u64,
    bench: u64,
}

impl Busy {
    fn read(bench: &[u32]) -> Result<Self> {
        // A process that is just ending has no share worth telling.
        let bench = bench
            .iter()
            .filter_map(|&pid| cpu::ProcessTime::of(pid).ok())
            .map(|time| time.ticks)
            .sum();
        Ok(Self {
            machine: cpu::machine_ticks()?,
            bench,
        })
    }

    /// What others than the bench have used since.
    fn others_since(&self, before: &Self) -> Duration {
        let machine = self.machine.saturating_sub(before.machine);
        cpu::duration_of(machine.saturating_sub(self.bench.saturating_sub(before.bench)))
    }
}
