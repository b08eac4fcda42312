//! Very many connections at once: idle ones, and streams that are open all the while, through two sidecars.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::canary::{Canary, INFER, TENSOR};
use crate::client::{Call, Http1, Http2, full, request};
use crate::mesh::Options;
use crate::proxy::Proxy;
use crate::wait;

/// Clients come from so many addresses of loopback, each of which has ports for 28,000 connections.
const SOURCES: u8 = 8;
/// How many connect at the same time.
const AT_ONCE: usize = 64;
/// When memory has not fallen for this long, all that was free has been given back.
const GIVEN_BACK: Duration = Duration::from_secs(3);
/// How many streams share a connection.
const STREAMS_PER_CONNECTION: usize = 50;
/// How many of the idle connections are used again at the end.
const SAMPLE: usize = 500;
const MESSAGE: &[u8] = b"\x0a\x05fraud";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// What a crowd cost.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Idle connections of HTTP/1.1.
    pub idle: usize,
    /// What each of them holds in the caller's sidecar, in bytes.
    pub bytes_per_idle: f64,
    /// Open gRPC streams.
    pub streams: usize,
    /// What each of them holds in both sidecars together, in bytes.
    pub bytes_per_stream: f64,
    /// How long a request took before the crowd was there, the median of 100.
    pub alone: Duration,
    /// How long one took beside the crowd, the median of 100.
    pub beside: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} idle connections: {:.1} KB each",
            self.idle,
            self.bytes_per_idle / 1e3
        )?;
        writeln!(
            f,
            "{} open streams through both sidecars: {:.1} KB each",
            self.streams,
            self.bytes_per_stream / 1e3
        )?;
        write!(
            f,
            "a request: {:?} alone, {:?} beside them",
            self.alone, self.beside
        )
    }
}

/// Opens so many connections, which each make one request and stay, and so many streams; asks again on a sample of the
/// connections and on all streams, and makes requests on new connections.
///
/// # Errors
/// When any of it fails, or this process may not have as many descriptors as that takes.
pub async fn gather(idle: usize, streams: usize) -> Result<Report> {
    // A sidecar takes as many connections as it has two descriptors for.
    allow_descriptors((idle + streams) as u64 * 2 + 4_096)?;
    let options = Options {
        workers: 2,
        ..Options::default()
    };
    let mut mesh = Canary::start_with(1, [100, 0], &[], &options).await?;
    let address = mesh.caller(0)?;
    let alone = median_request(address).await?;

    let before = mesh.mesh.proxy("caller-0")?.process().resident_bytes()?;
    let crowd: Vec<Idle> = stream::iter(0..idle)
        .map(|number| Idle::open(address, number))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let with_idle = at_rest(mesh.mesh.proxy("caller-0")?, idle).await?;
    let server_before = mesh.mesh.proxy("stable")?.process().resident_bytes()?;

    let connections = streams.div_ceil(STREAMS_PER_CONNECTION);
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Http2::connect(address).await?);
    }
    let mut calls: Vec<Call> = stream::iter(0..streams)
        .map(|number| {
            let client = clients.get(number / STREAMS_PER_CONNECTION);
            async move { client.context("a connection")?.open(STREAM, MESSAGE).await }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let with_streams = mesh.mesh.proxy("caller-0")?.process().resident_bytes()?;
    let server_with = mesh.mesh.proxy("stable")?.process().resident_bytes()?;

    let open = mesh.mesh.proxy("caller-0")?.metrics().await?;
    let open = open.sum("mesh_connections_open", &[("direction", "outbound")]);
    ensure!(
        open >= (idle + connections) as f64,
        "only {open} connections are open"
    );
    let beside = median_request(address).await?;
    for call in &mut calls {
        call.exchange(MESSAGE)
            .await
            .context("a stream beside the crowd")?;
    }
    let step = crowd.len().div_ceil(SAMPLE).max(1);
    for mut idle in crowd.into_iter().step_by(step) {
        idle.ask().await.context("a connection that lay idle")?;
    }
    for call in calls {
        call.finish().await?;
    }
    let grown = |before: u64, after: u64| after.saturating_sub(before) as f64;
    Ok(Report {
        idle,
        bytes_per_idle: grown(before, with_idle) / idle.max(1) as f64,
        streams,
        bytes_per_stream: (grown(with_idle, with_streams) + grown(server_before, server_with))
            / streams.max(1) as f64,
        alone,
        beside,
    })
}

/// What a proxy holds when so many connections have come to rest, and what they held before has been given back.
async fn at_rest(proxy: &mut Proxy, connections: usize) -> Result<u64> {
    wait::until("idle connections to rest", async || {
        let resting = proxy.metrics().await?;
        let resting = resting.sum("mesh_connections_resting", &[("direction", "outbound")]);
        Ok((resting >= connections as f64).then_some(()))
    })
    .await?;
    let (mut least, mut since) = (u64::MAX, Instant::now());
    wait::until("memory to be given back", async || {
        let resident = proxy.process().resident_bytes()?;
        if resident < least {
            (least, since) = (resident, Instant::now());
        }
        Ok((since.elapsed() > GIVEN_BACK).then_some(least))
    })
    .await
}

/// A connection of HTTP/1.1 without a client around it: the crowd is to cost the sidecar something, not this process.
struct Idle(TcpStream);

impl Idle {
    async fn open(address: SocketAddr, number: usize) -> Result<Self> {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number % usize::from(SOURCES)) as u8);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.set_nonblocking(true)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let connected = socket.connect(address).await;
        let mut idle = Self(connected.with_context(|| format!("connection {number}"))?);
        idle.ask().await.with_context(|| format!("connection {number}"))?;
        Ok(idle)
    }

    async fn ask(&mut self) -> Result<()> {
        let ask = format!(
            "POST {INFER} HTTP/1.1\r\nhost: model.test\r\ncontent-length: {}\r\n\r\n{TENSOR}",
            TENSOR.len()
        );
        self.0.write_all(ask.as_bytes()).await?;
        let mut received = Vec::new();
        loop {
            let mut piece = [0; 1024];
            let count = self.0.read(&mut piece).await?;
            ensure!(count > 0, "it was closed");
            received.extend_from_slice(&piece[..count]);
            let text = String::from_utf8_lossy(&received);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            let Some(length): Option<usize> = length else {
                bail!("an answer without a length: {head}");
            };
            if body.len() >= length {
                return Ok(());
            }
        }
    }
}

/// The median of 100 requests, each on the same connection.
async fn median_request(address: SocketAddr) -> Result<Duration> {
    let mut client = Http1::connect(address).await?;
    let mut took = Vec::with_capacity(100);
    for _ in 0..100 {
        let started = Instant::now();
        let request = request(Method::POST, INFER)
            .header("content-type", "application/json")
            .body(full(TENSOR))?;
        client.send(request).await?.success()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took[took.len() / 2])
}

/// Lets this process, and those that it starts, have so many descriptors.
fn allow_descriptors(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(limit.current) && enough(limit.maximum) {
        return Ok(());
    }
    let maximum = if enough(limit.maximum) {
        limit.maximum
    } else {
        Some(wanted)
    };
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(io::Error::from).with_context(|| {
        format!(
            "this takes {wanted} descriptors, and the limit is {}: run it as root, or after `ulimit -Hn {wanted}`",
            limit.maximum.unwrap_or_default()
        )
    })
}
