//! HTTP/1.1 for those that are no proxies: the API server's webhook calls, probes, scrapes.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::tls::ServerTls;

/// The most connections.
const MAX_CONNECTIONS: usize = 512;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long a connection may wait for the next one: longer than the 90 s after
/// which Go's clients let go of a connection, so that it is they who do.
const HEAD: Duration = Duration::from_secs(120);
/// How long a request may take, its body included: as long as an API server waits for a webhook at most.
const REQUEST: Duration = Duration::from_secs(30);
/// The most bytes of a head.
const MAX_HEAD: usize = 16 << 10;

/// Serves until it is told to stop, then ends connections between two requests.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerTls>>, app: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, mostly: those that end make room.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::warn!("too many connections: one is refused");
            continue;
        };
        let (tls, app, stop) = (tls.clone(), app.clone(), stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            let ended = match tls {
                None => answer(stream, app, stop).await,
                Some(tls) => {
                    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
                    match tokio::time::timeout(HANDSHAKE, handshake).await {
                        Ok(Ok(stream)) => answer(stream, app, stop).await,
                        Ok(Err(error)) => Err(error),
                        Err(_) => Err(io::ErrorKind::TimedOut.into()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    }
    connections.close();
    connections.wait().await;
}

/// Answers the requests of one connection.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    app: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answered = app.clone().oneshot(request);
        async move {
            let response = match tokio::time::timeout(REQUEST, answered).await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    let mut response = Response::new(Body::from("the request took too long\n"));
                    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
                    response
                }
            };
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(io::Error::other)
}
