//! What a run measured, as measured.

use serde::Serialize;

use crate::{contender::Name, load::Outcome, measure::memory::Memory, scenario::Scenario};

/// Everything a run measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Samples {
    pub(crate) loads: Vec<LoadSample>,
    pub(crate) memory: Vec<MemorySample>,
    pub(crate) rest: Vec<RestSample>,
}

/// One load through one pair in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LoadSample {
    pub(crate) contender: Name,
    pub(crate) scenario: Scenario,
    /// From 0.
    pub(crate) round: usize,
    /// User and system time of both proxies per request, in µs; `None` without proxies.
    pub(crate) cpu_us: Option<f64>,
    /// Requests answered per second.
    pub(crate) rps: f64,
    /// CPUs that others than the bench used meanwhile: 0 on a quiet machine.
    pub(crate) others: f64,
    pub(crate) outcome: Outcome,
}

/// The memory of the heavier proxy of a pair in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MemorySample {
    pub(crate) contender: Name,
    /// From 0.
    pub(crate) round: usize,
    pub(crate) idle: Memory,
    /// The most of all loads.
    pub(crate) loaded: Memory,
}

/// What a pair costs that does nothing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestSample {
    pub(crate) contender: Name,
    /// From 0.
    pub(crate) round: usize,
    /// CPU time of the busier proxy, in ms per second.
    pub(crate) idle_cpu: f64,
    /// Private memory of the outbound proxy for each idle plaintext connection, in bytes.
    pub(crate) plaintext: f64,
    /// Private memory of the inbound proxy for each idle TLS connection, in bytes.
    pub(crate) tls: f64,
}
