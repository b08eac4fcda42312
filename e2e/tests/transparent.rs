//! Programs on machines of their own, in no way told of a mesh, whose connections `mesh-proxy init` leads through it: what
//! is for services goes there, in mutual TLS; what is not passes through untouched; what must not be is refused.
//!
//! It takes root, for network namespaces, and the packages that e2e/packages installs.

#[path = "transparent/elsewhere.rs"]
mod elsewhere;
mod kit;
#[path = "transparent/model_server.rs"]
mod model_server;
#[path = "transparent/on_demand.rs"]
mod on_demand;
#[path = "transparent/place.rs"]
mod place;
#[path = "transparent/programs.rs"]
mod programs;
