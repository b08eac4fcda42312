//! The model server of the bench: answers inferences and chat completions over HTTP/1.1 and gRPC (h2c) with
//! a ready-made body, so that nearly all time of a measured request is the proxies'. A large inference is answered in its
//! own size, and a chat completion that is to be streamed with a chunk every 20 ms.

use std::{
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, ready},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    net::TcpListener,
    task::spawn_local,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    local::LocalExecutor,
    payload::{self, CHUNK_PERIOD, CHUNKS},
    scenario::Protocol,
};

/// The one response to every inference, per protocol.
struct Answers {
    http: Bytes,
    grpc: Bytes,
    /// What large responses are cut from.
    large: Bytes,
}

/// How many bytes a response has at most.
const LARGEST: usize = 8 << 20;

/// Serves until the process ends, at `listen` and at two more ports: a workload's ports are told apart by their numbers.
/// `announce` is told the three addresses once connections are accepted.
pub(crate) async fn serve(
    listen: SocketAddr,
    announce: impl FnOnce([SocketAddr; 3]) -> Result<()>,
) -> Result<()> {
    let free = SocketAddr::new(listen.ip(), 0);
    let listeners = [bind(listen).await?, bind(free).await?, bind(free).await?];
    announce(listeners.each_ref().map(|(_, address)| *address))?;
    let answers = Rc::new(Answers {
        http: payload::http_response(),
        grpc: payload::grpc_response(),
        large: vec![b'0'; LARGEST].into(),
    });
    let serving = listeners.map(|(listener, _)| accept(listener, Rc::clone(&answers)));
    let [one, two, three] = serving;
    tokio::try_join!(one, two, three).map(|_: (Infallible, Infallible, Infallible)| ())
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener
        .local_addr()
        .context("cannot read the backend's own address")?;
    Ok((listener, address))
}

async fn accept(listener: TcpListener, answers: Rc<Answers>) -> Result<Infallible> {
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

type Answer = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

async fn respond(request: Request<Incoming>, answers: Rc<Answers>) -> Result<Response<Answer>, hyper::Error> {
    let (parts, mut body) = request.into_parts();
    let (mut first, mut size) = (Bytes::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            size += data.len();
            if first.is_empty() {
                first = data;
            }
        }
    }
    let whole = |bytes: Bytes| {
        Full::new(bytes)
            .map_err(|never: Infallible| match never {})
            .boxed_unsync()
    };
    let (status, kind, body) = match (&parts.method, parts.uri.path()) {
        (&Method::POST, payload::HTTP_PATH) if size > payload::SIZE => {
            let large = answers.large.slice(..size.min(LARGEST));
            (StatusCode::OK, "application/json", whole(large))
        }
        (&Method::POST, payload::CHAT_PATH) if payload::wants_stream(&first) => (
            StatusCode::OK,
            "text/event-stream",
            Ticking::new(Protocol::Http1).boxed_unsync(),
        ),
        (&Method::POST, payload::HTTP_PATH | payload::CHAT_PATH) => {
            (StatusCode::OK, "application/json", whole(answers.http.clone()))
        }
        (&Method::POST, payload::GRPC_PATH) => {
            let trailers = std::future::ready(Some(Ok(grpc_ok())));
            let body = Full::new(answers.grpc.clone()).map_err(|never: Infallible| match never {});
            (
                StatusCode::OK,
                "application/grpc",
                body.with_trailers(trailers).boxed_unsync(),
            )
        }
        (&Method::POST, payload::GRPC_STREAM_PATH) => (
            StatusCode::OK,
            "application/grpc",
            Ticking::new(Protocol::Grpc).boxed_unsync(),
        ),
        (&Method::GET, "/v2/health/live" | "/v2/health/ready") => {
            (StatusCode::OK, "application/json", whole(Bytes::new()))
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", whole(Bytes::new())),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn grpc_ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// A chunk every 20 ms.
struct Ticking {
    protocol: Protocol,
    interval: Interval,
    left: usize,
    has_trailers: bool,
}

impl Ticking {
    fn new(protocol: Protocol) -> Self {
        let mut interval = interval(CHUNK_PERIOD);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            protocol,
            interval,
            left: CHUNKS,
            has_trailers: protocol == Protocol::Grpc,
        }
    }
}

impl Body for Ticking {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            let has_trailers = std::mem::take(&mut self.has_trailers);
            return Poll::Ready(has_trailers.then(|| Ok(Frame::trailers(grpc_ok()))));
        }
        ready!(self.interval.poll_tick(cx));
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(payload::chunk(self.protocol)))))
    }
}
