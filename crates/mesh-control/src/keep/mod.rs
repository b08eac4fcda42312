//! What the holder of the Lease keeps as it should be in the API server, whoever changes or deletes it.

pub mod bundles;
pub mod rotation;
pub mod webhooks;

/// Who owns what we write, in the API server's books.
const MANAGER: &str = "mesh-control";
