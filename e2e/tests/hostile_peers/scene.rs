//! A pair of sidecars with short limits, honest clients that measure, and connections that can be told to do anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use mesh_e2e::client::{Http1, full, request};
use mesh_e2e::documents::{caller, object, service, workload};
use mesh_e2e::mesh::{Mesh, Options};
use mesh_e2e::metrics::Metrics;
use mesh_e2e::net::{free_port, local};
use mesh_e2e::server::Server;
use mesh_e2e::wait;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a head, a silent body and a reader that does not read have here: all that a scenario waits for is as long.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);
/// How long a connection may be idle here: well beyond the time of a head.
pub(crate) const IDLE: Duration = Duration::from_secs(6);
/// The most connections of a worker here.
pub(crate) const CONNECTIONS: usize = 300;
/// How much slower honest requests may be under attack: two cores carry the attackers too.
pub(crate) const SLOWER: u32 = 25;
/// A time below this counts as this: what is too small to be compared.
const FLOOR: Duration = Duration::from_millis(4);
/// What h2 0.4.20 asserts of a connection that is let go of, in debug builds only: that none of its streams is counted as
/// open. It is not so if a client lowers its window behind the end of an answer to a request that it never ended. It ends
/// the task of that connection, which is over anyway.
const H2_DEBUG_ASSERTION: &str = "proto/streams/counts.rs:369";
/// How many requests are too few for a median.
const FEW: usize = 20;
/// How many requests a baseline is.
const BASELINE: usize = 100;

/// A server, the sidecar before it, and a caller's sidecar.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) mesh: Mesh,
    /// Where the caller's sidecar takes requests for the server.
    pub(crate) outbound: SocketAddr,
    /// Where the server's sidecar takes connections, in TLS or, here, in plaintext.
    pub(crate) inbound: SocketAddr,
}

impl Scene {
    /// Starts it, with more flags of the sidecars.
    pub(crate) async fn start(flags: &[&str]) -> Result<Self> {
        let server = Server::start("web").await?;
        let port = server.port();
        Self::before(server, port, flags).await
    }

    /// Starts it before whatever listens on this port.
    pub(crate) async fn before(server: Server, port: u16, flags: &[&str]) -> Result<Self> {
        let (listen, local_port) = (free_port()?, free_port()?);
        let mut config = object("MeshConfig", "mesh", &json!({"mtls": "permissive"}));
        if let Some(metadata) = config["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        let documents = [
            config,
            service("web", "http"),
            workload("web", "web", port, listen, "http"),
            caller("client", &[(local_port, "web")]),
        ];
        let seconds = |duration: Duration| format!("{}s", duration.as_secs());
        let own = [
            ("--head-timeout", seconds(LIMIT)),
            ("--body-timeout", seconds(LIMIT)),
            ("--stall-timeout", seconds(LIMIT)),
            ("--idle-timeout", seconds(IDLE)),
            ("--max-connections", CONNECTIONS.to_string()),
            ("--max-resets", "50".to_owned()),
            ("--max-empty-frames", "1000".to_owned()),
        ];
        let options = Options {
            proxy_flags: own
                .into_iter()
                .filter(|(flag, _)| !flags.contains(flag))
                .flat_map(|(flag, value)| [flag.to_owned(), value])
                .chain(flags.iter().map(|flag| (*flag).to_owned()))
                .collect(),
            ..Options::default()
        };
        let mesh = Mesh::start_with(&documents, &options).await?;
        Ok(Self {
            server,
            mesh,
            outbound: local(local_port),
            inbound: local(listen),
        })
    }

