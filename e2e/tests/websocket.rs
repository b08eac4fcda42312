//! Acceptance: WebSockets of a real client and a real server library pass through two sidecars with mutual TLS between
//! them, over HTTP/1.1 (RFC 6455) and over HTTP/2 (RFC 8441).

mod kit;

use anyhow::{Result, ensure};
use mesh_e2e::documents::{caller, service, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::free_port;
use mesh_e2e::wait;
use serde_json::{Value, json};

use kit::serving::Serving;
use kit::{address, client, kit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_in_both_forms() -> Result<()> {
    let kit = kit()?;
    let (port, listen, local) = (free_port()?, free_port()?, free_port()?);
    let server = Serving::start(&kit, "websocket_server.py", port)?;
    let documents = [
        service("chat", "http"),
        workload("server", "chat", port, listen, "http"),
        caller("client", &[(local, "chat")]),
    ];
    let mut mesh = Mesh::start(&documents).await?;
    let found = client(&kit, "websocket_http1.py", &[&address(local)])?;
    // The extension is permessage-deflate: it is between the two, and nothing in between takes part.
    let expected = json!({
        "subprotocol": "tokens", "extensions": 1, "pong": true, "sent": 206, "same": 206, "code": 4001,
    });
    ensure!(found == expected, "over HTTP/1.1: {found}");

    let found = client(&kit, "websocket_http2.py", &[&address(local)])?;
    let expected = json!({
        "offered": 1, "status": ["200", "200", "400"], "subprotocol": "tokens",
        "pong": true, "sent": 408, "same": 408, "code": 4001,
    });
    ensure!(found == expected, "over HTTP/2: {found}");

    // What the server saw: whole messages, who called, how each ended, and one client that left without a word.
    let caller = "spiffe://mesh.local/ns/ml/sa/client";
    let told = |path: &str, messages: u32, code: u32| json!({"path": path, "messages": messages, "code": code, "peer": caller});
    let expected = [
        told("/echo?by=http1", 206, 4001),
        told("/echo?by=http2", 204, 4001),
        told("/echo?by=other", 204, 1006),
    ];
    let mut seen: Vec<Value> = wait::until("the end of all three", async || {
        let lines = server.lines();
        Ok((lines.len() >= expected.len()).then_some(lines))
    })
    .await?;
    seen.sort_by_key(|line| line["path"].to_string());
    ensure!(seen == expected, "{seen:#?}");

    // Each is counted when both sides have closed it.
    let client = mesh.proxy("client")?;
    wait::until("the count of the three that were switched", async || {
        let metrics = client.metrics().await?;
        Ok((metrics.sum("mesh_requests_total", &[("code", "101")]) == 3.0).then_some(()))
    })
    .await
}
