//! A request from another sidecar, on its way to this workload.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use tokio::time::Instant;

use crate::authorize::{Permit, authorize};
use crate::body::{FromClient, ResponseBody};
use crate::carry;
use crate::connections::Busy;
use crate::error::{Failure, Reason};
use crate::forward::{Outgoing, Plan, forward};
use crate::headers::{self, MESH_PEER};
use crate::listen::Entry;
use crate::observe::{Direction, Record, SeriesKeyRef};
use crate::outbound::admit;
use crate::read_ahead::{Hold, recognise, silence};
use crate::received::Received;
use crate::table::{EndpointSet, Inbound, NO_TIMEOUTS, Table};
use crate::worker::Worker;

/// Answers a request: the workload's answer, or the mesh's own. `busy` is its connection.
pub async fn handle(
    worker: &Rc<Worker>,
    entry: &Entry,
    request: Request<FromClient>,
    busy: &Busy,
) -> Response<ResponseBody> {
    let request = Received::new(worker, request, busy);
    let (grpc, method) = (request.grpc, request.head.method.clone());
    let mut record = Some(Record::open(&worker.observe, Direction::Inbound));
    match answer(worker, entry, request, &mut record).await {
        Ok(response) => response,
        Err(failure) => fail(&failure, &method, grpc, record),
    }
}

/// The mesh's own answer, with the record of the request.
pub fn fail(
    failure: &Failure,
    method: &Method,
    grpc: bool,
    record: Option<Record>,
) -> Response<ResponseBody> {
    let mut response = failure.response(grpc);
    if method == Method::HEAD {
        // Over HTTP/2 it would be sent, and clients would take the answer for broken.
        *response.body_mut() = ResponseBody::empty();
    }
    let Some(mut record) = record else { return response };
    record.fail(failure.reason.as_str(), failure.object.clone());
    record.status(response.status());
    if grpc {
        record.grpc_status(failure.reason.grpc_status());
    }
    response.map(|body| body.recorded(record))
}

async fn answer(
    worker: &Rc<Worker>,
    entry: &Entry,
    mut request: Received,
    record: &mut Option<Record>,
) -> Result<Response<ResponseBody>, Failure> {
    let table = worker
        .shared
        .table
        .load_full()
        .ok_or_else(|| Failure::new(Reason::ListenerGone, "this proxy has no configuration yet"))?;
    let inbound = table.inbound_at(entry.listener, entry.destination);
    let inbound = Arc::clone(inbound.ok_or_else(|| listener_gone(&table, entry))?);
    admit(worker)?;
    let head = &mut request.head;
    let carried = carry::unwrap(head, entry.peer.is_some());
    headers::check(head, &worker.shared.limits)?;
    if let Some(record) = record {
        record.trace(&mut head.headers);
        record.request(&head.method, head.uri.path(), head.uri.host());
        if let Some(peer) = entry.peer.as_deref() {
            record.peer(peer);
        }
    }
    let mut response = receive(worker, entry, &table, &inbound, request, record)
        .await
        .map_err(|failure| failure.to(inbound.protocol))?;
    if carried {
        carry::wrap_answer(&mut response);
    }
    Ok(response)
}

/// Takes a request that came in by a listener.
async fn receive(
    worker: &Rc<Worker>,
    entry: &Entry,
    table: &Table,
    inbound: &Inbound,
    request: Received,
    record: &mut Option<Record>,
) -> Result<Response<ResponseBody>, Failure> {
    let arrived = Instant::now();
    let Received {
        head: mut parts,
        body,
        grpc,
        upgrade,
    } = request;
    let peer = entry.peer.as_deref();
    let unnamed = SeriesKeyRef {
        service: &inbound.label,
        peer,
        ..SeriesKeyRef::unrouted(Direction::Inbound)
    };
    let hold = Hold {
        mesh: &table.mesh,
        needed: false,
        silence: silence(&worker.shared.limits, grpc),
    };
    let recognised = recognise(inbound.protocol, &hold, &parts, body).await;
    let recognised = recognised.inspect_err(|_| {
        // What is refused was meant for the workload all the same.
        if let Some(record) = record.as_mut() {
            record.route(unnamed);
        }
    })?;
    let labels = unnamed.asks(recognised.model.as_ref());
    if let Some(record) = record {
        record.route(labels);
    }
    let permit = authorize(table, peer)?;
    let within = grpc.then(|| headers::grpc_timeout(&parts.headers)).flatten();
    let deadline = within.map(|within| arrived + within);
    prepare(&mut parts, entry);
    if let Some(upgrade) = &upgrade {
        upgrade.ask(&mut parts.headers);
    }
    let outgoing = Outgoing {
        head: parts,
        source: recognised.source,
        grpc,
        deadline,
        upgrade,
        carry: None,
    };
    to_local(permit, worker, inbound, labels, outgoing, record).await
}

/// The process that a connection of opaque bytes is for.
///
/// # Errors
/// When the caller may not call it, or its port is no longer there.
pub fn process(table: &Table, entry: &Entry) -> Result<Arc<EndpointSet>, Failure> {
    let inbound = table.inbound_at(entry.listener, entry.destination);
    let inbound = inbound.ok_or_else(|| listener_gone(table, entry))?;
    let _permit = authorize(table, entry.peer.as_deref())?;
    Ok(Arc::clone(&inbound.local))
}

/// Why a request has nowhere to go from where it came in.
pub fn listener_gone(table: &Table, entry: &Entry) -> Failure {
    if table.intercepts_at(entry.listener) && entry.destination.is_none() {
        let detail = "this port takes connections that `mesh-proxy init` leads to it, and this one was made to it directly";
        return Failure::new(Reason::NotIntercepted, detail);
    }
    Failure::new(Reason::ListenerGone, "this listener is no longer configured")
}

/// The head as the workload is to see it.
fn prepare(parts: &mut Parts, entry: &Entry) {
    headers::strip_hop(&mut parts.headers);
    headers::strip_mesh(&mut parts.headers);
    if let Some(value) = entry
        .peer
        .as_ref()
        .and_then(|peer| HeaderValue::from_str(&peer.to_string()).ok())
    {
        parts.headers.insert(MESH_PEER, value);
    }
    headers::set_target(parts, None);
}

/// Sends the request to the workload. It takes a Permit, so that nothing reaches the workload unasked.
async fn to_local(
    _permit: Permit,
    worker: &Rc<Worker>,
    inbound: &Inbound,
    labels: SeriesKeyRef<'_>,
    outgoing: Outgoing,
    record: &mut Option<Record>,
) -> Result<Response<ResponseBody>, Failure> {
    let plan = Plan {
        set: &inbound.local,
        timeouts: NO_TIMEOUTS,
        retries: 0,
        object: &inbound.label,
        labels,
    };
    forward(worker, &plan, outgoing, record)
        .await
        .map_err(|failure| match failure.reason {
            // To the caller's sidecar this says: nobody has seen the request.
            Reason::ConnectFailed => Failure {
                reason: Reason::LocalUnreachable,
                ..failure
            },
            _ => failure,
        })
}
