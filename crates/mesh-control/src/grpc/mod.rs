//! The gRPC services, and who may use them.

pub mod admin;
pub mod config;
pub mod identity;
pub mod telemetry;

use mesh_api::identity::Identity;
use mesh_api::name::ObjectName;
use tonic::{Extensions, Status};

use crate::peer::Peer;
use crate::tls::Caller;

/// The longest id of a proxy and name of its software, in bytes.
const MAX_WORD: usize = 128;

/// The caller's certificate, which must not have ended since the handshake.
pub(crate) fn peer(extensions: &Extensions, now: i64) -> Result<Option<Peer>, Status> {
    let caller = extensions
        .get::<Caller>()
        .ok_or_else(|| Status::internal("the connection's caller is not known"))?;
    match &caller.peer {
        Some(peer) if peer.expiry <= now => Err(Status::unauthenticated(
            "the certificate of this connection has ended: connect again with a new one",
        )),
        peer => Ok(peer.clone()),
    }
}

/// The caller's certificate, which must be there.
pub(crate) fn known_peer(extensions: &Extensions, now: i64) -> Result<Peer, Status> {
    peer(extensions, now)?.ok_or_else(|| {
        Status::permission_denied("this needs a certificate of the mesh: get one with a join token first")
    })
}

/// Refuses a caller that is not who it must be to speak for a workload.
pub(crate) fn authorise(peer: &Peer, identity: &Identity, workload: &ObjectName) -> Result<(), Status> {
    if peer.identity == *identity {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "the certificate is of {}, and workload {workload} is {identity}",
        peer.identity
    )))
}

/// A word of a proxy's: not empty, not long, and printable, since it comes into logs and tables.
pub(crate) fn word(field: &str, text: &str) -> Result<String, Status> {
    if (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Ok(text.to_owned());
    }
    Err(Status::invalid_argument(format!(
        "{field} must be 1 to {MAX_WORD} printable ASCII characters"
    )))
}

pub(crate) fn object_name(field: &str, text: &str) -> Result<ObjectName, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}
