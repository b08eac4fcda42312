//! A Kubernetes cluster of the tests' own: the real programs, in namespaces of this machine, without a registry or a
//! container engine. [`ApiServer`] is a control plane alone, on loopback; [`Cluster`] runs pods.
//!
//! `e2e/cluster/provision` makes the programs, and `mesh-cluster` brings a cluster up and down by hand.

mod api_server;
mod capture;
mod cluster;
mod files;
mod gateway_api;
mod host;
mod image;
pub mod images;
mod kubectl;
pub mod layer;
mod namespace;
mod network;
mod node;
mod pki;
mod port_forward;
mod processes;
mod programs;
mod state;

pub use api_server::ApiServer;
pub use capture::{Capture, Segment};
pub use cluster::Cluster;
pub use gateway_api::install as install_gateway_api;
pub use host::{down, down_after, load, status, up};
pub use image::Archive;
pub use images::Image;
pub use kubectl::{KUBECONFIG_VARIABLE, Kubectl};
pub use namespace::Namespace;
pub use node::run as run_node;
pub use port_forward::PortForward;
pub use programs::{Missing, Program};
