//! Connections as they come in: taken, secured, told apart, and served until they end or the proxy does.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_api::document::MtlsMode;
use mesh_api::identity::Identity;
use mesh_api::inference::AppProtocol;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::body::ResponseBody;
use crate::drain::Drain;
use crate::io::Io;
use crate::observe::Direction;
use crate::pool::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::worker::{LocalExecutor, Worker};
use crate::{inbound, outbound, tcp, tls};

/// The most bytes of a request's head.
pub const MAX_HEADER_BYTES: u32 = 64 << 10;
/// How long a client may take for the TLS handshake, for the first bytes, and for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection may lie idle between requests.
const KEEP_ALIVE_HEAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// How many streams a client may have open on one connection.
const MAX_STREAMS: u32 = 1000;
/// How long accepting pauses when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A listener for one worker.
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Which way its requests go.
    pub direction: Direction,
    /// The socket.
    pub socket: std::net::TcpListener,
}

/// Where a request came in.
#[derive(Clone)]
pub struct Entry {
    /// The listener.
    pub listener: SocketAddr,
    /// Who the caller proved to be.
    pub peer: Option<Arc<Identity>>,
    /// The authority of the tunnel it came through (CONNECT).
    pub tunnel: Option<http::uri::Authority>,
}

/// Takes connections until the listener is closed or the proxy ends.
pub async fn accept(worker: Rc<Worker>, listener: Listener) {
    let Listener {
        address,
        direction,
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
                let open = (drain.open(), worker.observe.shared().connection(direction));
                let worker = Rc::clone(&worker);
                tokio::task::spawn_local(async move {
                    let _open = open;
                    serve(worker, stream, address, direction).await;
                });
            }
            Err(error) => {
                // Out of descriptors, or the client left before it was taken: the next one may fare better.
                tracing::warn!(%address, %error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(worker: Rc<Worker>, stream: TcpStream, listener: SocketAddr, direction: Direction) {
    // A socket that can't is a socket that closes: reads will tell.
    let _ = stream.set_nodelay(true);
    let protocol = {
        let table = worker.shared.table.load();
        let Some(table) = table.as_deref() else { return };
        match direction {
            Direction::Outbound => table
                .outbound
                .get(&listener)
                .and_then(Option::as_ref)
                .map(|port| port.protocol),
            Direction::Inbound => table.inbound.get(&listener).map(|inbound| inbound.protocol),
        }
    };
    let io = match direction {
        Direction::Outbound => Some(Io::Plain(stream)),
        Direction::Inbound => secure(&worker, stream).await,
    };
    let Some(io) = io else { return };
    let peer = io.peer_identity().map(Arc::new);
    let entry = Entry {
        listener,
        peer,
        tunnel: None,
    };
    if protocol == Some(AppProtocol::Tcp) {
        return tcp::serve(&worker, io, &entry, direction).await;
    }
    let Ok(Some(http2)) = tokio::time::timeout(HEAD_TIMEOUT, speaks_http2(&io)).await else {
        return;
    };
    serve_http(worker, io, http2, entry, direction).await;
}

/// Takes the caller's handshake, or its plaintext where the mesh allows it.
async fn secure(worker: &Worker, stream: TcpStream) -> Option<Io> {
    let first = tokio::time::timeout(HEAD_TIMEOUT, first_bytes::<1>(&stream))
        .await
        .ok()??;
    let observe = worker.observe.shared();
    if first[0] != TLS_HANDSHAKE {
        let permissive = worker.shared.table.load().as_deref()?.mesh.mtls == MtlsMode::Permissive;
        observe.handshake(
            Direction::Inbound,
            if permissive {
                "plaintext"
            } else {
                "plaintext-refused"
            },
        );
        return permissive.then_some(Io::Plain(stream));
    }
    let Some(credentials) = worker.shared.credentials.load_full() else {
        observe.handshake(Direction::Inbound, "no-credentials");
        return None;
    };
    let accepting = TlsAcceptor::from(credentials.server_config()).accept(stream);
    let Ok(accepted) = tokio::time::timeout(HEAD_TIMEOUT, accepting).await else {
        observe.handshake(Direction::Inbound, "timeout");
        return None;
    };
    observe.handshake(Direction::Inbound, tls::result(accepted.as_ref().map(|_| ())));
    match accepted {
        Ok(tls) => Some(Io::Tls(Box::new(tls.into()))),
        Err(error) => {
            tracing::debug!(%error, "a handshake was refused");
            None
        }
    }
}

/// The first byte of a TLS record that begins a handshake (RFC 8446, §5.1).
const TLS_HANDSHAKE: u8 = 22;

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
pub async fn serve_http<I>(worker: Rc<Worker>, io: I, http2: bool, entry: Entry, direction: Direction)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let drain = worker.shared.drain.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, entry) = (Rc::clone(&worker), entry.clone());
        async move {
            let response: Response<ResponseBody> = match direction {
                Direction::Outbound => outbound::handle(worker, entry, request).await,
                Direction::Inbound => inbound::handle(&worker, &entry, request).await,
            };
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(io);
    if http2 {
        let connection = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(io, service);
        until_end(connection, &drain, http2::Connection::graceful_shutdown).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(KEEP_ALIVE_HEAD_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES as usize * 4)
            .serve_connection(io, service)
            .with_upgrades();
        until_end(
            connection,
            &drain,
            http1::UpgradeableConnection::graceful_shutdown,
        )
        .await;
    }
}

/// Runs a connection; its errors are the client's leaving, or its breaking of the protocol, which hyper has answered.
async fn until_end<C>(connection: C, drain: &Drain, shut_down: impl FnOnce(std::pin::Pin<&mut C>))
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = drain.started() => {
            shut_down(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
