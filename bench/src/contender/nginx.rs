//! nginx, from Debian's package, one worker: mTLS with keep-alive pools, HTTP/1.1 kept as HTTP/1.1 and gRPC as HTTP/2.
//! A floor, not an equal: it checks certificates, but no SPIFFE identity, and counts nothing.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Contender, Ground, Pair, Sources, free_address};
use crate::{
    install::{Found, Package},
    process::{Running, Start},
    tls,
};

const PACKAGE: Package = Package {
    name: "nginx",
    with: &[],
    program: "usr/sbin/nginx",
};

pub(super) struct Nginx {
    program: PathBuf,
    version: String,
}

impl Nginx {
    pub(super) fn prepare(sources: &Sources) -> Result<Self> {
        let found = match &sources.nginx {
            Some(program) => Found::of_system(program.clone()),
            None => PACKAGE
                .find_or_unpack(&sources.cache)
                .context("cannot get nginx (or name one with --nginx PATH)")?,
        };
        let version = found.version("-v")?;
        Ok(Self {
            program: found.program,
            version: version.trim_start_matches("nginx version: ").to_owned(),
        })
    }

    fn run(&self, name: &str, ground: &Ground<'_>, servers: &str) -> Result<Running> {
        // A folder each, because nginx keeps its process id and its scratch files under the prefix.
        let prefix = ground.folder.join(name);
        fs::create_dir_all(&prefix).with_context(|| format!("cannot make {}", prefix.display()))?;
        let path = prefix.join("nginx.conf");
        fs::write(&path, main(servers)).with_context(|| format!("cannot write {}", path.display()))?;
        let (prefix, path) = (prefix.to_string_lossy(), path.to_string_lossy());
        Start {
            name,
            program: &self.program,
            place: ground.place,
            folder: ground.folder,
            libraries: None,
        }
        .quiet(&["-p", &prefix, "-c", &path, "-e", "stderr"])
    }
}

impl Contender for Nginx {
    fn version(&self) -> &str {
        &self.version
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Pair> {
        let entry = Ports {
            http1: free_address()?,
            grpc: free_address()?,
        };
        let between = Ports {
            http1: free_address()?,
            grpc: free_address()?,
        };
        let inbound = self.run("inbound", ground, &inbound(ground, &between))?;
        let outbound = self.run("outbound", ground, &outbound(ground.tls, &entry, &between))?;
        Ok(Pair {
            http1: entry.http1,
            grpc: entry.grpc,
            chat: entry.http1,
            opaque: entry.http1,
            between: between.http1,
            identity: ground.tls.join("outbound-both.pem"),
            authority: "fraud".to_owned(),
            proxies: vec![outbound, inbound],
            others: Vec::new(),
        })
    }
}

/// nginx 1.22 does not tell HTTP/1.1 and h2c apart on one port.
struct Ports {
    http1: SocketAddr,
    grpc: SocketAddr,
}

fn main(servers: &str) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
{servers}}}
"
    )
}

/// Takes HTTP/1.1 and h2c, sends the same over mTLS.
fn outbound(tls: &Path, entry: &Ports, between: &Ports) -> String {
    let certificates = |directive: &str| {
        format!(
            "      {directive}_certificate {0}/outbound.pem;
      {directive}_certificate_key {0}/outbound.key;
      {directive}_trusted_certificate {0}/ca.pem;
      {directive}_verify on;
      {directive}_name {1};
      {directive}_server_name on;
      {directive}_protocols TLSv1.3;
",
            tls.display(),
            tls::INBOUND_DNS
        )
    };
    let http1 = format!("proxy_pass https://http1;\n{HTTP1}{}", certificates("proxy_ssl"));
    let grpc = format!("grpc_pass grpcs://grpc;\n{}", certificates("grpc_ssl"));
    upstream("http1", between.http1)
        + &upstream("grpc", between.grpc)
        + &server(&format!("{}", entry.http1), "", &http1)
        + &server(&format!("{} http2", entry.grpc), "", &grpc)
}

/// Takes HTTP/1.1 and HTTP/2 over mTLS, sends the same to the backend.
fn inbound(ground: &Ground<'_>, between: &Ports) -> String {
    let certificates = format!(
        "    ssl_certificate {0}/inbound.pem;
    ssl_certificate_key {0}/inbound.key;
    ssl_client_certificate {0}/ca.pem;
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
",
        ground.tls.display()
    );
    upstream("http1", ground.backend)
        + &upstream("grpc", ground.backend)
        + &server(
            &format!("{} ssl", between.http1),
            &certificates,
            &format!("proxy_pass http://http1;\n{HTTP1}"),
        )
        + &server(
            &format!("{} ssl http2", between.grpc),
            &certificates,
            "grpc_pass grpc://grpc;\n",
        )
}

/// Keep-alive towards the next hop, which nginx does not do by itself.
const HTTP1: &str = "      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
";

fn upstream(name: &str, at: SocketAddr) -> String {
    format!("  upstream {name} {{ server {at}; keepalive 64; keepalive_requests 1000000000; }}\n")
}

fn server(listen: &str, settings: &str, location: &str) -> String {
    format!("  server {{\n    listen {listen};\n{settings}    location / {{\n      {location}    }}\n  }}\n")
}
