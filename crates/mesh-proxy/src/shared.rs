//! What the control side of a proxy and its workers share: the Table, the credentials, the drain, the limits, the
//! services asked for. Nothing else.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::discovery::Discovery;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::memory::Memory;
use crate::table::Table;
use crate::tls::CredentialsCell;

/// What the control side writes and workers read.
#[derive(Default)]
pub struct Shared {
    /// What the proxy does now; none before the first configuration.
    pub table: ArcSwapOption<Table>,
    /// Who the proxy is now; none before the first certificate.
    pub credentials: Arc<CredentialsCell>,
    /// Whether the proxy is about to end.
    pub drain: Drain,
    /// What peers may do at most; the same for as long as the proxy runs.
    pub limits: Limits,
    /// Which services are had on demand.
    pub discovery: Discovery,
    /// Whether the proxy holds as much memory as it may.
    pub memory: Memory,
}
