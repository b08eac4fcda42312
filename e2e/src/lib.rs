//! What the scenarios of the whole mesh stand on: a mesh of real processes on one machine, model servers that do as
//! they are told, and clients that count.
//!
//! The processes are the binaries of this build, which cargo does not build by itself for another crate's tests:
//! `./test` does, or `cargo build --workspace --bins` before `cargo test -p mesh-e2e`.

pub mod canary;
pub mod client;
pub mod crowd;
pub mod documents;
pub mod draw;
pub mod kubernetes;
pub mod load;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod netns;
pub mod process;
pub mod proxy;
pub mod returning;
pub mod server;
pub mod wait;
