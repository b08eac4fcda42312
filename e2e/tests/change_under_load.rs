//! Acceptance: under a running load of unary calls and 50 open streams: 1,000 configuration changes (weights, routes,
//! endpoints) and 20 certificate rotations: zero failed requests, zero broken streams, and every proxy ends on the last
//! version. Control plane killed with SIGKILL for 30 s during it: the same; then a proxy restarted while it is away
//! serves from its saved state.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use http::Method;
use mesh_e2e::canary::{Canary, INFER, TENSOR, split};
use mesh_e2e::client::{Http1, Http2, full, request};
use mesh_e2e::documents::{backend, object, route, workload};
use mesh_e2e::load::{Load, Unary};
use mesh_e2e::mesh::Options;
use mesh_e2e::net::free_port;
use mesh_e2e::server::Server;
use mesh_e2e::wait;
use serde_json::{Value, json};

const CHANGES: u32 = 1_000;
const ROTATIONS: u64 = 20;
/// How long the control plane is away.
const AWAY: Duration = Duration::from_secs(30);
/// `ModelInferRequest { model_name: "fraud" }`.
const MESSAGE: &[u8] = b"\x0a\x05fraud";
const PROTOCOL: &str = "mesh.dev/open-inference";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_changes_is_felt() -> Result<()> {
    // A second endpoint of `stable`, which comes and goes.
    let second = Server::start("stable-2").await?;
    let listen = free_port()?;
    let there = workload("stable-2", "stable", second.port(), listen, PROTOCOL);
    let away = workload("stable-2", "nothing", second.port(), listen, PROTOCOL);
    let options = Options {
        leaf_lifetime: "6s",
        ..Options::default()
    };
    let mut mesh = Canary::start_with(2, [95, 5], std::slice::from_ref(&there), &options).await?;
    let mut load = start_load(&mesh).await?;

    let (mut changes, mut last) = (0, 0);
    while changes < CHANGES || rotations(&mut mesh).await? < ROTATIONS {
        for _ in 0..50 {
            last = match changes % 5 {
                0 | 1 => {
                    mesh.mesh
                        .set_split(
                            "fraud",
                            &[("stable", 95 - changes % 90), ("canary", 5 + changes % 90)],
                        )
                        .await?
                }
                2 => mesh.mesh.apply(&other_route(changes)).await?,
                3 => {
                    mesh.mesh
                        .apply(if changes % 10 == 3 { &away } else { &there })
                        .await?
                }
                _ => mesh.mesh.apply(&policy(changes)).await?,
            };
            changes += 1;
        }
        load.check()?;
    }
    settle(&mut mesh, last).await?;
    let before = load.done();
    eprintln!(
        "{changes} changes and {} rotations, {before} answers",
        rotations(&mut mesh).await?
    );

    // From now on certificates outlive the control plane's absence.
    mesh.mesh.restart_control_with_lifetime("24h").await?;
    wait::until("certificates that last", async || {
        let tomorrow = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs_f64()
            + 80_000.0;
        for proxy in mesh.mesh.proxies() {
            if proxy.metrics().await?.sum("mesh_certificate_expiry_seconds", &[]) < tomorrow {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await?;
    mesh.mesh.kill_control()?;
    let killed = Instant::now();
    while killed.elapsed() < AWAY {
        load.check()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    mesh.mesh.start_control().await?;
    let last = mesh.mesh.apply(&split([50, 50])).await?;
    settle(&mut mesh, last).await?;
    assert!(load.done() > before, "the load went on");
    load.finish().await?;

    mesh.mesh.kill_control()?;
    let caller = mesh.caller(0)?;
    for name in ["caller-0", "stable", "canary"] {
        mesh.mesh.proxy(name)?.restart().await?;
        let mut client = Http1::connect(caller).await?;
        for _ in 0..20 {
            client
                .send(request(Method::POST, INFER).body(full(TENSOR))?)
                .await?
                .success()?;
        }
    }
    Ok(())
}

/// Unary clients on both callers, and 50 streams.
async fn start_load(mesh: &Canary) -> Result<Load> {
    let infer = Unary {
        path: INFER.into(),
        body: TENSOR.into(),
        stream: None,
    };
    let generate = Unary {
        path: "/v2/models/fraud/generate_stream".into(),
        body: "{}".into(),
        stream: None,
    };
    let mut load = Load::default();
    for caller in [mesh.caller(0)?, mesh.caller(1)?] {
        let grpc = Http2::connect(caller).await?;
        load.http1(caller, 3, &infer);
        load.grpc(&grpc, 2, "/inference.GRPCInferenceService/ModelInfer", MESSAGE);
    }
    load.events(mesh.caller(0)?, 25, &generate);
    let grpc = Http2::connect(mesh.caller(1)?).await?;
    load.grpc_streams(
        &grpc,
        25,
        "/inference.GRPCInferenceService/ModelStreamInfer",
        MESSAGE,
    );
    Ok(load)
}

/// A route of `fraud` with another rule before its split.
fn other_route(change: u32) -> Value {
    let weight = 1 + change % 7;
    let gold = json!({"backends": [{"name": "gold", "service": "canary", "weight": weight}]});
    let by_key = json!({"by": {"header": "x-user-id"}, "backends": [backend("stable", 10), backend("canary", weight)]});
    route(
        "fraud",
        &json!([
            {"name": "gold", "matches": [{"headers": {"x-tier": format!("gold-{weight}")}}], "split": gold},
            {"name": "split", "matches": [{"model": "fraud"}], "split": by_key},
        ]),
    )
}

/// A policy of `stable`, another one each time.
fn policy(change: u32) -> Value {
    let algorithm = ["peak-ewma", "least-request", "round-robin", "random"][change as usize / 5 % 4];
    object(
        "TrafficPolicy",
        "stable",
        &json!({
            "service": "stable",
            "loadBalancing": {"algorithm": algorithm},
            "connection": {"connectTimeout": "5s", "idleTimeout": "90s"},
        }),
    )
}

/// How many certificates the sidecars have had, beyond the first of each.
async fn rotations(mesh: &mut Canary) -> Result<u64> {
    let mut total = 0;
    for proxy in mesh.mesh.proxies() {
        total += proxy.certificates().await?.saturating_sub(1);
    }
    Ok(total)
}

/// Waits for a version, and compares it with what the sidecars of callers say themselves. Those of servers call nothing: no
/// change of a route concerns them, so that they are not told and count as up to date.
async fn settle(mesh: &mut Canary, version: u64) -> Result<()> {
    mesh.mesh.everyone_at(version).await?;
    for proxy in mesh.mesh.proxies() {
        if !proxy.workload().starts_with("caller-") {
            continue;
        }
        let serves = proxy.metrics().await?.sum("mesh_config_version", &[]);
        assert!(
            serves >= version as f64,
            "{} serves {serves}, not {version}",
            proxy.workload()
        );
    }
    Ok(())
}
