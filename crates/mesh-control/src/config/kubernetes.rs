//! What the control plane is started with on Kubernetes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mesh_api::identity::TrustDomain;
use mesh_api::name::Name;

use super::{LogFormat, leaf_lifetime};

/// The control plane of the mesh on Kubernetes: objects of the API server in, configuration and identity out. Several
/// replicas serve; the one that holds Lease mesh-control writes.
#[derive(Clone, Debug, Parser)]
#[command(name = "mesh-control kubernetes", version)]
pub struct Config {
    /// The namespace of the control plane
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "mesh-system"
    )]
    pub namespace: Name,

    /// The name of this replica: its pod's
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub pod: Name,

    /// Where proxies connect, over TLS
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15010")]
    pub listen: SocketAddr,

    /// Where the API server calls the webhooks, over HTTPS
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15017")]
    pub webhook_listen: SocketAddr,

    /// Where /metrics, /live and /ready are told, over HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15014")]
    pub metrics_listen: SocketAddr,

    /// Where meshctl asks, on loopback: whoever may forward ports to this pod may ask
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:15011",
        value_parser = loopback
    )]
    pub admin_listen: SocketAddr,

    /// The trust domain of every identity
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,

    /// The domain of the Kubernetes cluster: what stands behind svc. in the names of Services
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// How long workloads' certificates last, 5s to 720h; under 10m, clocks of machines must agree to the second
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = leaf_lifetime)]
    pub leaf_lifetime: Duration,

    /// File with the settings of injection, read again when it changes: ConfigMap mesh-inject
    #[arg(long, value_name = "FILE", env = "MESH_INJECT_CONFIG")]
    pub inject_config: Option<PathBuf>,

    /// How the log is written to standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Whoever reaches the Admin service may use it.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => Err(format!(
            "{text} is not on loopback, and the Admin service asks nobody who they are"
        )),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let base = [
            "kubernetes",
            "--pod",
            "mesh-control-5c9f-x2",
            "--namespace",
            "mesh-system",
        ];
        Config::try_parse_from(base.iter().copied().chain(more.iter().copied()))
    }

    #[test]
    fn defaults_are_those_that_others_rely_on() {
        let config = parse(&[]).unwrap();
        let ports = [
            config.listen,
            config.webhook_listen,
            config.metrics_listen,
            config.admin_listen,
        ]
        .map(|address| address.port());
        assert_eq!(ports, [15010, 15017, 15014, 15011]);
        assert_eq!(config.trust_domain.as_str(), "cluster.local");
        assert_eq!(config.leaf_lifetime, Duration::from_secs(86_400));
    }

    #[test]
    fn bad_flags_are_refused() {
        for bad in [
            ["--admin-listen", "[::]:15011"],
            ["--admin-listen", "10.0.0.1:15011"],
            ["--trust-domain", "Cluster.Local"],
            ["--leaf-lifetime", "1s"],
            ["--listen", "15010"],
            ["--namespace", "a/b"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
