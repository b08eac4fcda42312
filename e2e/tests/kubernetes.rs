//! Scenarios on a real Kubernetes cluster, each in a namespace of its own: the one that `KUBECONFIG` names, or the tests'
//! own (docs/testing-on-kubernetes.md).
//!
//! `cargo build --workspace --bins && cargo test -p mesh-e2e --test kubernetes -- --test-threads=1`

#[path = "kubernetes/authority.rs"]
mod authority;
#[path = "kubernetes/beside.rs"]
mod beside;
#[path = "kubernetes/catalog.rs"]
mod catalog;
#[path = "kubernetes/certificates.rs"]
mod certificates;
#[path = "kubernetes/control.rs"]
mod control;
#[path = "kubernetes/control_plane.rs"]
mod control_plane;
#[path = "kubernetes/drained.rs"]
mod drained;
#[path = "kubernetes/gateway.rs"]
mod gateway;
#[path = "kubernetes/hands.rs"]
mod hands;
#[path = "kubernetes/injected.rs"]
mod injected;
#[path = "kubernetes/installing.rs"]
mod installing;
#[path = "kubernetes/load.rs"]
mod load;
#[path = "kubernetes/mesh.rs"]
mod mesh;
#[path = "kubernetes/model_servers.rs"]
mod model_servers;
#[path = "kubernetes/pods.rs"]
mod pods;
#[path = "kubernetes/refused.rs"]
mod refused;
#[path = "kubernetes/replicas.rs"]
mod replicas;
#[path = "kubernetes/restarts.rs"]
mod restarts;
#[path = "kubernetes/rights.rs"]
mod rights;
#[path = "kubernetes/rollout.rs"]
mod rollout;
#[path = "kubernetes/roots.rs"]
mod roots;
#[path = "kubernetes/routes.rs"]
mod routes;
#[path = "kubernetes/servers.rs"]
mod servers;
#[path = "kubernetes/sidecar.rs"]
mod sidecar;
#[path = "kubernetes/tokens.rs"]
mod tokens;
#[path = "kubernetes/upgraded.rs"]
mod upgraded;
#[path = "kubernetes/webhook_down.rs"]
mod webhook_down;
