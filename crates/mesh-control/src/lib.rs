//! The control plane: documents in, configuration and identity out.
//!
//! Standalone, `source` sees files, `index` decides which documents are in force, and `compile` makes a `view` of them: what
//! all proxies are to do. On Kubernetes, `source` watches objects, `catalog` keeps the view, and `status` says what has come of
//! them; `lease` says which replica writes, `keep` what it keeps there, and `webhook` answers the API server. `publish` gives a view its version, `grpc` hands
//! each proxy its part. `ca`, `join` and `review` say who is who. `store` writes documents.

pub mod api;
pub mod ca;
pub mod catalog;
pub mod clock;
pub mod compile;
pub mod config;
pub mod file;
pub mod files;
pub mod grpc;
pub mod health;
pub mod http;
pub mod index;
pub mod join;
pub mod keep;
pub mod lease;
pub mod metrics;
pub mod objects;
pub mod peer;
pub mod plane;
pub mod proxies;
pub mod publish;
pub mod replicas;
pub mod review;
pub mod serve;
pub mod source;
pub mod state;
pub mod status;
pub mod store;
pub mod tls;
pub mod traffic;
pub mod view;
pub mod webhook;
