//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, value_parser};

use crate::{
    contender::Name,
    report::Format,
    scenario::{Exchange, Protocol, Scenario},
};

/// Measures a sidecar pair (load → outbound proxy → mTLS → inbound proxy → backend) of several meshes and proxies in
/// one run
#[derive(Debug, Parser)]
#[command(name = "mesh-bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure the contenders in turns and print a table
    Run(RunArgs),
    /// Send one load and print what happens as JSON lines
    Load(LoadArgs),
    /// Serve model answers over HTTP/1.1 and gRPC until ended
    Backend {
        /// Where to listen; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Count the instructions that requests cost the sidecars, and compare them with a budget
    Count {
        /// The folder that has mesh-control; default: where mesh-bench is
        #[arg(long, value_name = "DIR")]
        mesh: Option<PathBuf>,
        /// The mesh-proxy to count, built with --release
        #[arg(long, value_name = "PATH", default_value = "target/release/mesh-proxy")]
        proxy: PathBuf,
        /// What requests may cost
        #[arg(long, value_name = "FILE", default_value = "bench/instructions.json")]
        budget: PathBuf,
        /// Write what they cost now as the budget
        #[arg(long)]
        update: bool,
    },
    /// Open connections, send one request on each, and hold them until ended
    Hold {
        /// Where to connect to
        to: SocketAddr,
        /// How many connections
        #[arg(long, default_value = "1000")]
        connections: u16,
        /// What the requests name as their authority
        #[arg(long, default_value = "fraud")]
        authority: String,
        /// The PEM file with key and chain for TLS; without it, plaintext
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
    },
    /// Become a command that is bound to a core and ends with its parent
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        core: usize,
        #[arg(long, default_value = "0", allow_negative_numbers = true)]
        nice: i8,
        #[arg(long)]
        every_core: bool,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Who takes part, besides `direct`; one that cannot be had is an error if named here, else it is left out
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub(crate) contenders: Vec<Name>,
    /// Which loads; by default those that have a bar
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", default_values = Scenario::DEFAULT)]
    pub(crate) scenarios: Vec<Scenario>,
    /// How often each load is measured, 1 to 100; the order is reversed each time
    #[arg(long, default_value = "5", value_parser = value_parser!(u8).range(1..=100))]
    pub(crate) rounds: u8,
    /// How long each load is measured, 100ms to 10m; open loops four times as long, because their p99 is quoted
    #[arg(long, default_value = "5s", value_parser = measured)]
    pub(crate) duration: Duration,
    /// How long each load runs before it is measured, at most 10m
    #[arg(long, default_value = "1s", value_parser = span)]
    pub(crate) warmup: Duration,
    /// Requests per second of the open loops
    #[arg(long, default_value = "2000", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// How many connections are held to see what an idle one takes, 100 to 20000
    #[arg(long, default_value = "1000", value_parser = value_parser!(u16).range(100..=20_000))]
    pub(crate) held: u16,
    /// Measure neither idle proxies nor idle connections
    #[arg(long)]
    pub(crate) no_rest: bool,
    /// End with failure if a bar does not hold or can't be told
    #[arg(long)]
    pub(crate) bars: bool,
    /// The core of load generator and backend
    #[arg(long, default_value_t = 0)]
    pub(crate) load_core: usize,
    /// The core of both proxies
    #[arg(long, default_value_t = 1)]
    pub(crate) proxy_core: usize,
    /// How nice load generator, backend and proxies are to others, -20 to 19; below 0 needs root, and keeps a busy
    /// machine out of the latencies
    #[arg(long, default_value = "0", allow_negative_numbers = true, value_parser = value_parser!(i8).range(-20..=19))]
    pub(crate) nice: i8,
    /// The folder that peers are installed into
    #[arg(long, env = "MESH_BENCH_CACHE", default_value = "target/bench-peers")]
    pub(crate) cache: PathBuf,
    /// An Envoy to take instead of installing one
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
    /// An nginx to take instead of the system's or Debian's
    #[arg(long, value_name = "PATH")]
    pub(crate) nginx: Option<PathBuf>,
    /// A HAProxy to take instead of the system's or Debian's
    #[arg(long, value_name = "PATH")]
    pub(crate) haproxy: Option<PathBuf>,
    /// The folder that has mesh-control and mesh-proxy; default: where mesh-bench is
    #[arg(long, value_name = "DIR")]
    pub(crate) mesh: Option<PathBuf>,
    /// Stay in the machine's network namespace
    #[arg(long)]
    pub(crate) shared_network: bool,
    /// How to print the result
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Where to send requests
    pub(crate) to: SocketAddr,
    /// What to speak
    #[arg(long, default_value = "http1")]
    pub(crate) protocol: Protocol,
    /// What to exchange
    #[arg(long, default_value = "infer")]
    pub(crate) exchange: Exchange,
    /// The PEM file with key and chain that handshakes are made with
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// What requests name as their authority
    #[arg(long, default_value = "fraud")]
    pub(crate) authority: String,
    /// Connections
    #[arg(long, default_value = "32", value_parser = value_parser!(u16).range(1..=4096))]
    pub(crate) connections: u16,
    /// Requests in flight on one connection; 1 for http1
    #[arg(long, default_value = "1", value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) streams: u16,
    /// Requests per second (open loop); without it, each is sent when the last response is there (closed loop)
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
    /// How long before requests count, at most 10m
    #[arg(long, default_value = "1s", value_parser = span)]
    pub(crate) warmup: Duration,
    /// How long requests count, 100ms to 10m
    #[arg(long, default_value = "5s", value_parser = measured)]
    pub(crate) duration: Duration,
}

const LONGEST: Duration = Duration::from_secs(600);
const SHORTEST: Duration = Duration::from_millis(100);

/// A time like `500ms`, `5s` or `1m30s`, at most 10 minutes.
fn span(text: &str) -> Result<Duration, String> {
    let span = text
        .parse::<mesh_api::duration::Duration>()
        .map_err(|error| error.to_string())?
        .get();
    if span > LONGEST {
        Err("more than 10m".to_owned())
    } else {
        Ok(span)
    }
}

/// The same, at least 100 ms: clock ticks are 10 ms.
fn measured(text: &str) -> Result<Duration, String> {
    span(text).and_then(|span| {
        if span < SHORTEST {
            Err("less than 100ms".to_owned())
        } else {
            Ok(span)
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times() {
        let cases = [
            ("500ms", Some(500)),
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("10m", Some(600_000)),
            ("10m1ms", None),
            ("99ms", None),
            ("5", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                measured(text).ok(),
                expected.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn bad_flags_are_refused() {
        for arguments in [
            &["run", "--rounds", "0"][..],
            &["run", "--contenders", "squid"],
            &["run", "--scenarios", "http3"],
            &["run", "--rate", "0"],
            &["run", "--nice", "-21"],
            &["load", "--connections", "0", "127.0.0.1:1"],
            &["load", "nowhere"],
            &["launch", "--core", "1"],
        ] {
            assert!(
                Cli::try_parse_from([&["mesh-bench"], arguments].concat()).is_err(),
                "{arguments:?}"
            );
        }
    }
}
