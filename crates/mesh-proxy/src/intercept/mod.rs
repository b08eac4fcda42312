//! Taking any program's traffic as it is, without a setting of the program's: the rules that lead its connections here,
//! where each of them was going, what its first bytes say it speaks, and where it goes from here.

pub mod client_hello;
pub mod destination;
pub mod detect;
pub mod first_bytes;
pub mod inbound;
pub mod init;
pub mod outbound;
pub mod rules;
pub mod server_first;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use crate::connections::Seat;
use crate::io::Prefixed;
use crate::listen::{self, Entry};
use crate::observe::Direction;
use crate::worker::Worker;
use detect::Spoken;
use first_bytes::{FirstBytes, Until};

#[cfg(test)]
mod testing;

/// Takes a connection that was led to the sidecar.
pub async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    mut entry: Entry,
    direction: Direction,
    seat: Arc<Seat>,
) {
    entry.destination = destination::original(&stream);
    match (entry.destination, direction) {
        (None, _) => refuse(worker, stream, entry, direction, seat).await,
        (Some(destination), Direction::Outbound) => {
            outbound::serve(worker, stream, entry, destination, seat).await;
        }
        (Some(destination), Direction::Inbound) => {
            inbound::serve(worker, stream, entry, destination, seat).await;
        }
    }
}

/// Turns away a connection that was made to the sidecar itself: whoever asks in HTTP is told why.
async fn refuse(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    entry: Entry,
    direction: Direction,
    seat: Arc<Seat>,
) {
    worker.observe.shared().intercepted(direction, "not-intercepted");
    let first = first_bytes(&worker, &mut stream, entry.listener, Until::Spoken).await;
    let io = Prefixed::new(first.bytes, stream);
    match first.spoken {
        Spoken::Http1 => listen::serve_http(worker, io, false, entry, direction, seat).await,
        Spoken::Http2 => listen::serve_http(worker, io, true, entry, direction, seat).await,
        Spoken::Tls(_) | Spoken::Opaque => {}
    }
}

/// Reads a client's first bytes for as long as the mesh allows, and not at all where the server is known to speak first.
pub async fn first_bytes(
    worker: &Worker,
    io: &mut (impl AsyncRead + Unpin),
    going_to: SocketAddr,
    until: Until,
) -> FirstBytes {
    let wait = match worker.shared.table.load().as_deref() {
        Some(table) if !worker.server_first.is_known(going_to) => table.mesh.detection_wait,
        Some(_) | None => return FirstBytes::unread(),
    };
    first_bytes::read(io, wait, until).await
}
