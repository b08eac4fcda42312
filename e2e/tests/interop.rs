//! Acceptance: gRPC's interoperability cases pass through two sidecars with mutual TLS between them, with a client and a
//! server from `grpcio`; and what a client cancels is cancelled at the server.

mod kit;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::documents::{caller, service, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::free_port;
use mesh_e2e::wait;
use serde_json::{Value, json};

use kit::serving::Serving;
use kit::{address, client, kit};

/// The cases, by the names that gRPC's description of them gives (doc/interop-test-descriptions.md).
const CASES: [&str; 14] = [
    "cancel_after_begin",
    "cancel_after_first_response",
    "client_streaming",
    "custom_metadata",
    "empty_stream",
    "empty_unary",
    "large_unary",
    "ping_pong",
    "server_streaming",
    "special_status_message",
    "status_code_and_message",
    "timeout_on_sleeping_server",
    "unimplemented_method",
    "unimplemented_service",
];

/// How many calls the server saw end before it was done with them: of `cancel_after_first_response`, and of
/// `timeout_on_sleeping_server`. A call that is cancelled as it begins may never reach it.
const CANCELLED: usize = 2;

fn cancelled(server: &Serving) -> usize {
    let of = |line: &&Value| line["method"] == "FullDuplexCall" && line["cancelled"] == json!(true);
    server.lines().iter().filter(of).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_passes_through_two_sidecars() -> Result<()> {
    let kit = kit()?;
    let (port, listen, local) = (free_port()?, free_port()?, free_port()?);
    let server = Serving::start(&kit, "interop_server.py", port)?;
    let documents = [
        service("interop", "grpc"),
        workload("server", "interop", port, listen, "grpc"),
        caller("client", &[(local, "interop")]),
    ];
    let mut mesh = Mesh::start(&documents).await?;
    let expected = json!(BTreeMap::from(CASES.map(|case| (case, "ok"))));
    for (way, port) in [("without a mesh", port), ("through it", local)] {
        let before = cancelled(&server);
        let results = client(&kit, "interop.py", &[&address(port)])?;
        ensure!(results == expected, "{way}: {results:#}");
        let what = format!("the end of what was cancelled, {way}");
        let ended = wait::until(&what, async || {
            Ok((cancelled(&server) - before >= CANCELLED).then_some(()))
        });
        ended.await.with_context(|| format!("{:#?}", server.lines()))?;
    }
    let seen = mesh.proxy("client")?.metrics().await?;
    // One client cancels. Of the other call the deadline passes for client, mesh and server at the same time: the client
    // leaves, or the mesh or the server answers, whoever notices first.
    let ended = seen.sum("mesh_requests_total", &[("reason", "client-left")])
        + seen.sum("mesh_requests_total", &[("code", "DEADLINE_EXCEEDED")]);
    ensure!(
        ended >= CANCELLED as f64,
        "{ended} calls ended before the server was done: {seen:#?}"
    );
    Ok(())
}
