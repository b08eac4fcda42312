//! The gRPC contracts of `proto/`, and the way between their messages and the model.
//!
//! What comes from the wire becomes a valid, owned type of the model or an error that names object and field.

mod decode;
mod encode;

pub use decode::{WireError, delta, route};

/// Configuration: control plane → proxy.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod config {
    tonic::include_proto!("mesh.config.v1");
}

/// Certificates.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod identity {
    tonic::include_proto!("mesh.identity.v1");
}

/// Counts: proxy → control plane.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod telemetry {
    tonic::include_proto!("mesh.telemetry.v1");
}

/// What meshctl asks.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod admin {
    tonic::include_proto!("mesh.admin.v1");
}
