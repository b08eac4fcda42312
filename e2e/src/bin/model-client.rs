//! Load from a pod: clients that send one request after the other, and streams of events, until they are told to end.
//!
//! `model-client HOST:PORT` prints a line of JSON every half second, with all that was counted so far: `done` requests and
//! events, those of the requests `by` the server that answered, the `streams` that came to their end, and what `failed`,
//! with the last reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use http::Method;
use mesh_e2e::client::{Http1, full, next_piece, request};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// How far apart the events of a stream are, in milliseconds.
const PACE: u32 = 200;
/// What the last event of a stream says.
const LAST: &[u8] = b"data: [DONE]\n\n";

/// Sends requests until it is told to end, and counts
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Whom to call
    #[arg(value_name = "HOST:PORT")]
    at: String,
    /// The path of every request
    #[arg(long, default_value = "/x")]
    path: String,
    /// The body of every request, as JSON
    #[arg(long, default_value = "")]
    body: String,
    /// How many clients send requests
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// How long each waits between two requests, in milliseconds
    #[arg(long, default_value_t = 20)]
    pause: u64,
    /// How many streams of events are open
    #[arg(long, default_value_t = 0)]
    streams: usize,
    /// How many events a stream has before the next one begins, a fifth of a second apart; more than anybody waits for, unless
    /// it is said
    #[arg(long, default_value_t = 1_000_000)]
    events: u32,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Counts {
    done: u64,
    by: BTreeMap<String, u64>,
    streams: u64,
    failed: u64,
    reason: String,
}

type Shared = Arc<Mutex<Counts>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Once: a name server that comes and goes is not what is looked at.
    let address = resolve(&arguments.at).await?;
    let counts = Shared::default();
    for number in 0..arguments.clients {
        tokio::spawn(requests(arguments.clone(), address, number, Arc::clone(&counts)));
    }
    for _ in 0..arguments.streams {
        tokio::spawn(streams(arguments.clone(), address, Arc::clone(&counts)));
    }
    let mut told_to_end = signal(SignalKind::terminate())?;
    loop {
        let ends = tokio::time::timeout(Duration::from_millis(500), told_to_end.recv()).await;
        {
            let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            let Counts {
                done,
                by,
                streams,
                failed,
                reason,
            } = &*counts;
            println!(
                "{}",
                json!({"done": done, "by": by, "streams": streams, "failed": failed, "reason": reason})
            );
        }
        if ends.is_ok() {
            return Ok(());
        }
    }
}

/// One client. A connection that breaks is a failure, and the next one is made.
async fn requests(arguments: Arguments, address: SocketAddr, number: usize, counts: Shared) {
    loop {
        let Err(error) = on_one_connection(&arguments, address, number, &counts).await;
        failed(&counts, &error).await;
    }
}

async fn on_one_connection(
    arguments: &Arguments,
    address: SocketAddr,
    number: usize,
    counts: &Shared,
) -> Result<std::convert::Infallible> {
    let mut client = Http1::connect(address).await?;
    loop {
        let request = request(Method::POST, &arguments.path)
            .header("host", &arguments.at)
            .header("content-type", "application/json")
            .header("x-user-id", format!("user-{number}"))
            .body(full(arguments.body.clone()))?;
        let answer = client.send(request).await?.success()?;
        {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.done += 1;
            *counts.by.entry(answer.server().to_owned()).or_default() += 1;
        }
        tokio::time::sleep(Duration::from_millis(arguments.pause)).await;
    }
}

/// One stream after the other. When one breaks it is a failure.
async fn streams(arguments: Arguments, address: SocketAddr, counts: Shared) {
    loop {
        if let Err(error) = one_stream(&arguments, address, &counts).await {
            failed(&counts, &error).await;
        }
    }
}

async fn one_stream(arguments: &Arguments, address: SocketAddr, counts: &Shared) -> Result<()> {
    let mut client = Http1::connect(address).await?;
    let request = request(Method::POST, &arguments.path)
        .header("host", &arguments.at)
        .header("content-type", "application/json")
        .header("x-stream", format!("{},{PACE}", arguments.events))
        .body(full(arguments.body.clone()))?;
    let response = client.begin(request).await?;
    ensure!(response.status().is_success(), "{response:?}");
    let mut body = response.into_body();
    let mut end = Vec::new();
    while let Some(piece) = next_piece(&mut body).await? {
        end.extend_from_slice(piece.data_ref().map_or(&[][..], |data| data));
        end.drain(..end.len().saturating_sub(LAST.len()));
        counts.lock().unwrap_or_else(PoisonError::into_inner).done += 1;
    }
    ensure!(end == LAST, "an event stream ended before its last event");
    counts.lock().unwrap_or_else(PoisonError::into_inner).streams += 1;
    Ok(())
}

async fn resolve(at: &str) -> Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(at)
        .await
        .with_context(|| format!("look up {at}"))?;
    found.next().with_context(|| format!("{at} has no address"))
}

async fn failed(counts: &Shared, error: &anyhow::Error) {
    {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.failed += 1;
        counts.reason = format!("{error:#}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}
