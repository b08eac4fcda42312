//! The certificate authority of the mesh.

pub mod folder;
pub mod issue;
pub mod root;
pub mod rotation;
pub mod secret;
pub mod trust;

pub use issue::{Authority, Certified, IssueError, ServerLeaf, ServerNames};
pub use root::Root;
pub use trust::{Trust, TrustId};

/// Bytes that nobody can guess.
///
/// # Errors
/// When the system has none.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(bytes)
}
