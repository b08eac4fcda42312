//! A large mesh on a real API server: what it costs the control plane, and how long changes take to arrive.
//!
//! `cargo build --workspace --bins && cargo run -p mesh-e2e --bin scale -- --control target/dist/mesh-control`
//!
//! etcd and kube-apiserver run, and mesh-control as it runs in a cluster, with the permissions of the chart and no others.
//! Services, EndpointSlices and Pods are written as their controllers write them. The proxies are simulated: each has the
//! token of its own pod, gets a certificate with it, follows its configuration over mutual TLS, applies and acknowledges.
//! Changes are made through the API server, one at a time, and are timed from the request to the last acknowledgement.
//!
//! It fails when an aim is missed, when a proxy is told of what it does not use, or when the status of the route does not
//! say that all proxies serve it.

mod changes;
mod control;
mod objects;
mod proxies;
mod report;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use mesh_e2e::process::binary;

use changes::Change;
use control::Control;
use objects::{STABLE, Size};
use proxies::Fleet;
use report::{Report, Started};
use server::Server;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(40 * 60);
/// How long the control plane is left alone before it is said to be at rest, and how long it is then looked at.
const SETTLING: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(20);

/// Measures the control plane with a large mesh on a real API server.
#[derive(Debug, Parser)]
struct Arguments {
    /// The control plane's program; this build's where none is named
    #[arg(long, value_name = "FILE")]
    control: Option<PathBuf>,
    /// How many Services
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = within(20, 10_000))]
    services: usize,
    /// How many endpoints each has
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = within(1, 90))]
    endpoints: usize,
    /// How many of the pods have a proxy
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = within(1, 8_000))]
    proxies: usize,
    /// How many changes of each kind are made
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = within(1, 10_000))]
    changes: usize,
    /// How the figures are printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

fn within(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(count) if (least..=most).contains(&count) => Ok(count),
        _ => Err(format!("a number from {least} to {most} is wanted")),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let size = Size {
        services: arguments.services,
        endpoints: arguments.endpoints,
        proxies: arguments.proxies,
    };
    ensure!(
        size.proxies <= size.services * size.endpoints,
        "there are only {} pods for {} proxies",
        size.services * size.endpoints,
        size.proxies
    );
    let program = match arguments.control {
        Some(program) => program,
        None => binary("mesh-control")?,
    };
    ensure!(program.is_file(), "{} is no file", program.display());
    let measured = tokio::time::timeout(PATIENCE, measure(&program, size, arguments.changes)).await;
    let report = measured.context("it takes too long")??;
    match arguments.output {
        Output::Table => print!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    let missed = report.missed();
    ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
    Ok(())
}

async fn measure(program: &std::path::Path, size: Size, changes: usize) -> Result<Report> {
    let server = Server::start().await?;
    say("writes the objects");
    let written = server.write(size).await?;

    say("starts the control plane");
    let mut control = Control::start(program, &server).await?;
    let started = Started {
        ready: control.ready,
        cpu: control.cpu()?,
        resident: control.resident()?,
    };

    say("connects the proxies");
    let tokens = server.tokens(size).await?;
    let roots = server.trust_bundle().await?;
    let mut fleet = Fleet::start(size, control.address, roots, tokens);
    let connected = fleet.connected(&control).await?;

    tokio::time::sleep(SETTLING).await;
    let before = control.cpu()?;
    tokio::time::sleep(REST).await;
    let rest = (control.cpu()? - before).div_f64(REST.as_secs_f64());

    let mut series = Vec::new();
    for (what, change) in kinds(size) {
        say(what);
        let measured = changes::series(what, changes, change, &server, &mut control, &mut fleet);
        series.push(measured.await?);
    }
    say("reads the status");
    server.settled(changes, size).await?;
    Ok(Report {
        size,
        changes,
        written,
        started,
        connected,
        rest,
        series,
        resident: control.resident()?,
        peak: control.peak()?,
    })
}

/// What is changed, and the change at a number.
type Kind = (&'static str, Box<dyn Fn(usize) -> Change>);

fn kinds(size: Size) -> [Kind; 3] {
    let few = size.used_by_few();
    [
        (
            "a weight that all proxies use",
            Box::new(|at| Change::Weight(at as u32 + 1)),
        ),
        (
            "an endpoint of a Service that few use",
            Box::new(move |at| Change::Endpoint {
                service: few[at % few.len()],
                ready: (at / few.len()) % 2 == 1,
            }),
        ),
        (
            "an endpoint of a Service that all use",
            Box::new(|at| Change::Endpoint {
                service: STABLE,
                ready: at % 2 == 1,
            }),
        ),
    ]
}

/// What it is at, for whoever waits.
fn say(what: &str) {
    eprintln!("{what}");
}
