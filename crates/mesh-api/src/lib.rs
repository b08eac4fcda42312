//! The routing and policy model of the mesh: what documents say, what a proxy receives, and the pure decisions
//! (recognise, match, split) that proxy, control plane and command line all take with this one code.
//!
//! Nothing here opens a socket, reads a clock or needs a runtime.

pub mod document;
pub mod duration;
pub mod explain;
pub mod identity;
pub mod inference;
pub mod inject;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod matching;
pub mod name;
pub mod network;
pub mod route;
pub mod schema;
pub mod snapshot;
pub mod split;
pub mod telemetry;
pub mod validate;
pub mod wire;
