//! A connection of this workload's that was led here: to the service it was going to, or untouched to where it was going.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use http::uri::Authority;
use mesh_api::inference::AppProtocol;
use tokio::net::TcpStream;

use super::detect::{Spoken, http1_host};
use super::first_bytes;
use super::first_bytes::{FirstBytes, Until};
use crate::error::Failure;
use crate::io::{Io, Prefixed};
use crate::listen::{self, Client, Course};
use crate::observe::{Direction, Record, SeriesKeyRef};
use crate::outbound;
use crate::serve::serve_http;
use crate::table::{Destination, EndpointSet, Table};
use crate::tcp;
use crate::worker::Worker;

const OUTBOUND: Direction = Direction::Outbound;

/// Takes a connection that was going to `destination`; none: it is over.
pub async fn greet(mut client: Box<Client>, stream: TcpStream, destination: SocketAddr) -> Option<Course> {
    let known = match known(&client.worker, destination).await {
        Ok(known) => known,
        Err(failure) => {
            let mut record = Record::open(&client.worker.observe, OUTBOUND);
            record.opaque();
            refuse(&client.worker, &stream, &failure, record);
            return None;
        }
    };
    let Some(Destination { port, endpoint }) = known else {
        return Some(Box::pin(unknown(client, stream, destination)));
    };
    port.called();
    let result = if endpoint.is_some() { "endpoint" } else { "service" };
    client.worker.observe.shared().intercepted(OUTBOUND, result);
    // Whoever names an endpoint by its own address gets that one, unless a rule says otherwise.
    client.entry.addressed = endpoint.map(|endpoint| port.own.only(endpoint));
    listen::greet_as(client, Io::Plain(stream), port.protocol).await
}

/// What an address means; it is asked for if nobody knows, where services are had on demand.
async fn known(worker: &Worker, destination: SocketAddr) -> Result<Option<Destination>, Failure> {
    let find = || {
        let table = worker.shared.table.load();
        table.as_deref()?.destination(destination)
    };
    match find() {
        Some(known) => Ok(Some(known)),
        None if Box::pin(worker.shared.discovery.resolve_address(destination)).await? => Ok(find()),
        None => Ok(None),
    }
}

/// Refuses a connection of which nobody can say what it is for: untouched it could go in plaintext what is to go in mutual
/// TLS.
fn refuse(worker: &Worker, client: &impl AsFd, failure: &Failure, mut record: Record) {
    worker
        .observe
        .shared()
        .intercepted(OUTBOUND, failure.reason.as_str());
    record.fail(failure.reason.as_str(), None);
    tcp::reset(client);
}

/// Where a connection goes whose address no service has.
enum Way {
    /// To the service of which its client asked in TLS.
    ServerName(Arc<EndpointSet>),
    /// To whichever service each request names.
    Authority,
    /// To where it was going.
    Through,
    /// Nobody can say now.
    Nowhere(Failure),
}

/// Takes a connection to an address that no service has. What the client says may name one all the same; if not, it is
/// passed through untouched.
async fn unknown(mut client: Box<Client>, mut stream: TcpStream, destination: SocketAddr) {
    let Client { worker, seat, .. } = &*client;
    let first = first_bytes(worker, &mut stream, destination, Until::Head).await;
    let authority = authority(&first);
    let unknown = match &authority {
        Some(authority) => outbound::known(worker, authority.host()).await.err(),
        None => None,
    };
    let way = match (unknown, worker.shared.table.load().as_deref()) {
        // Each request is told so.
        (Some(_), _) if matches!(first.spoken, Spoken::Http1) => Way::Authority,
        (Some(failure), _) => Way::Nowhere(failure),
        (None, Some(table)) => way(table, &first.spoken, authority.as_ref(), destination),
        (None, None) => return,
    };
    let observe = worker.observe.shared();
    let io = Prefixed::new(first.bytes, stream);
    let recorded = || {
        let mut record = Record::open(&worker.observe, OUTBOUND);
        record.opaque();
        if let Spoken::Tls(hello) = &first.spoken {
            record.authority(hello.server_name.as_deref().unwrap_or_default());
        }
        record
    };
    match way {
        Way::ServerName(set) => {
            observe.intercepted(OUTBOUND, "server-name");
            let mut record = recorded();
            record.route(SeriesKeyRef {
                service: &set.label,
                ..SeriesKeyRef::unrouted(OUTBOUND)
            });
            seat.retire();
            if let Err(client) = tcp::to_endpoint(worker, io, &set, record, None).await {
                tcp::reset(&client);
            }
        }
        Way::Authority => {
            observe.intercepted(OUTBOUND, "authority");
            client.entry.named = true;
            serve_http(client, io, false).await;
        }
        Way::Through => {
            observe.intercepted(OUTBOUND, "passed-through");
            seat.retire();
            tcp::to_address(worker, io, destination, recorded(), first.silent).await;
        }
        Way::Nowhere(failure) => refuse(worker, &io, &failure, recorded()),
    }
}

/// The authority that a client's first bytes name.
fn authority(first: &FirstBytes) -> Option<Authority> {
    let name = match &first.spoken {
        Spoken::Tls(hello) => hello.server_name.as_deref(),
        Spoken::Http1 => http1_host(&first.bytes),
        Spoken::Http2 | Spoken::Opaque => None,
    };
    name?.parse().ok()
}

fn way(table: &Table, spoken: &Spoken, authority: Option<&Authority>, destination: SocketAddr) -> Way {
    let port = authority.and_then(|authority| {
        let port = authority.port_u16().unwrap_or(destination.port());
        table.find(authority.host(), Some(port))
    });
    let Some(port) = port else { return Way::Through };
    match (spoken, port.protocol) {
        // A port that is declared to be HTTP takes no TLS.
        (Spoken::Tls(_), AppProtocol::Tcp | AppProtocol::Detect) => {
            port.called();
            Way::ServerName(Arc::clone(&port.own))
        }
        (Spoken::Http1, AppProtocol::Tcp) | (Spoken::Tls(_) | Spoken::Http2 | Spoken::Opaque, _) => {
            Way::Through
        }
        (Spoken::Http1, _) => Way::Authority,
    }
}
