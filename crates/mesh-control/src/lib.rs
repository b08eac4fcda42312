//! The control plane, standalone: documents in, configuration and identity out.
//!
//! `source` sees files, `index` decides which documents are in force, `compile` makes of them what each proxy is to do,
//! `publish` gives that a version, `grpc` hands it out. `ca` and `join` say who is who. `store` writes documents.

pub mod ca;
pub mod clock;
pub mod compile;
pub mod config;
pub mod file;
pub mod grpc;
pub mod index;
pub mod join;
pub mod peer;
pub mod plane;
pub mod proxies;
pub mod publish;
pub mod serve;
pub mod source;
pub mod state;
pub mod store;
pub mod tls;
pub mod traffic;
