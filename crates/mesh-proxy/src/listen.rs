//! Connections as they come in: taken, secured, told apart, and served until they end or the proxy does.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_api::document::MtlsMode;
use mesh_api::identity::Identity;
use mesh_api::inference::AppProtocol;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::body::{ResponseBody, Served};
use crate::connections::{Seat, Told};
use crate::cork::{Corked, Turn};
use crate::cut::Cut;
use crate::drain::Drain;
use crate::guard::Guarded;
use crate::intercept::client_hello::HANDSHAKE as TLS_HANDSHAKE;
use crate::intercept::detect::Spoken;
use crate::intercept::first_bytes::Until;
use crate::io::{Io, Prefixed};
use crate::limits::{Limits, SEND_BUFFER};
use crate::observe::{Direction, Record, SeriesKeyRef};
use crate::patience::Streams;
use crate::pool::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::table::EndpointSet;
use crate::worker::Worker;
use crate::{inbound, intercept, limits, outbound, tcp, tls};

/// How much of a connection is read ahead and of an answer is written ahead in HTTP/1.1, in bytes.
const BUFFER: usize = 256 << 10;
/// How long an idle HTTP/1.1 connection stays open while the proxy ends. A client that uses it within that time learns
/// from the answer that it is the last one; had the connection been closed at once, the request on its way would be lost.
const LAST_REQUEST: Duration = Duration::from_secs(2);
/// How often is looked whether such a connection is idle.
const LOOK: Duration = Duration::from_millis(250);
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
                let worker = Rc::clone(&worker);
                let entry = Entry {
                    listener: address,
                    destination: None,
                    named: false,
                    addressed: None,
                    peer: None,
                    tunnel: None,
                };
                tokio::task::spawn_local(async move {
                    let _open = open;
                    tokio::select! {
                        biased;
                        () = serve(worker, stream, entry, direction, intercepted, Arc::clone(&seat)) => {}
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

async fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    entry: Entry,
    direction: Direction,
    intercepted: bool,
    seat: Arc<Seat>,
) {
    // A socket that can't is a socket that closes: reads will tell.
    let _ = stream.set_nodelay(true);
    if intercepted {
        return intercept::serve(worker, stream, entry, direction, seat).await;
    }
    let protocol = {
        let table = worker.shared.table.load();
        let Some(table) = table.as_deref() else { return };
        match direction {
            Direction::Outbound => table
                .outbound
                .get(&entry.listener)
                .and_then(Option::as_ref)
                .map(|port| port.protocol),
            Direction::Inbound => table
                .inbound_at(entry.listener, None)
                .map(|inbound| inbound.protocol),
        }
    };
    let protocol = protocol.unwrap_or(AppProtocol::Http);
    match direction {
        Direction::Outbound => serve_as(worker, Io::Plain(stream), protocol, entry, direction, seat).await,
        Direction::Inbound => serve_secured(worker, stream, protocol, entry, seat).await,
    }
}

/// Takes a connection to this workload, to a port that speaks `protocol`.
pub async fn serve_secured(
    worker: Rc<Worker>,
    stream: TcpStream,
    protocol: AppProtocol,
    mut entry: Entry,
    seat: Arc<Seat>,
) {
    let Some(secured) = secure(&worker, stream, protocol).await else {
        return;
    };
    let (io, protocol) = match secured {
        Secured::Told(io) => (io, protocol),
        Secured::Silent(stream) => (Io::Plain(stream), AppProtocol::Tcp),
    };
    entry.peer = io.peer_identity().map(Arc::new);
    serve_as(worker, io, protocol, entry, Direction::Inbound, seat).await;
}

/// Takes a connection of which nothing was read yet, to a port that speaks `protocol`.
pub async fn serve_as(
    worker: Rc<Worker>,
    mut io: Io,
    protocol: AppProtocol,
    entry: Entry,
    direction: Direction,
    seat: Arc<Seat>,
) {
    if protocol == AppProtocol::Tcp {
        return opaque(&worker, io, &entry, direction, &seat, None).await;
    }
    if protocol != AppProtocol::Detect {
        let within = worker.shared.limits.head_timeout.get();
        let Ok(spoken) = tokio::time::timeout(within, speaks_http2(&io)).await else {
            return worker.cut(direction, Cut::SlowHead);
        };
        if let Some(http2) = spoken {
            serve_http(worker, io, http2, entry, direction, seat).await;
        }
        return;
    }
    // Sidecars agree on a protocol unless they pass on opaque bytes.
    if matches!(io, Io::Tls(_)) {
        return match io.agreed_on() {
            None => opaque(&worker, io, &entry, direction, &seat, None).await,
            Some(_) => {
                let http2 = io.agreed_on_http2();
                serve_http(worker, io, http2, entry, direction, seat).await;
            }
        };
    }
    let going_to = entry.destination.unwrap_or(entry.listener);
    let first = intercept::first_bytes(&worker, &mut io, going_to, Until::Spoken).await;
    let io = Prefixed::new(first.bytes, io);
    match first.spoken {
        Spoken::Http1 => serve_http(worker, io, false, entry, direction, seat).await,
        Spoken::Http2 => serve_http(worker, io, true, entry, direction, seat).await,
        Spoken::Tls(_) | Spoken::Opaque => {
            let silent = first.silent.then_some(going_to);
            opaque(&worker, io, &entry, direction, &seat, silent).await;
        }
    }
}

/// Passes on a connection that is not HTTP, to an endpoint of the service it called, or to the workload.
async fn opaque<I>(
    worker: &Worker,
    io: I,
    entry: &Entry,
    direction: Direction,
    seat: &Seat,
    silent: Option<SocketAddr>,
) where
    I: AsyncRead + AsyncWrite + Unpin + AsFd,
{
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
            Direction::Outbound => outbound::endpoints(table, entry),
            Direction::Inbound => inbound::process(table, entry),
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
    if let Err(client) = tcp::to_endpoint(worker, io, &set, record, silent).await {
        tcp::reset(&client);
    }
}

/// A caller's connection, after its handshake or without one where the mesh allows it.
enum Secured {
    /// It has said, by its first byte, what it is.
    Told(Io),
    /// It has said nothing, to a port where the server may speak first.
    Silent(TcpStream),
}

/// Takes the caller's handshake, or its plaintext where the mesh allows it.
async fn secure(worker: &Worker, stream: TcpStream, protocol: AppProtocol) -> Option<Secured> {
    let within = worker.shared.limits.head_timeout.get();
    let (permissive, wait) = {
        let table = worker.shared.table.load();
        let mesh = &table.as_deref()?.mesh;
        (mesh.mtls == MtlsMode::Permissive, mesh.detection_wait)
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
        return permissive.then_some(Secured::Told(Io::Plain(stream)));
    }
    let Some(credentials) = worker.shared.credentials.load_full() else {
        observe.handshake(Direction::Inbound, "no-credentials");
        return None;
    };
    let accepting = TlsAcceptor::from(credentials.server_config()).accept(stream);
    let Ok(accepted) = tokio::time::timeout(within, accepting).await else {
        worker.cut(Direction::Inbound, Cut::SlowHead);
        observe.handshake(Direction::Inbound, "timeout");
        return None;
    };
    observe.handshake(Direction::Inbound, tls::result(accepted.as_ref().map(|_| ())));
    match accepted {
        Ok(tls) => Some(Secured::Told(Io::Tls(Box::new(tls.into())))),
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

/// Serves a connection's requests until it ends. When the proxy is about to end, requests in flight are finished and
/// the client is told to go elsewhere with the next.
pub async fn serve_http<I>(
    worker: Rc<Worker>,
    io: I,
    http2: bool,
    entry: Entry,
    direction: Direction,
    seat: Arc<Seat>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Arc::clone(&worker.shared);
    let limits = &shared.limits;
    let io = Guarded::client(io, Arc::clone(&seat), http2, limits);
    let watched = Watched {
        worker: Rc::clone(&worker),
        direction,
        seat: Arc::clone(&seat),
    };
    let streams = Streams::new(Rc::clone(&worker), direction);
    let ending = Arc::clone(&shared);
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, entry, busy) = (Rc::clone(&worker), entry.clone(), seat.open());
        let (ending, tunnels) = (Arc::clone(&ending), request.method() == Method::CONNECT);
        async move {
            let mut response: Response<ResponseBody> = match direction {
                Direction::Outbound => outbound::handle(worker, entry, request, &busy).await,
                Direction::Inbound => inbound::handle(&worker, &entry, request, &busy).await,
            };
            // What becomes another protocol has no next request.
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS || tunnels;
            if !http2 && !switches && ending.drain.is_started() {
                let last = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, last);
            }
            Ok::<_, Infallible>(response.map(|body| Served::new(body, busy)))
        }
    });
    if http2 {
        let io = Corked::new(io);
        let connection = http2::Builder::new(streams)
            .max_concurrent_streams(limits.max_streams)
            .enable_connect_protocol()
            .max_header_list_size(limits.max_head_bytes)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(io.clone()), service);
        let turns = Turn::new(connection, io);
        watched
            .until_end(turns, &shared.drain, Duration::ZERO, |turns| {
                turns.connection().graceful_shutdown();
            })
            .await;
    } else {
        let connection = http1_builder(limits)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let shut_down = http1::UpgradeableConnection::graceful_shutdown;
        watched
            .until_end(connection, &shared.drain, LAST_REQUEST, shut_down)
            .await;
        // What it was upgraded to goes on with its own limits.
        watched.seat.retire();
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let head = limits.max_head_bytes as usize;
    // How long a head takes is seen by the connection's seat.
    builder
        .header_read_timeout(None)
        .max_header_size(head)
        .max_buf_size(BUFFER.max(head));
    if let Some(fields) = limits.other_max_headers() {
        builder.max_headers(fields);
    }
    builder
}

