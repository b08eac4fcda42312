//! A connection to this workload that was led here: to the port of the process that it was going to.

use std::net::SocketAddr;
use std::rc::Rc;

use mesh_api::document::MtlsMode;
use tokio::net::TcpStream;

use crate::listen::{self, Client, Course};
use crate::observe::{Direction, Record};
use crate::tcp;

const INBOUND: Direction = Direction::Inbound;

/// Takes a connection that was going to `destination`, an address of this workload's; none: it is over.
pub async fn greet(client: Box<Client>, stream: TcpStream, destination: SocketAddr) -> Option<Course> {
    let Client { worker, entry, .. } = &*client;
    let (protocol, mtls) = {
        let table = worker.shared.table.load();
        let table = table.as_deref()?;
        let inbound = table.inbound_at(entry.listener, entry.destination);
        (inbound.map(|inbound| inbound.protocol), table.mtls)
    };
    let observe = worker.observe.shared();
    match (protocol, mtls) {
        (Some(protocol), _) => {
            observe.intercepted(INBOUND, "workload");
            listen::greet_secured(client, stream, protocol).await
        }
        // Nobody has said what this port is: without the mesh it would be reached, so it is where plaintext is accepted. It
        // is reached at its own address, so that what listens on loopback alone stays there.
        (None, MtlsMode::Permissive) => {
            observe.intercepted(INBOUND, "passed-through");
            client.seat.retire();
            let record = Record::open(&worker.observe, INBOUND);
            let worker = Rc::clone(worker);
            Some(Box::pin(async move {
                tcp::to_address(&worker, stream, destination, record, false).await;
            }))
        }
        (None, MtlsMode::Strict) => {
            observe.intercepted(INBOUND, "undeclared-port");
            tracing::debug!(%destination, "a connection to a port that the Workload does not declare was refused");
            tcp::reset(&stream);
            None
        }
    }
}
