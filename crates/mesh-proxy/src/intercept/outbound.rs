//! A connection of this workload's that was led here: to the service it was going to, or untouched to where it was going.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::Authority;
use mesh_api::inference::AppProtocol;
use tokio::net::TcpStream;

use super::detect::{Spoken, http1_host};
use super::first_bytes;
use super::first_bytes::{FirstBytes, Until};
use crate::connections::Seat;
use crate::io::{Io, Prefixed};
use crate::listen::{self, Entry};
use crate::observe::{Direction, Record, SeriesKeyRef};
use crate::table::{Destination, EndpointSet, Table};
use crate::tcp;
use crate::worker::Worker;

const OUTBOUND: Direction = Direction::Outbound;

/// Takes a connection that was going to `destination`.
pub async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    mut entry: Entry,
    destination: SocketAddr,
    seat: Arc<Seat>,
) {
    let known = {
        let table = worker.shared.table.load();
        let Some(table) = table.as_deref() else { return };
        table.destination(destination).cloned()
    };
    let Some(Destination { port, endpoint }) = known else {
        return unknown(worker, stream, entry, destination, seat).await;
    };
    let result = if endpoint.is_some() { "endpoint" } else { "service" };
    worker.observe.shared().intercepted(OUTBOUND, result);
    // Whoever names an endpoint by its own address gets that one, unless a rule says otherwise.
    entry.addressed = endpoint.map(|endpoint| port.own.only(endpoint));
    listen::serve_as(worker, Io::Plain(stream), port.protocol, entry, OUTBOUND, seat).await;
}

/// Where a connection goes whose address no service has.
enum Way {
    /// To the service of which its client asked in TLS.
    ServerName(Arc<EndpointSet>),
    /// To whichever service each request names.
    Authority,
    /// To where it was going.
    Through,
}

/// Takes a connection to an address that no service has. What the client says may name one all the same; if not, it is
/// passed through untouched.
async fn unknown(
    worker: Rc<Worker>,
    mut stream: TcpStream,
    entry: Entry,
    destination: SocketAddr,
    seat: Arc<Seat>,
) {
    let first = first_bytes(&worker, &mut stream, destination, Until::Head).await;
    let way = match worker.shared.table.load().as_deref() {
        Some(table) => way(table, &first, destination),
        None => return,
    };
    let observe = worker.observe.shared();
    let io = Prefixed::new(first.bytes, stream);
    let mut record = Record::open(&worker.observe, OUTBOUND);
    if let Spoken::Tls(hello) = &first.spoken {
        record.authority(hello.server_name.as_deref().unwrap_or_default());
    }
    match way {
        Way::ServerName(set) => {
            observe.intercepted(OUTBOUND, "server-name");
            record.route(SeriesKeyRef {
                service: &set.label,
                ..SeriesKeyRef::unrouted(OUTBOUND)
            });
            seat.retire();
            if let Err(client) = tcp::to_endpoint(&worker, io, &set, record, None).await {
                tcp::reset(&client);
            }
        }
        Way::Authority => {
            observe.intercepted(OUTBOUND, "authority");
            drop(record);
            listen::serve_http(worker, io, false, entry, OUTBOUND, seat).await;
        }
        Way::Through => {
            observe.intercepted(OUTBOUND, "passed-through");
            seat.retire();
            tcp::to_address(&worker, io, destination, record, first.silent).await;
        }
    }
}

fn way(table: &Table, first: &FirstBytes, destination: SocketAddr) -> Way {
    match &first.spoken {
        Spoken::Tls(hello) => {
            let name = hello.server_name.as_deref();
            let port = name.and_then(|name| table.find(name, Some(destination.port())));
            // A port that is declared to be HTTP takes no TLS.
            let port = port.filter(|port| matches!(port.protocol, AppProtocol::Tcp | AppProtocol::Detect));
            port.map_or(Way::Through, |port| Way::ServerName(Arc::clone(&port.own)))
        }
        Spoken::Http1 => {
            let authority = http1_host(&first.bytes).and_then(|host| host.parse::<Authority>().ok());
            let port = authority.and_then(|authority| {
                let port = authority.port_u16().unwrap_or(destination.port());
                table.find(authority.host(), Some(port)).map(|port| port.protocol)
            });
            match port {
                None | Some(AppProtocol::Tcp) => Way::Through,
                Some(_) => Way::Authority,
            }
        }
        Spoken::Http2 | Spoken::Opaque => Way::Through,
    }
}
