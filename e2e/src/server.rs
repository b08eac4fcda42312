//! A model server that does as it is told: it answers what it is asked in any protocol, says who it is, and counts.
//!
//! What a request wants of it stands in its headers: `x-id` (counted), `x-delay` (milliseconds before the answer),
//! `x-stream` (`COUNT,PACE`: so many server-sent events, so many milliseconds apart), `x-pause` (milliseconds between
//! two reads of the body), `x-size` (so many bytes are the answer). gRPC calls get their own messages back, one by one, and trailers at the end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// The header with the server's name.
pub const SERVER: HeaderName = HeaderName::from_static("x-server");
/// The header with a request's name, by which it is counted.
pub const ID: HeaderName = HeaderName::from_static("x-id");

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Conduct {
    /// It answers.
    Answer,
    /// It reads the whole request and then breaks the connection off, as a process that crashes does.
    Die,
}

/// A server that runs until this value is dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    end: watch::Sender<End>,
}

/// Whether a server is about to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is not.
    NotYet,
    /// When everything is answered.
    Answered,
    /// At once.
    Now,
}

#[derive(Debug)]
struct Shared {
    name: String,
    conduct: AtomicU8,
    requests: AtomicU64,
    whole: AtomicU64,
    bytes: AtomicU64,
    streams: AtomicU64,
    seen: Mutex<BTreeMap<String, u32>>,
}

impl Server {
    /// Starts a server on any port of loopback.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_on(name, 0).await
    }

    /// Starts a server on this port of loopback.
    ///
    /// # Errors
    /// When it can't listen there.
    pub async fn start_on(name: &str, port: u16) -> Result<Self> {
        Self::start_at(name, ([127, 0, 0, 1], port).into()).await
    }

    /// Starts a server at this address.
    ///
    /// # Errors
    /// When it can't listen there.
    pub async fn start_at(name: &str, address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            conduct: AtomicU8::new(Conduct::Answer as u8),
            requests: AtomicU64::new(0),
            whole: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let address = listener.local_addr()?;
        let (end, ends) = watch::channel(End::NotYet);
        tokio::spawn(accept(listener, Arc::clone(&shared), ends));
        Ok(Self { shared, address, end })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it does this.
    pub fn conduct(&self, conduct: Conduct) {
        self.shared.conduct.store(conduct as u8, Ordering::Release);
    }

    /// How many requests it has seen.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Acquire)
    }

    /// How many of them it has seen to the end of their body.
    pub fn whole(&self) -> u64 {
        self.shared.whole.load(Ordering::Acquire)
    }

    /// How many bytes of bodies it has read.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Acquire)
    }

    /// How many streams of events it is sending.
    pub fn streams(&self) -> u64 {
        self.shared.streams.load(Ordering::Acquire)
    }

    /// How often it has seen the request of this name.
    pub fn times_seen(&self, id: &str) -> u32 {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(id).copied().unwrap_or_default()
    }

    /// Listens no more, answers what it was asked, and returns when the last stream is over.
    pub async fn drain(&self) {
        self.end.send_replace(End::Answered);
        // Whoever accepts or serves is told by a receiver of its own, and drops it when it is done.
        self.end.closed().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.send_replace(End::Now);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut ends: watch::Receiver<End>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ends.changed() => return,
        };
        if let Ok((stream, _)) = accepted {
            tokio::spawn(serve(stream, Arc::clone(&shared), ends.clone()));
        }
    }
}

