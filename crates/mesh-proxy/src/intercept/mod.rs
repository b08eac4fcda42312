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

use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use crate::io::Prefixed;
use crate::listen::{Client, Course};
use crate::observe::Direction;
use crate::serve::serve_http;
use crate::worker::Worker;
use detect::Spoken;
use first_bytes::{FirstBytes, Until};

#[cfg(test)]
mod testing;

/// Takes a connection that was led to the sidecar; none: it is over.
pub async fn greet(mut client: Box<Client>, stream: TcpStream) -> Option<Course> {
    client.entry.destination = destination::original(&stream);
    match (client.entry.destination, client.direction) {
        (None, _) => Some(Box::pin(refuse(client, stream))),
        (Some(destination), Direction::Outbound) => outbound::greet(client, stream, destination).await,
        (Some(destination), Direction::Inbound) => inbound::greet(client, stream, destination).await,
    }
}

/// Turns away a connection that was made to the sidecar itself: whoever asks in HTTP is told why.
async fn refuse(client: Box<Client>, mut stream: TcpStream) {
    let Client { worker, entry, .. } = &*client;
    worker
        .observe
        .shared()
        .intercepted(client.direction, "not-intercepted");
    let first = first_bytes(worker, &mut stream, entry.listener, Until::Spoken).await;
    let io = Prefixed::new(first.bytes, stream);
    match first.spoken {
        Spoken::Http1 => serve_http(client, io, false).await,
        Spoken::Http2 => serve_http(client, io, true).await,
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
