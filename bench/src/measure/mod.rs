//! What is read from the kernel and from the clock: CPU time, memory, latency.

pub(crate) mod cpu;
pub(crate) mod histogram;
pub(crate) mod memory;
pub(crate) mod tree;
