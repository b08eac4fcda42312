//! What goes wrong while the load runs, on a service and a sidecar of its own: servers die, clients leave in the middle,
//! stall in their heads, and take nothing of their answers. What it comes to is compared with what it must come to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use mesh_e2e::client::{Http1, Http2, full, request};
use mesh_e2e::server::{Conduct, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long between two faults of a kind.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a client stalls.
const STALL: Duration = Duration::from_secs(3);
const PATH: &str = "/v2/models/m/infer";

/// The faults so far.
pub(crate) struct Faults {
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    deaths: AtomicU64,
    leavers: AtomicU64,
    stalls: AtomicU64,
    slow_readers: AtomicU64,
}

impl Faults {
    /// Begins, with a server that is called at `address` through its sidecars.
    pub(crate) fn start(address: SocketAddr, server: Server) -> Self {
        let (counts, stop) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let goes_on = |stop: &Arc<AtomicBool>| {
            let stop = Arc::clone(stop);
            move || !stop.load(Ordering::Acquire)
        };
        let tasks = vec![
            tokio::spawn(deaths(address, server, Arc::clone(&counts), goes_on(&stop))),
            tokio::spawn(stalls(address, Arc::clone(&counts), goes_on(&stop))),
        ];
        Self { counts, stop, tasks }
    }

    /// Fails when a fault has come to something else than it must.
    pub(crate) fn check(&self) -> Result<()> {
        let ended = self.tasks.iter().any(JoinHandle::is_finished);
        ensure!(!ended, "a fault has come to something else than it must");
        Ok(())
    }

    /// Ends them. How many there were.
    pub(crate) async fn finish(self) -> Result<String> {
        self.stop.store(true, Ordering::Release);
        let counted = self.to_string();
        for task in self.tasks {
            task.await??;
        }
        Ok(counted)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        write!(
            f,
            "{} deaths of servers, {} clients that left, {} that stalled, {} that read nothing",
            count(&self.counts.deaths),
            count(&self.counts.leavers),
            count(&self.counts.stalls),
            count(&self.counts.slow_readers)
        )
    }
}

/// The server dies of a request: the client is told so. Then it lives: the next one is answered. Then a client leaves in
/// the middle of an answer.
async fn deaths(
    address: SocketAddr,
    server: Server,
    counts: Arc<Counts>,
    goes_on: impl Fn() -> bool,
) -> Result<()> {
    while goes_on() {
        server.conduct(Conduct::Die);
        let answer = post(address).await.context("a server that dies")?;
        ensure!(
            answer.status.is_server_error() && !answer.mesh_error().is_empty(),
            "a server that dies is answered with {answer:?}"
        );
        let call = Http2::connect(address)
            .await?
            .call("/inference.GRPCInferenceService/ModelInfer", &[], b"\x0a\x01m")
            .await?;
        ensure!(
            call.grpc_status() == Some(14),
            "a server that dies is answered with {call:?}"
        );
        counts.deaths.fetch_add(2, Ordering::AcqRel);
        server.conduct(Conduct::Answer);
        post(address).await?.success().context("after a death")?;

        let mut client = Http1::connect(address).await?;
        let events = request(Method::POST, "/v2/models/m/generate_stream")
            .header("x-stream", "100000,10")
            .body(full("{}"))?;
        let mut events = client.begin(events).await?.into_body();
        for _ in 0..3 {
            events.frame().await.context("an event")??;
        }
        counts.leavers.fetch_add(1, Ordering::AcqRel);
        drop((client, events));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn post(address: SocketAddr) -> Result<mesh_e2e::client::Answer> {
    let mut client = Http1::connect(address).await?;
    client.send(request(Method::POST, PATH).body(full("{}"))?).await
}

/// Clients that say half a head and no more, and clients that ask for much and take nothing; both then break off.
async fn stalls(address: SocketAddr, counts: Arc<Counts>, goes_on: impl Fn() -> bool) -> Result<()> {
    while goes_on() {
        let mut half = TcpStream::connect(address).await?;
        half.write_all(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: fau")
            .await?;
        let mut slow = TcpStream::connect(address).await?;
        let ask = "POST /v2/models/m/infer HTTP/1.1\r\nhost: faulty\r\nx-size: 8000000\r\ncontent-length: 2\r\n\r\n{}";
        slow.write_all(ask.as_bytes()).await?;
        tokio::time::sleep(STALL).await;
        for (stream, counter) in [(half, &counts.stalls), (slow, &counts.slow_readers)] {
            // Closing then sends a reset.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }
    Ok(())
}
