//! A request of this workload, on its way to a service.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use mesh_api::inference::rewrite::rewrite;
use mesh_api::inference::{AppProtocol, ModelRequest};
use mesh_api::route::ModelRewrite;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};

use crate::body::{FromClient, ResponseBody};
use crate::carry;
use crate::connections::Busy;
use crate::error::{Failure, Reason};
use crate::forward::{Outgoing, Plan, forward};
use crate::handover::Handover;
use crate::headers;
use crate::inbound::{fail, listener_gone};
use crate::io::Prefixed;
use crate::listen::{Client, Entry};
use crate::observe::{Direction, Record, SeriesKeyRef};
use crate::read_ahead::{Hold, Recognised, recognise, silence};
use crate::received::Received;
use crate::serve::serve_http;
use crate::table::{EndpointSet, NO_TIMEOUTS, ServicePort, Table};
use crate::tcp;
use crate::worker::Worker;

mod filter;
mod route;

use route::Route;

/// How often a request that no rule takes, and no server has seen, is tried again.
const RETRIES: u8 = 2;

/// Answers a request: the service's answer, or the mesh's own. `busy` is its connection.
pub async fn handle(
    worker: &Rc<Worker>,
    entry: &Entry,
    request: Request<FromClient>,
    busy: &Busy,
) -> Response<ResponseBody> {
    let request = Received::new(worker, request, busy);
    let (grpc, method) = (request.grpc, request.head.method.clone());
    let open = || Some(Record::open(&worker.observe, Direction::Outbound));
    if method == Method::CONNECT && entry.tunnel.is_none() {
        let Received { head, mut body, .. } = request;
        let client = body.take_handover();
        // A tunnel that opens is not counted: what goes through it is. One that does not is told so in HTTP's words, whatever
        // the request says of gRPC, which answers 200.
        return match tunnel(Rc::clone(worker), entry.clone(), head.uri, client).await {
            Ok(opened) => opened,
            Err(failure) => fail(&failure, &method, false, open()),
        };
    }
    let mut record = open();
    match answer(worker, entry, request, &mut record).await {
        Ok(response) => response,
        Err(failure) => fail(&failure, &method, grpc, record),
    }
}

/// A client that asks for a tunnel speaks through it as if it had connected to the service.
async fn tunnel(
    worker: Rc<Worker>,
    mut entry: Entry,
    to: Uri,
    client: Option<Handover>,
) -> Result<Response<ResponseBody>, Failure> {
    let authority = to.authority().cloned();
    if let Some(authority) = &authority {
        known(&worker, authority.host()).await?;
    }
    let port = worker.shared.table.load().as_deref().and_then(|table| {
        let authority = authority.as_ref()?;
        table.find(authority.host(), authority.port_u16()).cloned()
    });
    let (Some(port), Some(client)) = (port, client) else {
        let detail = format!(
            "{:?} names no service",
            authority.as_ref().map_or("", |authority| authority.as_str())
        );
        return Err(Failure::new(Reason::NoSuchService, detail));
    };
    port.called();
    entry.tunnel = authority;
    tokio::task::spawn_local(async move {
        let _open = worker.shared.drain.open();
        let Some(client) = client.done().await else { return };
        if port.protocol == AppProtocol::Tcp {
            let mut record = Record::open(&worker.observe, Direction::Outbound);
            record.route(SeriesKeyRef {
                service: &port.label,
                ..SeriesKeyRef::unrouted(Direction::Outbound)
            });
            // A tunnel has no socket of its own to reset: its end says enough.
            let _ = tcp::to_endpoint(&worker, client, &port.own, record, None).await;
            return;
        }
        let within = worker.shared.limits.head_timeout.get();
        let Ok(Some((http2, client))) = timeout(within, speaks_http2(client)).await else {
            return;
        };
        let seat = worker.connections.inner(Direction::Outbound);
        let inner = Client {
            worker,
            direction: Direction::Outbound,
            entry,
            seat,
        };
        serve_http(Box::new(inner), client, http2).await;
    });
    Ok(Response::new(ResponseBody::empty()))
}