/// Serves a connection until it ends, the server stops, or a request kills it.
async fn serve(stream: TcpStream, shared: Arc<Shared>, mut ends: watch::Receiver<End>) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = stream.into_std() else { return };
    let Ok(handle) = stream.try_clone() else { return };
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    let death = Arc::new(Notify::new());
    let told = Arc::clone(&death);
    let service = service_fn(move |request| answer(Arc::clone(&shared), Arc::clone(&told), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Tensors and streams pass without waiting for each other.
    builder
        .http2()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            // A client that leaves is no concern of the server's.
            _ = connection.as_mut() => return,
            told = ends.changed() => match *ends.borrow_and_update() {
                End::Answered if told.is_ok() => connection.as_mut().graceful_shutdown(),
                _ => return,
            },
            () = death.notified() => {
                // Closing then sends a reset.
                let _ = socket2::SockRef::from(&handle).set_linger(Some(Duration::ZERO));
                return;
            }
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    death: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    shared.requests.fetch_add(1, Ordering::AcqRel);
    let wants = Wants::read(request.headers());
    if let Some(id) = wants.id {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(id).or_default() += 1;
    }
    if shared.conduct.load(Ordering::Acquire) == Conduct::Die as u8 {
        read(&shared, request.into_body(), wants.pause).await;
        death.notify_one();
        return std::future::pending().await;
    }
    let head = request.method() == Method::HEAD;
    let path = request.uri().path().to_owned();
    let peer = request
        .headers()
        .get("mesh-peer")
        .and_then(|peer| peer.to_str().ok())
        .map(str::to_owned);
    let mut response = if is_grpc(request.headers()) {
        grpc(Arc::clone(&shared), request.into_body())
    } else {
        let version = format!("{:?}", request.version());
        let bytes = read(&shared, request.into_body(), wants.pause).await;
        tokio::time::sleep(wants.delay).await;
        match (wants.stream, wants.size) {
            (Some((count, pace)), _) => events(Streaming::begin(&shared), count, pace),
            (None, Some(size)) => bulk(size),
            (None, None) => {
                let told = json!({"server": shared.name, "path": path, "bytes": bytes, "version": version, "peer": peer});
                let mut response = Response::new(Full::new(told.to_string().into()).boxed_unsync());
                set(&mut response, CONTENT_TYPE, "application/json");
                response
            }
        }
    };
    set(&mut response, SERVER, &shared.name);
    if head {
        *response.body_mut() = Full::default().boxed_unsync();
    }
    Ok(response)
}

/// What the headers ask of the server.
#[derive(Default)]
struct Wants {
    id: Option<String>,
    delay: Duration,
    pause: Duration,
    stream: Option<(u32, Duration)>,
    size: Option<usize>,
}

impl Wants {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let millis = |text: &str| text.parse().map(Duration::from_millis).ok();
        Self {
            id: text("x-id").map(str::to_owned),
            delay: text("x-delay").and_then(millis).unwrap_or_default(),
            pause: text("x-pause").and_then(millis).unwrap_or_default(),
            size: text("x-size").and_then(|text| text.parse().ok()),
            stream: text("x-stream").and_then(|text| {
                let (count, pace) = text.split_once(',')?;
                Some((count.parse().ok()?, millis(pace)?))
            }),
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Reads a body to its end, or as far as it comes, and forgets it.
async fn read(shared: &Shared, mut body: Incoming, pause: Duration) -> u64 {
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return total };
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        total += bytes;
        shared.bytes.fetch_add(bytes, Ordering::AcqRel);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    shared.whole.fetch_add(1, Ordering::AcqRel);
    total
}

/// So many bytes.
fn bulk(size: usize) -> Response<Body> {
    const PIECE: &[u8] = &[b'x'; 64 << 10];
    let pieces = stream::unfold(size, |left| async move {
        let now = left.min(PIECE.len());
        (now > 0).then(|| (Ok(Frame::data(Bytes::from_static(&PIECE[..now]))), left - now))
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

/// A stream of events, counted until it is over or given up.
struct Streaming(Arc<Shared>);

impl Streaming {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.streams.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// So many events, so far apart, and the one that OpenAI's servers end with.
fn events(streaming: Streaming, count: u32, pace: Duration) -> Response<Body> {
    let events = stream::unfold((0, streaming), move |(sent, streaming)| async move {
        let text = match sent {
            sent if sent < count => format!("data: {{\"event\": {sent}}}\n\n"),
            sent if sent == count => "data: [DONE]\n\n".to_owned(),
            _ => return None,
        };
        if sent > 0 {
            tokio::time::sleep(pace).await;
        }
        Some((Ok(Frame::data(Bytes::from(text))), (sent + 1, streaming)))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    set(&mut response, CONTENT_TYPE, "text/event-stream");
    response
}

/// The client's messages, each as soon as it comes, and trailers when the client is done.
fn grpc(shared: Arc<Shared>, body: Incoming) -> Response<Body> {
    let echo = stream::unfold(Some((shared, body)), |state| async move {
        let (shared, mut body) = state?;
        match body.frame().await {
            Some(Ok(frame)) if frame.is_data() => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                shared.bytes.fetch_add(length as u64, Ordering::AcqRel);
                Some((Ok(frame), Some((shared, body))))
            }
            end => {
                let broken = matches!(end, Some(Err(_)));
                let status = if broken { "1" } else { "0" };
                shared.whole.fetch_add(u64::from(!broken), Ordering::AcqRel);
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(status));
                Some((Ok(Frame::trailers(trailers)), None))
            }
        }
    });
    let mut response = Response::new(StreamBody::new(echo).boxed_unsync());
    set(&mut response, CONTENT_TYPE, "application/grpc");
    response
}
