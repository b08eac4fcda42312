//! `mesh-bench`: measures a sidecar pair with mTLS against its peers, in turns, in one run.
//!
//! The method is in `docs/performance.md`. Exit code 0: measured; 1: failed; 2: wrong usage.

mod backend;
mod cli;
mod contender;
mod count;
mod install;
mod interrupt;
mod isolate;
mod load;
mod local;
mod machine;
mod measure;
mod payload;
mod process;
mod report;
mod rest;
mod run;
mod scenario;
mod spread;
mod tls;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::{
    cli::{Cli, Command, LoadArgs, RunArgs},
    contender::{Name, Sources},
    load::hold::Hold,
    machine::Machine,
    process::Place,
    report::{Report, summary::Summary},
    rest::Held,
    run::Entry,
    scenario::{Exchange, Protocol},
};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run_all(&args),
        Command::Load(args) => send_load(&args),
        Command::Backend { listen } => local::block_on(backend::serve(listen, |at| say(&at))).flatten(),
        Command::Count {
            mesh,
            proxy,
            budget,
            update,
        } => mesh.map_or_else(beside_this, Ok).and_then(|mesh| {
            let plan = count::Plan {
                mesh,
                proxy,
                budget,
                updates: update,
            };
            count::run(&plan, |line| eprintln!("{line}"))
        }),
        Command::Hold {
            to,
            connections,
            authority,
            identity,
        } => hold(&Hold {
            to,
            authority,
            connections: connections.into(),
            identity,
        }),
        Command::Launch {
            core,
            nice,
            every_core,
            command,
        } => process::launch(
            Place {
                core,
                nice,
                every_core,
            },
            &command,
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(args: &RunArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (flag, core) in [("--load-core", args.load_core), ("--proxy-core", args.proxy_core)] {
        ensure!(
            core < cores,
            "{flag} {core}: this machine has cores 0 to {}",
            cores - 1
        );
    }
    let (contenders, missing) = prepare(args)?;
    let isolated = !args.shared_network && isolate().is_some();
    let plan = run::Plan {
        scenarios: args.scenarios.clone(),
        rounds: args.rounds.into(),
        warmup: args.warmup,
        duration: args.duration,
        rate: args.rate,
        held: (!args.no_rest).then(|| Held(args.held.into())),
        load: Place {
            core: args.load_core,
            nice: args.nice,
            every_core: false,
        },
        proxies: Place {
            core: args.proxy_core,
            nice: args.nice,
            every_core: false,
        },
    };
    let samples = run::run(&plan, &contenders, |what| eprintln!("{what}"))?;
    let names: Vec<Name> = contenders.iter().map(|(name, _)| *name).collect();
    let report = Report {
        machine: Machine::here(isolated),
        versions: contenders
            .iter()
            .map(|(name, contender)| (*name, contender.version().to_owned()))
            .collect(),
        missing,
        rounds: plan.rounds,
        duration: plan.duration,
        rate: plan.rate,
        load: plan.load,
        proxies: plan.proxies,
        summary: Summary::of(&samples, &plan.scenarios, &names),
        scenarios: plan.scenarios,
        samples,
    };
    print(&report.render(args.output)?)?;
    let missed = report
        .summary
        .bars
        .iter()
        .filter(|bar| bar.holds != Some(true))
        .count();
    ensure!(
        !args.bars || missed == 0,
        "{missed} bars do not hold, or could not be told"
    );
    Ok(())
}

/// A contender that cannot take part, and why.
type Missing = (Name, String);

/// Gets every contender, `direct` first. One that cannot be had is an error if it was asked for by name.
fn prepare(args: &RunArgs) -> Result<(Vec<Entry>, Vec<Missing>)> {
    let sources = Sources {
        cache: args.cache.clone(),
        envoy: args.envoy.clone(),
        nginx: args.nginx.clone(),
        haproxy: args.haproxy.clone(),
        mesh: args.mesh.clone().map_or_else(beside_this, Ok)?,
    };
    let wanted = if args.contenders.is_empty() {
        Name::PROXIES
    } else {
        &args.contenders
    };
    let mut contenders = vec![(Name::Direct, contender::prepare(Name::Direct, &sources)?)];
    let mut missing = Vec::new();
    for &name in wanted.iter().filter(|name| **name != Name::Direct) {
        match contender::prepare(name, &sources) {
            Ok(contender) => contenders.push((name, contender)),
            Err(error) if args.contenders.is_empty() => {
                eprintln!("warning: {} IS LEFT OUT: {error:#}", name.as_str());
                missing.push((name, format!("{error:#}")));
            }
            Err(error) => return Err(error).context(name.as_str()),
        }
    }
    Ok((contenders, missing))
}

/// The folder this program is in.
fn beside_this() -> Result<PathBuf> {
    let itself = std::env::current_exe().context("cannot find the bench's own program")?;
    Ok(itself.parent().map(Path::to_owned).unwrap_or_default())
}

fn isolate() -> Option<()> {
    isolate::enter()
        .inspect_err(|error| eprintln!("warning: the run shares the machine's network: {error:#}"))
        .ok()
}

fn send_load(args: &LoadArgs) -> Result<()> {
    ensure!(
        (args.exchange == Exchange::Handshake) == args.identity.is_some(),
        "--identity FILE is for --exchange handshake, and needed there"
    );
    ensure!(
        args.protocol != Protocol::Http1 || args.streams == 1,
        "--streams {}: http1 has one request at a time on a connection",
        args.streams
    );
    let plan = load::Plan {
        protocol: args.protocol,
        exchange: args.exchange,
        identity: args.identity.clone(),
        to: args.to,
        authority: args.authority.clone(),
        connections: args.connections.into(),
        streams: args.streams.into(),
        rate: args.rate,
        warmup: args.warmup,
        duration: args.duration,
    };
    local::block_on(load::run(&plan, |event| say(&event))).flatten()
}

fn hold(hold: &Hold) -> Result<()> {
    local::block_on(load::hold::run(hold, |event| say(&event))).flatten()
}

/// Prints one JSON line.
fn say(what: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string(what).context("cannot write JSON")? + "\n"))
}

/// Prints data for whoever reads; a reader that has gone is no error.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the output"),
    }
}