    /// Both listeners, each with its sidecar's name.
    pub(crate) fn listeners(&self) -> [(&'static str, SocketAddr); 2] {
        [("client", self.outbound), ("web", self.inbound)]
    }

    /// What a sidecar counts.
    pub(crate) async fn metrics(&mut self, sidecar: &str) -> Result<Metrics> {
        self.mesh.proxy(sidecar)?.metrics().await
    }

    /// How many connections a sidecar has cut off for this, or for one of these with a `|` between them.
    pub(crate) async fn cut(&mut self, sidecar: &str, reason: &str) -> Result<u64> {
        let metrics = self.metrics(sidecar).await?;
        let cut = |reason| metrics.sum("mesh_connections_cut_total", &[("reason", reason)]) as u64;
        Ok(reason.split('|').map(cut).sum())
    }

    /// Waits until a sidecar has cut off so many connections for this.
    pub(crate) async fn until_cut(&mut self, sidecar: &str, reason: &str, count: u64) -> Result<()> {
        wait::until(&format!("{count} × {reason} at {sidecar}"), async || {
            Ok((self.cut(sidecar, reason).await? >= count).then_some(()))
        })
        .await
    }

    /// Waits until a sidecar has no more client connections than this.
    pub(crate) async fn until_open(&mut self, sidecar: &str, most: usize) -> Result<()> {
        wait::until(&format!("{most} connections at {sidecar}"), async || {
            let open = self.metrics(sidecar).await?.sum("mesh_connections_open", &[]);
            Ok((open <= most as f64).then_some(()))
        })
        .await
    }

    /// Resident bytes and open descriptors of a sidecar.
    pub(crate) fn held(&mut self, sidecar: &str) -> Result<Held> {
        let process = self.mesh.proxy(sidecar)?.process();
        process.check()?;
        Ok(Held {
            bytes: process.resident_bytes()?,
            descriptors: process.descriptors()?,
        })
    }

    /// Runs an attack, with an honest client of the caller's sidecar before and meanwhile. None of its requests fails, and
    /// they take not much longer.
    pub(crate) async fn under<T>(&mut self, attack: impl AsyncFnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.under_within(SLOWER, attack).await
    }

    /// As [`under`](Self::under): so much slower.
    pub(crate) async fn under_within<T>(
        &mut self,
        slower: u32,
        attack: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let (result, before, under) = self.beside(attack).await?;
        let (before, under) = (typical(before), typical(under));
        ensure!(
            under <= before.max(FLOOR) * slower,
            "honest requests took {under:?} under attack, and {before:?} without"
        );
        Ok(result)
    }

    /// As [`under`](Self::under), for an attack that is as fast as it is let: so many of the client's requests are answered
    /// meanwhile. Both are slower on a slower machine.
    pub(crate) async fn under_serving<T>(
        &mut self,
        fewest: usize,
        attack: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let (result, _, under) = self.beside(attack).await?;
        let served = under.len();
        ensure!(
            served >= fewest,
            "{served} honest requests were served under attack"
        );
        Ok(result)
    }

    /// Runs an attack beside an honest client; also how long its requests took before, and meanwhile.
    async fn beside<T>(
        &mut self,
        attack: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, Vec<Duration>, Vec<Duration>)> {
        let mut honest = Honest::connect(self.outbound).await?;
        for _ in 0..BASELINE {
            honest.send().await.context("an honest request, before")?;
        }
        let before = std::mem::take(&mut honest.took);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let meanwhile = tokio::spawn(async move {
            // One request is sent under attack, however short it is.
            loop {
                honest.send().await.context("an honest request, under attack")?;
                if *stopped.borrow() {
                    return anyhow::Ok(honest.took);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let result = attack(self).await;
        stop.send_replace(true);
        let under = meanwhile.await??;
        Ok((result?, before, under))
    }

    /// Both sidecars run, and neither panicked.
    pub(crate) fn check(&mut self) -> Result<()> {
        for proxy in self.mesh.proxies() {
            proxy.process().check()?;
            let log = proxy.process().log();
            let panics = log.lines().filter(|line| line.contains("panicked"));
            let ours: Vec<_> = panics.filter(|line| !line.contains(H2_DEBUG_ASSERTION)).collect();
            ensure!(ours.is_empty(), "{ours:#?}\n{log}");
        }
        Ok(())
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) bytes: u64,
    pub(crate) descriptors: usize,
}

/// A client that does as clients should.
struct Honest {
    client: Http1,
    took: Vec<Duration>,
}

impl Honest {
    async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            client: Http1::connect(address).await?,
            took: Vec::new(),
        })
    }

    async fn send(&mut self) -> Result<()> {
        let began = Instant::now();
        let request = request(Method::POST, "/honest").body(full("hello"))?;
        self.client.send(request).await?.success()?;
        self.took.push(began.elapsed());
        Ok(())
    }
}

/// The median; of a few, of which any may be slow by chance, the fastest.
fn typical(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[if took.len() < FEW { 0 } else { took.len() / 2 }]
}

/// A connection of bytes.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    /// Reads until the other side closes, however it does.
    pub(crate) async fn until_closed(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut piece = vec![0; 16 << 10];
        loop {
            let read = tokio::time::timeout(wait::PATIENCE / 2, self.0.read(&mut piece))
                .await
                .context("the connection is not closed")?;
            match read {
                Ok(0) | Err(_) => return Ok(all),
                Ok(length) => all.extend_from_slice(&piece[..length]),
            }
        }
    }

    /// Reads one response's head, and what comes with it.
    pub(crate) async fn head(&mut self) -> Result<String> {
        let mut all = Vec::new();
        let mut piece = [0; 4_096];
        while !all.windows(4).any(|end| end == b"\r\n\r\n") {
            let length = tokio::time::timeout(wait::PATIENCE / 2, self.0.read(&mut piece))
                .await
                .context("no answer")??;
            ensure!(length > 0, "closed after {:?}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&piece[..length]);
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}

/// Sends bytes, and returns all that is answered until the connection is closed.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut raw = Raw::connect(address).await?;
    // Who has heard enough may close before it has heard all.
    let _ = raw.send(bytes).await;
    Ok(String::from_utf8_lossy(&raw.until_closed().await?).into_owned())
}
