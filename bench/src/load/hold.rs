//! Connections that have carried one request each and then lie idle.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result};

use super::{Client, Event, Plan, Prover};
use crate::scenario::Protocol;

/// Which connections to hold.
pub(crate) struct Hold {
    pub(crate) to: SocketAddr,
    pub(crate) authority: String,
    pub(crate) connections: usize,
    /// The PEM file with key and chain for TLS; without it, plaintext.
    pub(crate) identity: Option<PathBuf>,
}

/// Opens them one after the other, each with one request, says [`Event::Opened`], and holds them until the process ends.
pub(crate) async fn run(hold: &Hold, announce: impl FnOnce(Event) -> Result<()>) -> Result<()> {
    let prover = hold
        .identity
        .as_deref()
        .map(|file| Prover::new(file, true))
        .transpose()?;
    let mut plan = Plan::single(Protocol::Http1, hold.to, &hold.authority);
    let mut held = Vec::new();
    for _ in 0..hold.connections {
        let mut clients = match &prover {
            None => Client::connect(&plan).await?,
            Some(prover) => {
                let stream = prover.connect(hold.to).await?;
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                plan.protocol = if is_http2 {
                    Protocol::Http2
                } else {
                    Protocol::Http1
                };
                Client::over(stream, &plan).await?
            }
        };
        clients.first_mut().context("no connection")?.call().await?;
        held.append(&mut clients);
    }
    announce(Event::Opened)?;
    std::future::pending().await
}
