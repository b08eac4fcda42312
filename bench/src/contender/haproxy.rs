//! HAProxy, from Debian's package, one thread: mTLS with HTTP/2 between the two, whatever the client speaks.
//! A floor, not an equal: it checks certificates, but no SPIFFE identity, and counts nothing by model or version.

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context, Result};

use super::{Contender, Ground, Pair, Sources, free_address};
use crate::{
    install::{self, Package},
    process::{Running, Start},
    tls,
};

/// What Debian's package needs and a machine without HAProxy seldom has comes with it.
const PACKAGE: Package = Package {
    name: "haproxy",
    with: &["liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"],
    program: "usr/sbin/haproxy",
};

pub(super) struct Haproxy {
    program: PathBuf,
    /// Where it finds its libraries, unless the system has them.
    libraries: Option<PathBuf>,
    version: String,
}

impl Haproxy {
    pub(super) fn prepare(sources: &Sources) -> Result<Self> {
        let found = match &sources.haproxy {
            Some(program) => install::Found::of_system(program.clone()),
            None => PACKAGE
                .find_or_unpack(&sources.cache)
                .context("cannot get HAProxy (or name one with --haproxy PATH)")?,
        };
        let version = found.version("-v")?;
        // `HAProxy version 2.6.12-… 2025/…- https://haproxy.org/`: the number is enough.
        let number = version.split_ascii_whitespace().nth(2).unwrap_or(&version);
        Ok(Self {
            version: format!("HAProxy {number}"),
            program: found.program,
            libraries: found.libraries,
        })
    }

    fn run(&self, name: &str, ground: &Ground<'_>, config: &str) -> Result<Running> {
        let path = ground.folder.join(format!("{name}.cfg"));
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        Start {
            name,
            program: &self.program,
            place: ground.place,
            folder: ground.folder,
            libraries: self.libraries.as_deref(),
        }
        .quiet(&[OsString::from("-db"), "-f".into(), path.into()])
    }
}

impl Contender for Haproxy {
    fn version(&self) -> &str {
        &self.version
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Pair> {
        let (entry, between) = (free_address()?, free_address()?);
        let ca = ground.tls.join("ca.pem");
        let inbound = format!(
            "{GLOBAL}
frontend between
  bind {between} ssl crt {crt} ca-file {ca} verify required alpn h2
  use_backend grpc if {{ req.hdr(content-type) -m beg application/grpc }}
  default_backend http1
backend grpc
  server workload {backend} proto h2
backend http1
  server workload {backend}
",
            crt = ground.tls.join("inbound-both.pem").display(),
            ca = ca.display(),
            backend = ground.backend,
        );
        let outbound = format!(
            "{GLOBAL}
frontend entry
  bind {entry}
  default_backend peer
backend peer
  server peer {between} ssl crt {crt} ca-file {ca} verify required verifyhost {name} sni str({name}) alpn h2
",
            crt = ground.tls.join("outbound-both.pem").display(),
            ca = ca.display(),
            name = tls::INBOUND_DNS,
        );
        let inbound = self.run("inbound", ground, &inbound)?;
        let outbound = self.run("outbound", ground, &outbound)?;
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

/// One thread, TLS 1.3, no time limit that a load could run into.
const GLOBAL: &str = "global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
";
