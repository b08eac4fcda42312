//! Acceptance: the proxy's binary is restarted 20 times under load, each time by a new process that takes over while
//! the one before drains: no request fails, no new connection is refused or lost, no stream breaks, and every process
//! ends by itself, well before its drain limit.

use anyhow::Result;
use mesh_e2e::canary::{Canary, INFER, TENSOR};
use mesh_e2e::load::{Load, Unary};
use mesh_e2e::mesh::Options;

const UPGRADES: usize = 20;
/// `ModelInferRequest { model_name: "fraud" }`.
const MESSAGE: &[u8] = b"\x0a\x05fraud";
/// How many messages or events a stream has: at 50 ms each it lasts longer than an upgrade takes.
const STREAM: u32 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_replaced_and_nobody_notices() -> Result<()> {
    let options = Options {
        workers: 2,
        drain_limit: "60s",
        ..Options::default()
    };
    let mut mesh = Canary::start_with(1, [50, 50], &[], &options).await?;
    let address = mesh.caller(0)?;
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
    load.returning_http1(address, 4, &infer);
    load.new_connections(address, 4, &infer);
    load.returning_events(address, 4, &generate, STREAM);
    load.returning_grpc(address, 3, "/inference.GRPCInferenceService/ModelInfer", MESSAGE);
    load.returning_grpc_streams(
        address,
        4,
        "/inference.GRPCInferenceService/ModelStreamInfer",
        MESSAGE,
        STREAM,
    );

    // The sidecar of the caller, and those of the servers, which it holds connections to.
    for name in ["caller-0", "stable", "canary"].iter().cycle().take(UPGRADES) {
        let before = load.done();
        mesh.mesh.proxy(name)?.upgrade().await?;
        // The next one must not come before this one has carried something.
        while load.done() < before + 20 {
            load.check()?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let done = load.finish().await?;
    for proxy in mesh.mesh.proxies() {
        proxy.predecessors_ended().await?;
    }
    eprintln!("{UPGRADES} upgrades, {done} answers and whole streams, no failure");
    Ok(())
}
