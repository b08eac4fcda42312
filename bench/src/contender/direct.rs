//! No proxy: the load generator talks to the backend itself. Its latency is subtracted from the others', and its
//! throughput is the ceiling of the harness.

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
            authority: "fraud".to_owned(),
            proxies: Vec::new(),
            others: Vec::new(),
        })
    }
}
