//! The load generator: a fixed number of workers send model requests, either each as soon as it has its response
//! (closed loop) or at a fixed rate whatever the responses do (open loop).
//!
//! In an open loop latency counts from the moment a request *should* have been sent: a proxy that stalls cannot hide
//! the requests that queued up behind the stall (no coordinated omission).

mod client;
mod handshake;
pub(crate) mod hold;
mod pace;
mod stream;
mod tally;

use std::{net::SocketAddr, path::PathBuf, rc::Rc, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::{
    task::spawn_local,
    time::{Instant, sleep, timeout},
};

pub(crate) use self::{client::Client, handshake::Prover};
use self::{pace::Pace, tally::Tally};
use crate::scenario::{Exchange, Protocol};

/// How long requests that are under way when the window closes may take to come back.
const GRACE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);

/// One load.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) protocol: Protocol,
    pub(crate) exchange: Exchange,
    pub(crate) to: SocketAddr,
    /// What the requests name as their authority.
    pub(crate) authority: String,
    pub(crate) connections: usize,
    /// Requests in flight on one connection, at most.
    pub(crate) streams: usize,
    /// Requests per second; `None` is a closed loop.
    pub(crate) rate: Option<u32>,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// The PEM file with key and chain that handshakes are made with.
    pub(crate) identity: Option<PathBuf>,
}

/// What the load generator tells whoever started it, one JSON line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The warm-up is over, from now on requests count.
    Opened,
    /// The window is closed: no more requests count.
    Closed,
    /// What was measured.
    Done(Outcome),
}

/// What was measured between [`Event::Opened`] and [`Event::Closed`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Requests answered well, or chunks arrived, within the window.
    pub(crate) completed: u64,
    /// Requests that failed, over the whole run.
    pub(crate) failed: u64,
    /// What the first failure was.
    pub(crate) failure: Option<String>,
    /// How long the window was, in seconds.
    pub(crate) seconds: f64,
    /// Requests due within the window and answered, soon or late: what the latencies are of.
    pub(crate) due: u64,
    /// Median latency of the requests due within the window, or of chunks from being sent to being there, in µs.
    pub(crate) p50_us: f64,
    /// 99th percentile, in µs.
    pub(crate) p99_us: f64,
    /// The slowest, in µs.
    pub(crate) max_us: f64,
    /// Of streams: the median time until the first chunk, in µs.
    pub(crate) first_p50_us: f64,
    /// Of streams: the 99th percentile, in µs.
    pub(crate) first_p99_us: f64,
    /// Of streams: the 99th percentile of the time between two chunks, in µs.
    pub(crate) gap_p99_us: f64,
}

/// Runs a load from warm-up to result. `announce` is called at the very moments that its events name.
pub(crate) async fn run(plan: &Plan, mut announce: impl FnMut(Event) -> Result<()>) -> Result<()> {
    let tally = Rc::new(Tally::new());
    let pace = Pace::new(plan.rate)?;
    let mut workers = Vec::new();
    for _ in 0..plan.connections {
        let (pace, tally) = (pace.clone(), Rc::clone(&tally));
        if plan.exchange == Exchange::Handshake {
            let file = plan
                .identity
                .as_deref()
                .context("handshakes need --identity FILE")?;
            let prover = Prover::new(file, false)?;
            workers.push(spawn_local(prove(prover, plan.to, pace, tally)));
            continue;
        }
        for client in Client::connect(plan).await? {
            workers.push(spawn_local(work(
                client,
                plan.clone(),
                pace.clone(),
                Rc::clone(&tally),
            )));
        }
    }
    sleep(plan.warmup).await;
    tally.open(Instant::now());
    announce(Event::Opened)?;
    sleep(plan.duration).await;
    tally.close(Instant::now());
    announce(Event::Closed)?;
    pace.end(workers.len());
    let late = timeout(GRACE, async {
        for worker in workers {
            worker
                .await
                .context("a worker of the load generator broke down")?;
        }
        Ok::<_, anyhow::Error>(())
    });
    match late.await {
        Ok(ended) => ended?,
        Err(_) => tally.fail(format!(
            "requests without an answer {} s after the end",
            GRACE.as_secs()
        )),
    }
    announce(Event::Done(tally.outcome()))
}

/// Requests to be sent one after the other.
pub(crate) struct Requests {
    pub(crate) protocol: Protocol,
    pub(crate) exchange: Exchange,
    pub(crate) to: SocketAddr,
    pub(crate) authority: String,
    /// The PEM file with key and chain that handshakes are made with.
    pub(crate) identity: PathBuf,
}

/// A connection, or what handshakes are made with.
pub(crate) enum Repeat {
    Calls(Box<Client>),
    Handshakes(Prover, SocketAddr),
}

/// Gets ready to send them.
pub(crate) async fn repeat(requests: &Requests) -> Result<Repeat> {
    if requests.exchange == Exchange::Handshake {
        return Ok(Repeat::Handshakes(
            Prover::new(&requests.identity, false)?,
            requests.to,
        ));
    }
    let plan = Plan {
        exchange: requests.exchange,
        ..Plan::single(requests.protocol, requests.to, &requests.authority)
    };
    let client = Client::connect(&plan).await?.pop().context("no connection")?;
    Ok(Repeat::Calls(Box::new(client)))
}

impl Repeat {
    /// Sends so many.
    pub(crate) async fn send(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            match self {
                Self::Calls(client) => client.call().await?,
                Self::Handshakes(prover, to) => prover.shake_hands(*to).await?,
            }
        }
        Ok(())
    }
}

impl Plan {
    /// One inference at a time on one connection.
    fn single(protocol: Protocol, to: SocketAddr, authority: &str) -> Self {
        Self {
            protocol,
            exchange: Exchange::Infer,
            to,
            authority: authority.to_owned(),
            connections: 1,
            streams: 1,
            rate: None,
            warmup: Duration::ZERO,
            duration: Duration::ZERO,
            identity: None,
        }
    }
}

/// Sends one request and checks its response: whether a proxy pair works at all.
pub(crate) async fn probe(protocol: Protocol, to: SocketAddr, authority: &str) -> Result<()> {
    let plan = Plan::single(protocol, to, authority);
    let mut clients = Client::connect(&plan).await?;
    let client = clients.first_mut().context("no connection")?;
    timeout(CONNECT, client.call())
        .await
        .context("no answer within 5 s")?
}

/// One worker: takes the next moment to send, sends, records. It ends with the pace, or when no connection can be had
/// any more; both leave their mark in the tally.
async fn work(mut client: Client, plan: Plan, pace: Pace, tally: Rc<Tally>) {
    while let Some(due) = pace.next().await {
        let done = match plan.exchange {
            Exchange::Stream => match client.send().await {
                Ok(response) => stream::read(response, plan.protocol, due, &tally).await,
                Err(error) => Err(error),
            },
            _ => client.call().await.map(|()| tally.record(due, Instant::now())),
        };
        let Err(error) = done else { continue };
        tally.fail(format!("{error:#}"));
        match Client::connect(&plan)
            .await
            .map(|clients| clients.into_iter().next())
        {
            Ok(Some(new)) => client = new,
            Ok(None) => return,
            Err(error) => return tally.fail(format!("{error:#}")),
        }
    }
}

/// One worker of handshakes.
async fn prove(prover: Prover, to: SocketAddr, pace: Pace, tally: Rc<Tally>) {
    while let Some(due) = pace.next().await {
        match prover.shake_hands(to).await {
            Ok(()) => tally.record(due, Instant::now()),
            Err(error) => tally.fail(format!("{error:#}")),
        }
    }
}
