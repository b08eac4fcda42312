//! No proxy: the load generator talks to the backend itself. Its latency is subtracted from the others', and its
//! throughput is the ceiling of the harness.

use std::path::PathBuf;

use anyhow::Result;

use super::{Contender, Ground, Pair};

pub(super) struct Direct;

impl Contender for Direct {
    fn version(&self) -> &'static str {
        "no proxy"
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Pair> {
        Ok(Pair {
            http1: ground.backend,
            grpc: ground.backend,
            chat: ground.backend,
            opaque: ground.backend,
            between: ground.backend,
            identity: PathBuf::new(),
            authority: "fraud".to_owned(),
            proxies: Vec::new(),
            others: Vec::new(),
        })
    }
}
