//! The sidecar: routes, secures and records model requests.

pub mod observe;
pub mod tls;
