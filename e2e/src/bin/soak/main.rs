//! The mesh for a long time under everything at once: unary calls, streams and events over HTTP/1.1 and gRPC, while
//! weights, routes and endpoints change, certificates rotate, the control plane is killed, a sidecar is replaced by a new
//! process, servers die, clients leave, stall and read slowly.
//!
//! `cargo build --workspace --bins && cargo run -p mesh-e2e --bin soak -- --minutes 20`
//!
//! It fails when a request fails that should not, when a client is kept waiting for a minute, when memory grows after the
//! first five minutes, or when descriptors, connections or requests are left behind at the end. What was done is printed.

mod changes;
mod faults;
mod vitals;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use mesh_e2e::canary::{Canary, INFER, TENSOR};
use mesh_e2e::documents::{caller, service, workload};
use mesh_e2e::load::{Load, Unary};
use mesh_e2e::mesh::{Mesh, Options};
use mesh_e2e::net::{free_port, local};
use mesh_e2e::server::Server;

use changes::Changes;
use faults::Faults;
use vitals::Vitals;

/// `ModelInferRequest { model_name: "fraud" }`.
const MESSAGE: &[u8] = b"\x0a\x05fraud";
const PROTOCOL: &str = "mesh.dev/open-inference";
/// How often something changes.
const STEP: Duration = Duration::from_millis(500);
/// How long the connections that lie idle at the end may take to be closed: longer than pools keep them.
const SETTLING: Duration = Duration::from_secs(180);

/// Runs the mesh under everything at once for a long time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long, in minutes; memory is judged from the sixth on
    #[arg(long, default_value_t = 20)]
    minutes: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let duration = Duration::from_secs(Arguments::parse().minutes * 60);
    let faulty = Server::start("faulty").await?;
    let second = Server::start("stable-2").await?;
    let (second_at, probe) = (free_port()?, free_port()?);
    let more = [
        workload("stable-2", "stable", second.port(), second_at, PROTOCOL),
        service("faulty", PROTOCOL),
        workload("faulty", "faulty", faulty.port(), free_port()?, PROTOCOL),
        caller("probe", &[(probe, "faulty")]),
    ];
    let options = Options {
        leaf_lifetime: "30s",
        drain_limit: "60s",
        ..Options::default()
    };
    let mut mesh = Canary::start_with(2, [90, 10], &more, &options).await?;
    let mut vitals = Vitals::of(["stable", "canary", "stable-2", "caller-0", "faulty", "probe"]);
    vitals.take(&mut mesh.mesh)?;
    let mut faults = Faults::start(local(probe), faulty);
    let mut load = start_load(&mesh).await?;
    let mut changes = Changes::new(&second, second_at);

    let started = Instant::now();
    let mut told = 0;
    while started.elapsed() < duration {
        changes.next(&mut mesh.mesh, started.elapsed()).await?;
        load.check()?;
        faults.check()?;
        vitals.take(&mut mesh.mesh)?;
        let minutes = started.elapsed().as_secs() / 60;
        if minutes > told {
            told = minutes;
            println!(
                "{minutes:>3} min: {} answers; {changes}; {faults}; {vitals}",
                load.done()
            );
        }
        tokio::time::sleep(STEP).await;
    }
    println!("ending the load");
    let answers = load.finish().await?;
    println!("ending the faults");
    let counted = faults.finish().await?;
    println!("judging");
    let rotations = rotations(&mut mesh.mesh).await?;
    println!("{answers} answers, {rotations} certificates; {changes}; {counted}");
    left_behind(&mut mesh.mesh, &vitals).await?;
    mesh.mesh.proxy(changes::REPLACED)?.predecessors_ended().await?;
    vitals.judge()?;
    println!("passed");
    Ok(())
}

/// Clients on both callers, of every kind.
async fn start_load(mesh: &Canary) -> Result<Load> {
    let unary = |path: &str, body: &str| Unary {
        path: path.into(),
        body: body.into(),
        stream: None,
    };
    let (infer, generate) = (
        unary(INFER, TENSOR),
        unary("/v2/models/fraud/generate_stream", "{}"),
    );
    let mut load = Load::default();
    for number in 0..2 {
        let caller = mesh.caller(number)?;
        load.returning_http1(caller, 3, &infer);
        load.new_connections(caller, 1, &infer);
        load.returning_events(caller, 5, &generate, 60);
        load.returning_grpc(caller, 3, "/inference.GRPCInferenceService/ModelInfer", MESSAGE);
        load.returning_grpc_streams(
            caller,
            5,
            "/inference.GRPCInferenceService/ModelStreamInfer",
            MESSAGE,
            60,
        );
    }
    // Those that must outlive whatever changes, on the caller that is not replaced.
    load.events(mesh.caller(0)?, 10, &generate);
    Ok(load)
}

/// How many certificates the sidecars that live now have had beyond the first of each.
async fn rotations(mesh: &mut Mesh) -> Result<u64> {
    let mut total = 0;
    for proxy in mesh.proxies() {
        total += proxy.certificates().await?.saturating_sub(1);
    }
    Ok(total)
}

/// Waits until nothing is open any more that was opened for the load.
async fn left_behind(mesh: &mut Mesh, vitals: &Vitals) -> Result<()> {
    let started = Instant::now();
    loop {
        let mut open = Vec::new();
        for proxy in mesh.proxies() {
            let metrics = proxy.metrics().await.context("a sidecar's metrics")?;
            for name in ["mesh_in_flight", "mesh_connections_open"] {
                let value = metrics.sum(name, &[]);
                if value != 0.0 {
                    open.push(format!("{}: {name} is {value}", proxy.workload()));
                }
            }
        }
        open.extend(vitals.descriptors_left(mesh)?);
        if open.is_empty() {
            return Ok(());
        }
        ensure!(started.elapsed() < SETTLING, "left behind: {}", open.join("; "));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
