//! Streams of server-sent events, and short requests of which many are in flight, share connections between two sidecars;
//! neither client nor server can tell.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http::{Method, Response};
use hyper::body::Incoming;
use mesh_e2e::canary::{Canary, INFER, TENSOR};
use mesh_e2e::client::{Answer, Http1, full, post, request};
use mesh_e2e::wait;
use serde_json::Value;

const STREAM: &str = "/v2/models/fraud/generate_stream";
/// Clients at a time.
const CLIENTS: usize = 60;

/// A client's stream of so many events, 20 ms apart. Its connection lives as long as the first of the two.
async fn stream(address: SocketAddr, events: u32) -> Result<(Http1, Response<Incoming>)> {
    let mut client = Http1::connect(address).await?;
    let asked = request(Method::POST, STREAM)
        .header("x-stream", format!("{events},20"))
        .header("mesh-carried", "forged")
        .body(full("{}"))?;
    let response = client.begin(asked).await?;
    Ok((client, response))
}

fn expected(events: u32) -> String {
    let events = (0..events).map(|event| format!("data: {{\"event\": {event}}}\n\n"));
    events.chain(["data: [DONE]\n\n".to_owned()]).collect()
}

/// How many connections these sidecars have open from their callers.
async fn open(mesh: &mut Canary, proxy: &str, direction: &str) -> Result<f64> {
    let metrics = mesh.mesh.proxy(proxy)?.metrics().await?;
    Ok(metrics.sum("mesh_connections_open", &[("direction", direction)]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_share_connections_and_nobody_can_tell() -> Result<()> {
    let mut mesh = Canary::start(1, [100, 0]).await?;
    let address = mesh.caller(0)?;
    // From its answer is learned what the endpoint answers with.
    let (client, first) = stream(address, 5).await?;
    ensure!(Answer::read(first).await?.text() == expected(5));
    drop(client);

    let mut streams = Vec::new();
    for _ in 0..CLIENTS {
        streams.push(stream(address, 200).await?);
    }
    let (callers, carried) = (
        open(&mut mesh, "caller-0", "outbound").await?,
        open(&mut mesh, "stable", "inbound").await?,
    );
    ensure!(callers >= CLIENTS as f64, "{callers} connections of callers");
    ensure!(carried <= 3.0, "{carried} connections between the sidecars");
    for (client, response) in streams.drain(CLIENTS / 2..) {
        let head = response.headers().clone();
        ensure!(response.version() == http::Version::HTTP_11, "{response:?}");
        ensure!(Answer::read(response).await?.text() == expected(200), "{head:?}");
        drop(client);
    }
    ensure!(
        mesh.stable.streams() == 0,
        "all of them are over, not only those that were read"
    );
    streams.clear();

    // Clients that leave end their streams, and nobody else's.
    let (_stays, staying) = stream(address, 100).await?;
    for _ in 0..CLIENTS {
        streams.push(stream(address, 10_000).await?);
    }
    ensure!(mesh.stable.streams() == CLIENTS as u64 + 1);
    drop(streams);
    wait::until("the end of the streams that nobody reads", async || {
        Ok((mesh.stable.streams() <= 1).then_some(()))
    })
    .await?;
    ensure!(Answer::read(staying).await?.text() == expected(100));
    Ok(())
}

/// A client that sends so many requests, one after the other, each answered after 20 ms.
async fn ask(address: SocketAddr, requests: usize) -> Result<Vec<Value>> {
    let mut client = Http1::connect(address).await?;
    let mut seen = Vec::new();
    for _ in 0..requests {
        let asked = request(Method::POST, INFER)
            .header("x-delay", "20")
            .body(full(TENSOR))?;
        let answer = client.send(asked).await?.success()?;
        ensure!(answer.header("transfer-encoding").is_empty(), "{answer:?}");
        seen.push(serde_json::from_str(&answer.text()).context(answer.text())?);
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_requests_share_connections_in_a_crowd_and_nobody_can_tell() -> Result<()> {
    let mut mesh = Canary::start(1, [100, 0]).await?;
    let address = mesh.caller(0)?;
    // One by one, each goes over a connection that has no other.
    let alone = ask(address, 20).await?.pop().context("no answer")?;
    ensure!(alone["version"] == "HTTP/1.1", "{alone:#?}");
    ensure!(open(&mut mesh, "stable", "inbound").await? == 1.0);

    let clients = (0..CLIENTS).map(|_| ask(address, 20));
    for seen in futures_util::future::try_join_all(clients).await? {
        for one in seen {
            ensure!(one == alone, "{one:#?}");
        }
    }
    let requests = (20 * (CLIENTS + 1)) as u64;
    ensure!(mesh.stable.requests() == requests, "{}", mesh.stable.requests());
    // The first ones came before it was known that they are many.
    let single = mesh.mesh.proxy("stable")?.metrics().await?;
    let taken = single.sum("mesh_connections_total", &[("direction", "inbound")]);
    ensure!(
        taken <= CLIENTS as f64 / 2.0,
        "{taken} connections between the sidecars"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_sees_what_the_client_sent() -> Result<()> {
    let mesh = Canary::start(1, [100, 0]).await?;
    let address = mesh.caller(0)?;
    // The first two go over a connection of their own, the third is carried, for the second's sake.
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = post(address, INFER, TENSOR).await?.success()?;
        seen.push(serde_json::from_str::<Value>(&answer.text()).context(answer.text())?);
        let (_client, response) = stream(address, 1).await?;
        ensure!(Answer::read(response).await?.text() == expected(1));
    }
    ensure!(seen[0] == seen[1], "{seen:#?}");
    ensure!(seen[1]["version"] == "HTTP/1.1", "{seen:#?}");
    ensure!(seen[1]["bytes"] == TENSOR.len(), "{seen:#?}");
    Ok(())
}
