//! Who may call the workload. The answer is a value: nothing reaches the workload without it.

use mesh_api::document::MtlsMode;
use mesh_api::identity::Identity;

use crate::error::{Failure, Reason};
use crate::table::Table;

/// That a request may reach the workload. Only [`authorize`] makes one.
#[derive(Debug)]
pub struct Permit(());

/// Whether a caller may call the workload: one with an identity of the trust domain, or without any where
/// plaintext is accepted.
///
/// # Errors
/// When it may not.
pub fn authorize(table: &Table, peer: Option<&Identity>) -> Result<Permit, Failure> {
    match peer {
        Some(peer) if peer.trust_domain == table.mesh.trust_domain => Ok(Permit(())),
        Some(peer) => Err(Failure::new(
            Reason::Denied,
            format!("{peer} is not of trust domain {}", table.mesh.trust_domain),
        )),
        None if table.mtls == MtlsMode::Permissive => Ok(Permit(())),
        None => Err(Failure::new(
            Reason::Denied,
            "the caller has no identity, or one that has expired (mtls: strict)",
        )),
    }
}
