//! What the proxy is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use mesh_api::duration::Duration;
use mesh_api::identity::Identity;
use mesh_api::name::ObjectName;

use crate::discovery::OnDemand;
use crate::limits::Limits;
use crate::probe::Probing;

/// The sidecar of the mesh: routes, secures and records the model requests of one workload.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "mesh-proxy",
    version,
    after_help = "`mesh-proxy init` leads a network namespace's connections to its sidecar, `mesh-proxy ready` says whether it is \
                  ready, `mesh-proxy outlast` waits until it is not needed any more: see the --help of each."
)]
pub struct Config {
    /// The Workload this proxy stands before, as namespace/name
    #[arg(long, value_name = "NAMESPACE/NAME", env = "MESH_WORKLOAD")]
    pub workload: ObjectName,

    /// Where the control plane listens
    #[arg(long, value_name = "HOST:PORT", env = "MESH_CONTROL", value_parser = host_and_port)]
    pub control: String,

    /// PEM file with the roots that vouch for the control plane
    #[arg(long, value_name = "FILE", env = "MESH_TRUST_BUNDLE")]
    pub trust_bundle: PathBuf,

    /// File with the join token for the first certificate; later ones need none
    #[arg(long, value_name = "FILE", env = "MESH_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// File with the pod's service account token, on Kubernetes; read anew for each certificate, since it is rotated
    #[arg(
        long,
        value_name = "FILE",
        env = "MESH_SERVICE_ACCOUNT_TOKEN_FILE",
        conflicts_with = "token_file"
    )]
    pub service_account_token_file: Option<PathBuf>,

    /// Folder for the last configuration and the certificate; made if missing, closed to others. A proxy that is
    /// started with the folder of one that runs takes over from it: it gets its listeners, and the other drains and ends
    #[arg(long, value_name = "DIR", env = "MESH_STATE")]
    pub state: PathBuf,

    /// Where metrics, health and the table are told; whoever reaches it may read them and drain the proxy
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15000",
        env = "MESH_ADMIN"
    )]
    pub admin: SocketAddr,

    /// What the kubelet is answered
    #[command(flatten)]
    pub probing: Probing,

    /// Worker threads, 1 to 1024; default: one for each core
    #[arg(long, value_name = "N", env = "MESH_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// The identity to ask for; default: the one the control plane has for the workload
    #[arg(long, value_name = "SPIFFE-ID")]
    pub identity: Option<Identity>,

    /// How long requests in flight have to end when the proxy is told to, or when another one has taken over;
    /// default: as long as they need
    #[arg(long, value_name = "DURATION")]
    pub drain_limit: Option<Duration>,

    /// How services are had on demand.
    #[command(flatten)]
    pub on_demand: OnDemand,

    /// How the proxy's own log is written to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// What peers may do at most
    #[command(flatten)]
    pub limits: Limits,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// JSON objects for machines
    Json,
}

impl Config {
    /// How many workers to start.
    pub fn worker_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cores, usize::from)
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    let authority: http::uri::Authority = text
        .parse()
        .map_err(|_| format!("{text:?} is not host:port, such as 127.0.0.1:15010"))?;
    match authority.port_u16() {
        Some(port) if port > 0 && !authority.host().is_empty() && !text.contains('@') => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not host:port, such as 127.0.0.1:15010")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let base = "mesh-proxy --workload ml/web --trust-bundle ca.pem --state s";
        Config::try_parse_from(base.split(' ').chain(more.iter().copied()))
    }

    #[test]
    fn good_flags() {
        let config = parse(&[
            "--control",
            "[::1]:15010",
            "--drain-limit",
            "30s",
            "--workers",
            "2",
        ])
        .unwrap();
        assert_eq!(config.worker_count(), 2);
        assert!(config.admin.ip().is_loopback());
        assert_eq!(config.limits, Limits::default());
        assert!(parse(&["--control", "control.mesh-system.svc:15010"]).is_ok());
    }

    #[test]
    fn bad_flags_are_refused() {
        for control in [
            "",
            "host",
            "host:0",
            "host:70000",
            ":1",
            "http://host:1",
            "a@host:1",
            "host:1/path",
        ] {
            assert!(parse(&["--control", control]).is_err(), "{control}");
        }
        for bad in [
            ["--workers", "0"],
            ["--workers", "-1"],
            ["--admin", "15000"],
            ["--drain-limit", "5"],
            ["--identity", "spiffe://mesh.local/web"],
            ["--workload", "a/b/c"],
            ["--log-format", "xml"],
            ["--probe-listen", "15020"],
            ["--probes", "{\"web/readiness\": {}}"],
            ["--pod-ip", "web"],
            ["--max-head-bytes", "8191"],
            ["--max-headers", "1001"],
            ["--head-timeout", "999ms"],
            ["--idle-timeout", "25h"],
            ["--max-connections", "0"],
            ["--max-resets", "9"],
            ["--max-empty-frames", "99"],
            ["--memory-limit", "1000000"],
        ] {
            assert!(
                parse(&[&["--control", "h:1"], &bad[..]].concat()).is_err(),
                "{bad:?}"
            );
        }
        let two_tokens = [
            "--control",
            "h:1",
            "--token-file",
            "a",
            "--service-account-token-file",
            "b",
        ];
        assert!(parse(&two_tokens).is_err());
    }
}