/// A client's connection, with whoever may tell it to end.
struct Watched {
    worker: Rc<Worker>,
    direction: Direction,
    seat: Arc<Seat>,
}

impl Watched {
    /// Runs a connection. What it ends with is the client's leaving, or its breaking of the protocol, which hyper has
    /// answered. When the proxy ends and no request was open for `after`, it is shut down: what is open is finished.
    async fn until_end<C>(
        &self,
        connection: C,
        drain: &Drain,
        after: Duration,
        shut_down: impl FnOnce(std::pin::Pin<&mut C>),
    ) where
        C: Future<Output = Result<(), hyper::Error>>,
    {
        let mut connection = pin!(connection);
        let told = tokio::select! {
            biased;
            ended = connection.as_mut() => return self.ended(ended.err()),
            () = self.last_request(drain, after) => Told::Finish,
            told = self.seat.told() => told,
        };
        if told == Told::Close {
            return;
        }
        shut_down(connection.as_mut());
        tokio::select! {
            biased;
            ended = connection => self.ended(ended.err()),
            () = self.seat.closed() => {}
        }
    }

    /// Until the proxy ends, and no request was open for so long since. A response that began before has not said that it
    /// is the last one: its client may ask again as soon as it is over, and is then told.
    async fn last_request(&self, drain: &Drain, quiet: Duration) {
        drain.started().await;
        let mut idle = Duration::ZERO;
        while idle < quiet {
            tokio::time::sleep(LOOK).await;
            idle = if self.seat.awaits_head() {
                idle + LOOK
            } else {
                Duration::ZERO
            };
        }
    }

    /// Counts why the connection ended, if its client is to blame.
    fn ended(&self, error: Option<hyper::Error>) {
        let cut = self.seat.blamed().or_else(|| Cut::of(error.as_ref()?));
        if let Some(cut) = cut {
            self.worker.cut(self.direction, cut);
        }
        if let Some(error) = error {
            tracing::debug!(%error, "a connection ended");
        }
    }
}
