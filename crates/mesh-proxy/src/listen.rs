//! Connections as they come in: taken, secured, told apart, and passed on to whoever serves what they speak.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::document::MtlsMode;
use mesh_api::identity::Identity;
use mesh_api::inference::AppProtocol;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::connections::Seat;
use crate::cut::Cut;
use crate::intercept::client_hello::HANDSHAKE as TLS_HANDSHAKE;
use crate::intercept::detect::Spoken;
use crate::intercept::first_bytes::Until;
use crate::io::{Io, Prefixed};
use crate::observe::{Direction, Record, SeriesKeyRef};
use crate::serve::serve_http;
use crate::table::EndpointSet;
use crate::tls::{self, TlsStream};
use crate::worker::Worker;
use crate::{inbound, intercept, limits, outbound, tcp};

/// How long accepting pauses when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A listener for one worker.
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it takes.
    pub takes: Takes,
    /// The socket.
    pub socket: std::net::TcpListener,
}

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// Which way its requests go.
    pub direction: Direction,
    /// Whether its connections were going elsewhere before they were led here.
    pub intercepted: bool,
}

/// Where a request came in.
#[derive(Clone)]
pub struct Entry {
    /// The listener.
    pub listener: SocketAddr,
    /// Where the client was going, if it was led here.
    pub destination: Option<SocketAddr>,
    /// Whether no service has that address: then each request names its own.
    pub named: bool,
    /// The endpoint that it was going to by that endpoint's own address.
    pub addressed: Option<Arc<EndpointSet>>,
    /// Who the caller proved to be.
    pub peer: Option<Arc<Identity>>,
    /// The authority of the tunnel it came through (CONNECT).
    pub tunnel: Option<http::uri::Authority>,
}

/// A client's connection, but for its bytes.
pub struct Client {
    /// The worker that it belongs to.
    pub worker: Rc<Worker>,
    /// Which way its requests go.
    pub direction: Direction,
    /// Where it came in.
    pub entry: Entry,
    /// Its place.
    pub seat: Arc<Seat>,
}

/// How a connection goes on once it is known what it speaks, until it ends.
pub type Course = Pin<Box<dyn Future<Output = ()>>>;

/// Takes connections until the listener is closed or the proxy ends.
pub async fn accept(worker: Rc<Worker>, listener: Listener) {
    let Listener {
        address,
        takes: Takes {
            direction,
            intercepted,
        },
        socket,
    } = listener;
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%address, %error, "can't take connections"),
    };
    let drain = worker.shared.drain.clone();
    let mut draining = pin!(drain.started());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(seat) = worker
                    .connections
                    .take(direction, |which, why| worker.cut(which, why))
                else {
                    continue;
                };
                let open = (drain.open(), worker.observe.shared().connection(direction));
                let entry = Entry {
                    listener: address,
                    destination: None,
                    named: false,
                    addressed: None,
                    peer: None,
                    tunnel: None,
                };
                let client = Box::new(Client {
                    worker: Rc::clone(&worker),
                    direction,
                    entry,
                    seat: Arc::clone(&seat),
                });
                tokio::task::spawn_local(async move {
                    let _open = open;
                    tokio::select! {
                        biased;
                        () = serve(client, stream, intercepted) => {}
                        () = seat.closed() => {}
                    }
                });
            }
            Err(error) => not_taken(&worker, address, direction, &error).await,
        }
    }
}

