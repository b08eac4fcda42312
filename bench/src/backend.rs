//! The model server of the bench: answers V2 inferences over HTTP/1.1 and gRPC (h2c) on one port with a ready-made
//! body, so that nearly all time of a measured request is the proxies'.

use std::{error::Error, future::ready, net::SocketAddr, rc::Rc};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{net::TcpListener, task::spawn_local};

use crate::{local::LocalExecutor, payload};

/// The one response to every inference, per protocol.
struct Answers {
    http: Bytes,
    grpc: Bytes,
}

/// Serves until the process ends. `announce` is told the address once connections are accepted.
pub(crate) async fn serve(listen: SocketAddr, announce: impl FnOnce(SocketAddr) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    announce(
        listener
            .local_addr()
            .context("cannot read the backend's own address")?,
    )?;
    let answers = Rc::new(Answers {
        http: payload::http_response(),
        grpc: payload::grpc_response(),
    });
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let answers = Rc::clone(&answers);
        spawn_local(async move {
            let service = service_fn(|request| respond(request, Rc::clone(&answers)));
            // A connection that the peer breaks off ends by itself: the load generator counts what failed.
            let _ = auto::Builder::new(LocalExecutor)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    answers: Rc<Answers>,
) -> Result<Response<impl Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>>>, hyper::Error> {
    let (parts, mut body) = request.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let (status, kind, body) = match (&parts.method, parts.uri.path()) {
        (&Method::POST, payload::HTTP_PATH) => (
            StatusCode::OK,
            "application/json",
            Either::Left(Full::new(answers.http.clone())),
        ),
        (&Method::POST, payload::GRPC_PATH) => {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(answers.grpc.clone()).with_trailers(ready(Some(Ok(trailers))));
            (StatusCode::OK, "application/grpc", Either::Right(body))
        }
        (&Method::GET, "/v2/health/live" | "/v2/health/ready") => (
            StatusCode::OK,
            "application/json",
            Either::Left(Full::new(Bytes::new())),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            Either::Left(Full::new(Bytes::new())),
        ),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
