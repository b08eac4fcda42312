//! What goes wrong while the load runs, on a service and a sidecar of its own: servers die, clients leave in the middle,
//! stall in their heads, and take nothing of their answers. What it comes to is compared with what it must come to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use mesh_e2e::client::{Http1, Http2, full, next_piece, request};
use mesh_e2e::load::{Load, Turn};
use mesh_e2e::server::{Conduct, Server};
use mesh_e2e::wait::within;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// How long between two faults of a kind.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a client stalls.
const STALL: Duration = Duration::from_secs(3);
const PATH: &str = "/v2/models/m/infer";

/// The faults so far.
pub(crate) struct Faults {
    counts: Arc<Counts>,
    load: Load,
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
        let (counts, mut load) = (Arc::<Counts>::default(), Load::default());
        let counted = || Arc::clone(&counts);
        load.spawn("faults of a server and leavers", |turn| {
            deaths(address, server, counted(), turn)
        });
        load.spawn("clients that stall", |turn| stalls(address, counted(), turn));
        Self { counts, load }
    }

    /// Fails when a fault has come to something else than it must.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.load.check().context("a fault")
    }

    /// Ends them. How many there were.
    pub(crate) async fn finish(self) -> Result<String> {
        let counted = self.to_string();
        self.load.finish().await.context("the faults")?;
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
async fn deaths(address: SocketAddr, server: Server, counts: Arc<Counts>, turn: Turn) -> Result<()> {
    while turn.goes_on() {
        server.conduct(Conduct::Die);
        let answer = post(address).await.context("a server that dies")?;
        ensure!(
            answer.status.is_server_error() && !answer.mesh_error().is_empty(),
            "a server that dies is answered with {answer:?}"
        );
        let call = Http2::connect(address)
            .await?
            .call("/inference.GRPCInferenceService/ModelInfer", &[], b"\x0a\x01m")
            .await
            .context("a call to a server that dies")?;
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
            next_piece(&mut events).await?.context("an event")?;
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
async fn stalls(address: SocketAddr, counts: Arc<Counts>, turn: Turn) -> Result<()> {
    while turn.goes_on() {
        let half = send(address, "POST /v2/models/m/infer HTTP/1.1\r\nhost: fau").await?;
        let ask = "POST /v2/models/m/infer HTTP/1.1\r\nhost: faulty\r\nx-size: 8000000\r\ncontent-length: 2\r\n\r\n{}";
        let slow = send(address, ask).await?;
        tokio::time::sleep(STALL).await;
        for (stream, counter) in [(half, &counts.stalls), (slow, &counts.slow_readers)] {
            // Closing then sends a reset.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }
    Ok(())
}

/// A new connection on which this is sent.
async fn send(address: SocketAddr, text: &str) -> Result<TcpStream> {
    let sent = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(text.as_bytes()).await?;
        anyhow::Ok(stream)
    };
    within("a connection to take a head", sent).await?
}