/// Whether the client in the tunnel speaks HTTP/2, with prior knowledge; none when it leaves before.
async fn speaks_http2<I: AsyncRead + Unpin>(mut client: I) -> Option<(bool, Prefixed<I>)> {
    let mut first = [0; 3];
    client.read_exact(&mut first).await.ok()?;
    Some((
        first == *b"PRI",
        Prefixed::new(Bytes::copy_from_slice(&first), client),
    ))
}

async fn answer(
    worker: &Rc<Worker>,
    entry: &Entry,
    mut request: Received,
    record: &mut Option<Record>,
) -> Result<Response<ResponseBody>, Failure> {
    let table = table(worker)?;
    let head = &mut request.head;
    if let Some(record) = record {
        record.trace(&mut head.headers);
        record.request(&head.method, head.uri.path(), head.uri.host());
    }
    admit(worker)?;
    headers::check(head, &worker.shared.limits)?;
    let (table, port) = match called(&table, entry, head) {
        Err(failure) if failure.reason == Reason::NoSuchService => {
            ask(worker, entry, head).await?;
            let table = self::table(worker)?;
            let port = called(&table, entry, head)?;
            (table, port)
        }
        port => (table, port?),
    };
    port.called();
    call(worker, &table, &port, entry.addressed.as_ref(), request, record)
        .await
        .map_err(|failure| failure.to(port.protocol))
}

fn table(worker: &Worker) -> Result<Arc<Table>, Failure> {
    worker.shared.table.load_full().ok_or_else(|| {
        Failure::new(
            Reason::ListenerGone,
            "this proxy has no configuration yet: is the control plane reachable?",
        )
    })
}

/// Waits until the service that a request is for is in the Table, where services are had on demand.
async fn ask(worker: &Worker, entry: &Entry, parts: &Parts) -> Result<(), Failure> {
    match (entry.destination, headers::authority(parts)) {
        (Some(destination), _) if !entry.named => {
            worker.shared.discovery.resolve_address(destination).await?;
            Ok(())
        }
        (_, authority) => match entry.tunnel.as_ref().or(authority.as_ref()) {
            Some(authority) => known(worker, authority.host()).await,
            None => Ok(()),
        },
    }
}

/// Waits until the service that a host names is in the Table, where services are had on demand.
///
/// # Errors
/// When the control plane does not say in time, or there are too many of them.
pub async fn known(worker: &Worker, host: &str) -> Result<(), Failure> {
    let discovery = &worker.shared.discovery;
    let known = |table: &Table| table.service(host).is_some();
    if !discovery.is_enabled() || worker.shared.table.load().as_deref().is_some_and(known) {
        return Ok(());
    }
    discovery.resolve(host).await?;
    Ok(())
}

/// Refuses a request while this process holds as much memory as it may.
///
/// # Errors
/// When it does.
pub fn admit(worker: &Worker) -> Result<(), Failure> {
    if worker.shared.memory.pressed() {
        let detail = "this proxy holds as much memory as it may (--memory-limit): try again";
        return Err(Failure::new(Reason::Overloaded, detail));
    }
    Ok(())
}

