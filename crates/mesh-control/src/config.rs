//! What the control plane is started with: standalone here, on Kubernetes in `kubernetes`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mesh_api::identity::TrustDomain;

pub mod kubernetes;

/// The control plane of the mesh: documents in, configuration and identity out.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "mesh-control",
    version,
    after_help = "`mesh-control kubernetes` runs a control plane on Kubernetes: see `mesh-control kubernetes --help`."
)]
pub struct Config {
    /// Folder of YAML documents, or one file
    #[arg(long, value_name = "DIR|FILE")]
    pub config: PathBuf,

    /// Folder for the root of trust, versions and the admin socket; it is closed to others
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,

    /// Where proxies connect; port 0: any free one, told in DIR/control.addr
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15010")]
    pub listen: SocketAddr,

    /// The trust domain of every identity
    #[arg(long, value_name = "NAME", default_value = "mesh.local")]
    pub trust_domain: TrustDomain,

    /// How long workloads' certificates last, 5s to 720h; under 10m, clocks of machines must agree to the second
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = leaf_lifetime)]
    pub leaf_lifetime: Duration,

    /// Keep the root of trust in memory: every start makes a new one
    #[arg(long)]
    pub ephemeral_ca: bool,

    /// How the log is written to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// JSON objects for machines
    Json,
}

/// Shorter than a few seconds, a certificate would end while its proxy renews it; longer than a month, it could not be
/// taken back.
fn leaf_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = text
        .parse::<mesh_api::duration::Duration>()
        .map_err(|error| error.to_string())?
        .get();
    if !(Duration::from_secs(5)..=Duration::from_secs(720 * 3_600)).contains(&lifetime) {
        return Err(format!("{text} is not between 5s and 720h"));
    }
    Ok(lifetime)
}