/// A connection could not be taken. The next one may fare better: the client left before, or there is no descriptor,
/// for which others are asked to leave.
async fn not_taken(worker: &Worker, address: SocketAddr, direction: Direction, error: &std::io::Error) {
    if !limits::is_exhausted(error) {
        tracing::debug!(%address, %error, "a connection could not be taken");
        return tokio::task::yield_now().await;
    }
    worker.cut(direction, Cut::NoDescriptors);
    let evicted = worker.connections.make_room(|which, why| worker.cut(which, why));
    if worker.may_warn() {
        tracing::warn!(%address, %error, evicted, "connections can't be taken");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Serves a connection until it ends. It may do so for very long and very idly: what it took to find out what it speaks is
/// in a box of its own, which is gone by then.
async fn serve(client: Box<Client>, stream: TcpStream, intercepted: bool) {
    let course = Box::pin(greet(client, stream, intercepted)).await;
    if let Some(course) = course {
        course.await;
    }
}

/// Finds out what a connection speaks; none: it is over.
async fn greet(client: Box<Client>, stream: TcpStream, intercepted: bool) -> Option<Course> {
    // A socket that can't is a socket that closes: reads will tell.
    let _ = stream.set_nodelay(true);
    if intercepted {
        return intercept::greet(client, stream).await;
    }
    let listener = client.entry.listener;
    let protocol = {
        let table = client.worker.shared.table.load();
        let table = table.as_deref()?;
        match client.direction {
            Direction::Outbound => table
                .outbound
                .get(&listener)
                .and_then(Option::as_ref)
                .map(|port| port.protocol),
            Direction::Inbound => table.inbound_at(listener, None).map(|inbound| inbound.protocol),
        }
    };
    let protocol = protocol.unwrap_or(AppProtocol::Http);
    match client.direction {
        Direction::Outbound => greet_as(client, Io::Plain(stream), protocol).await,
        Direction::Inbound => greet_secured(client, stream, protocol).await,
    }
}

/// Takes a connection to this workload, to a port that speaks `protocol`; none: it is over.
pub async fn greet_secured(
    mut client: Box<Client>,
    stream: TcpStream,
    protocol: AppProtocol,
) -> Option<Course> {
    match secure(&client.worker, stream, protocol).await? {
        Secured::Told(io, peer) => {
            client.entry.peer = peer.map(Arc::new);
            greet_as(client, io, protocol).await
        }
        Secured::Silent(stream) => greet_as(client, Io::Plain(stream), AppProtocol::Tcp).await,
    }
}

/// Takes a connection of which nothing was read yet, to a port that speaks `protocol`; none: it is over.
pub async fn greet_as(client: Box<Client>, mut io: Io, protocol: AppProtocol) -> Option<Course> {
    if protocol == AppProtocol::Tcp {
        return Some(Box::pin(opaque(client, io, None)));
    }
    if protocol != AppProtocol::Detect {
        let within = client.worker.shared.limits.head_timeout.get();
        let Ok(spoken) = tokio::time::timeout(within, speaks_http2(&io)).await else {
            client.worker.cut(client.direction, Cut::SlowHead);
            return None;
        };
        return spoken.map(|http2| serve_http(client, io, http2));
    }
    // Sidecars agree on a protocol unless they pass on opaque bytes.
    if matches!(io, Io::Tls(_)) {
        return Some(match io.agreed_on() {
            None => Box::pin(opaque(client, io, None)),
            Some(_) => {
                let http2 = io.agreed_on_http2();
                serve_http(client, io, http2)
            }
        });
    }
    let going_to = client.entry.destination.unwrap_or(client.entry.listener);
    let first = intercept::first_bytes(&client.worker, &mut io, going_to, Until::Spoken).await;
    let io = Prefixed::new(first.bytes, io);
    Some(match first.spoken {
        Spoken::Http1 => serve_http(client, io, false),
        Spoken::Http2 => serve_http(client, io, true),
        Spoken::Tls(_) | Spoken::Opaque => {
            let silent = first.silent.then_some(going_to);
            Box::pin(opaque(client, io, silent))
        }
    })
}

/// Passes on a connection that is not HTTP, to an endpoint of the service it called, or to the workload.
async fn opaque<I>(client: Box<Client>, io: I, silent: Option<SocketAddr>)
where
    I: AsyncRead + AsyncWrite + Unpin + AsFd,
{
    let Client {
        worker,
        direction,
        entry,
        seat,
    } = *client;
    // What it is given, it holds for as long as it likes.
    seat.retire();
    let mut record = Record::open(&worker.observe, direction);
    record.opaque();
    let peer = entry.peer.as_deref();
    if let Some(peer) = peer {
        record.peer(peer);
    }
    let set = {
        let table = worker.shared.table.load();
        let Some(table) = table.as_deref() else { return };
        match direction {
            Direction::Outbound => outbound::endpoints(table, &entry),
            Direction::Inbound => inbound::process(table, &entry),
        }
    };
    let set = match set {
        Ok(set) => set,
        Err(failure) => {
            tracing::debug!(%failure, "a connection was refused");
            return record.fail(failure.reason.as_str(), failure.object);
        }
    };
    record.route(SeriesKeyRef {
        service: &set.label,
        peer,
        ..SeriesKeyRef::unrouted(direction)
    });
    if let Err(client) = tcp::to_endpoint(&worker, io, &set, record, silent).await {
        tcp::reset(&client);
    }
}

/// A caller's connection, after its handshake or without one where the mesh allows it.
enum Secured {
    /// It has said, by its first byte, what it is, and in its handshake who.
    Told(Io, Option<Identity>),
    /// It has said nothing, to a port where the server may speak first.
    Silent(TcpStream),
}

/// Takes the caller's handshake, or its plaintext where that is allowed.
async fn secure(worker: &Worker, stream: TcpStream, protocol: AppProtocol) -> Option<Secured> {
    let within = worker.shared.limits.head_timeout.get();
    let (permissive, wait) = {
        let table = worker.shared.table.load();
        let table = table.as_deref()?;
        (table.mtls == MtlsMode::Permissive, table.mesh.detection_wait)
    };
    // Sidecars speak first; without one, a client may wait for the server.
    let may_wait = permissive && !protocol.is_http();
    let patience = if may_wait { wait.min(within) } else { within };
    let first = match tokio::time::timeout(patience, first_bytes::<1>(&stream)).await {
        Ok(first) => first?,
        Err(_) if may_wait => return Some(Secured::Silent(stream)),
        Err(_) => {
            worker.cut(Direction::Inbound, Cut::SlowHead);
            return None;
        }
    };
    let observe = worker.observe.shared();
    if first[0] != TLS_HANDSHAKE {
        observe.handshake(
            Direction::Inbound,
            if permissive {
                "plaintext"
            } else {
                "plaintext-refused"
            },
        );
        return permissive.then_some(Secured::Told(Io::Plain(stream), None));
    }
    let Some(credentials) = worker.shared.credentials.load_full() else {
        observe.handshake(Direction::Inbound, "no-credentials");
        return None;
    };
    let accepting = Box::pin(TlsStream::accept(stream, credentials.server_config()));
    let Ok(accepted) = tokio::time::timeout(within, accepting).await else {
        worker.cut(Direction::Inbound, Cut::SlowHead);
        observe.handshake(Direction::Inbound, "timeout");
        return None;
    };
    observe.handshake(Direction::Inbound, tls::result(accepted.as_ref().map(|_| ())));
    match accepted {
        Ok((tls, peer)) => Some(Secured::Told(Io::Tls(Box::new(tls)), peer)),
        Err(error) => {
            tracing::debug!(%error, "a handshake was refused");
            None
        }
    }
}

/// Looks at the first bytes without taking them; none when the client closes before.
async fn first_bytes<const N: usize>(stream: &TcpStream) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    loop {
        match stream.peek(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(read) if read == N => return Some(bytes),
            // The rest is on its way; looking at the same bytes again does not wait for it.
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Whether the client speaks HTTP/2: as agreed on, or with prior knowledge. `PRI` begins the preface of HTTP/2 and no
/// method of HTTP/1 (RFC 9113, §3.4).
async fn speaks_http2(io: &Io) -> Option<bool> {
    match io {
        Io::Tls(_) => Some(io.agreed_on_http2()),
        Io::Plain(stream) => first_bytes::<3>(stream).await.map(|bytes| bytes == *b"PRI"),
    }
}
