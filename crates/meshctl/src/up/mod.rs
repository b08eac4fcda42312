//! A whole mesh on one machine: control plane, a sidecar per Workload, and the Workloads' own processes.

mod guard;
mod lock;
mod logs;
mod mesh;
mod plan;
mod process;
mod supervise;
mod unit;

pub(crate) use guard::{Guard, run as guard};
pub(crate) use lock::Lock;
pub(crate) use logs::tail;
pub(crate) use mesh::{Options, Running, interrupted};