/// Calls a service's port; what no rule takes goes to the endpoints `addressed`, or else to the service's own.
async fn call(
    worker: &Rc<Worker>,
    table: &Table,
    port: &ServicePort,
    addressed: Option<&Arc<EndpointSet>>,
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
    let hold = Hold {
        mesh: &table.mesh,
        needed: port.reads_model,
        silence: silence(&worker.shared.limits, grpc),
    };
    let recognised = recognise(port.protocol, &hold, &parts, body).await;
    let Recognised { model, source } = recognised.inspect_err(|_| {
        // What is refused was meant for the service all the same.
        if let Some(record) = record.as_mut() {
            record.route(SeriesKeyRef {
                service: &port.label,
                ..SeriesKeyRef::unrouted(Direction::Outbound)
            });
        }
    })?;

    let route = Route::decide(worker, table, port, addressed.is_some(), &parts, model.as_ref());
    let labels = route.labels(model.as_ref());
    if let Some(record) = record {
        record.route(labels);
    }
    if let Some(redirect) = route.redirect()? {
        return filter::redirect(redirect, port, &parts, route.filters(), record);
    }
    let set = match addressed {
        Some(set) if route.rule().is_none() => set,
        _ => route.set()?,
    };
    let within = grpc.then(|| headers::grpc_timeout(&parts.headers)).flatten();
    let deadline = within.map(|within| arrived + within);
    let carry = carry::may(&parts).filter(|_| !grpc && upgrade.is_none());
    headers::strip_hop(&mut parts.headers);
    headers::strip_mesh(&mut parts.headers);
    let target = match (route.rewrite(), &model) {
        (Some(to), Some(model)) => {
            rewritten(&mut parts, model, to, &source).map_err(|failure| failure.of(route.object()))?
        }
        (Some(_), None) | (None, _) => None,
    };
    let target = filter::request(&mut parts, target, route.filters())?;
    headers::set_target(&mut parts, target);
    if let Some(upgrade) = &upgrade {
        upgrade.ask(&mut parts.headers);
    }
    let plan = Plan {
        set,
        timeouts: route.rule().map_or(NO_TIMEOUTS, |rule| rule.timeouts),
        retries: route.rule().map_or(RETRIES, |rule| rule.retry_attempts),
        object: route.object(),
        labels,
    };
    let outgoing = Outgoing {
        head: parts,
        source,
        grpc,
        deadline,
        upgrade,
        carry,
    };
    let mut response = forward(worker, &plan, outgoing, record).await?;
    filter::response(response.headers_mut(), route.filters());
    Ok(response)
}

/// The endpoints that a connection of opaque bytes is for: what was addressed, or the service's own.
///
/// # Errors
/// When it was for no service, or for one that is no longer there.
pub fn endpoints(table: &Table, entry: &Entry) -> Result<Arc<EndpointSet>, Failure> {
    if let Some(set) = &entry.addressed {
        return Ok(Arc::clone(set));
    }
    let port = match entry.destination {
        Some(destination) => table.destination(destination).map(|known| known.port),
        None => table.outbound.get(&entry.listener).cloned().flatten(),
    };
    port.map(|port| Arc::clone(&port.own))
        .ok_or_else(|| listener_gone(table, entry))
}

/// The service's port that a request is for: the listener's, the tunnel's, or the one its authority names.
fn called(table: &Table, entry: &Entry, parts: &Parts) -> Result<Arc<ServicePort>, Failure> {
    let mut default_port = None;
    match entry.destination {
        None => match table.outbound.get(&entry.listener) {
            Some(Some(port)) => return Ok(Arc::clone(port)),
            Some(None) => {}
            None => return Err(listener_gone(table, entry)),
        },
        Some(destination) => {
            if let Some(known) = table.destination(destination) {
                return Ok(known.port);
            }
            if !entry.named {
                let detail = format!("{destination} is no service's address any more");
                return Err(Failure::new(Reason::NoSuchService, detail));
            }
            default_port = Some(destination.port());
        }
    }
    let authority = entry
        .tunnel
        .clone()
        .or_else(|| headers::authority(parts))
        .ok_or_else(|| {
            Failure::new(
                Reason::BadRequest,
                "the request names no host: send a Host header or an absolute target",
            )
        })?;
    table
        .find(authority.host(), authority.port_u16().or(default_port))
        .cloned()
        .ok_or_else(|| {
            let detail = format!(
                "{:?} names no service and port that this workload may call",
                authority.as_str()
            );
            Failure::new(Reason::NoSuchService, detail)
        })
}

/// Makes the request ask for another model: in its body, its headers, or in the target that is returned.
fn rewritten(
    parts: &mut Parts,
    model: &ModelRequest,
    to: &ModelRewrite,
    source: &std::cell::RefCell<crate::body::Source>,
) -> Result<Option<PathAndQuery>, Failure> {
    let cannot = |why: &dyn std::fmt::Display| Failure::new(Reason::CannotRewrite, why.to_string());
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rewritten = rewrite(model, target, to).map_err(|why| cannot(&why))?;
    if let Some(value) = rewritten.seldon_model {
        parts.headers.insert("seldon-model", value);
    }
    let mut source = source.borrow_mut();
    source.rewrite(to).map_err(|why| cannot(&why))?;
    headers::grow(&mut parts.headers, source.growth());
    rewritten
        .target
        .map(|target| target.parse().map_err(|why| cannot(&why)))
        .transpose()
}
