//! The control plane: documents in, configuration and identity out.
//!
//! `source` sees files, `index` decides which documents are in force, `compile` makes of them what each proxy is to do,
//! `publish` gives that a version, `grpc` hands it out. `ca`, `join` and `review` say who is who. `store` writes documents.
//! On Kubernetes, `lease` says which replica writes, and `keep` what it keeps there.

pub mod api;
pub mod ca;
pub mod clock;
pub mod compile;
pub mod config;
pub mod file;
pub mod grpc;
pub mod health;
pub mod http;
pub mod index;
pub mod join;
pub mod keep;
pub mod lease;
pub mod metrics;
pub mod peer;
pub mod plane;
pub mod proxies;
pub mod publish;
pub mod review;
pub mod serve;
pub mod source;
pub mod state;
pub mod store;
pub mod tls;
pub mod traffic;
