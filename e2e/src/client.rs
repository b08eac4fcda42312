//! Clients of every protocol, each on one connection that is never made anew: a connection that breaks is a failure, and
//! so is one that says nothing for a minute while something is waited for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::server::SERVER;
use crate::wait::within;

mod call;

pub use call::Call;

/// The body of a request.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers, or nothing.
    pub trailers: HeaderMap,
}

impl Answer {
    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When it breaks off, or nothing more comes of it.
    pub async fn read(response: Response<Incoming>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let (body, trailers) = rest(body).await.context("the answer broke off")?;
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body,
            trailers,
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty: it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The server that answered; empty: none did.
    pub fn server(&self) -> &str {
        self.header(SERVER.as_str())
    }

    /// Why the mesh answered itself; empty: it did not.
    pub fn mesh_error(&self) -> &str {
        self.header("mesh-error")
    }

    /// The status of a gRPC call, from headers or trailers.
    pub fn grpc_status(&self) -> Option<u32> {
        let status = self
            .trailers
            .get("grpc-status")
            .or_else(|| self.headers.get("grpc-status"))?;
        status.to_str().ok()?.parse().ok()
    }

    /// Fails unless the answer is the server's, and a success.
    ///
    /// # Errors
    /// With all there is to know about it.
    pub fn success(self) -> Result<Self> {
        let grpc = self.grpc_status().is_none_or(|status| status == 0);
        ensure!(
            self.status.is_success() && grpc && self.mesh_error().is_empty(),
            "{self:?}"
        );
        Ok(self)
    }
}

/// A request without a body. HTTP/1.1 gets its `Host`, HTTP/2 its authority, from the client.
pub fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body of so many pieces of the same bytes, without a length.
pub fn repeated(piece: Bytes, count: usize) -> Body {
    let pieces = stream::iter(0..count).map(move |_| Ok(Frame::data(piece.clone())));
    StreamBody::new(pieces).boxed_unsync()
}

/// A body of some bytes, and then so many pieces of the same bytes, and then the last ones, without a length.
pub fn long(first: Bytes, piece: Bytes, count: usize, last: Bytes) -> Body {
    let pieces = stream::iter(
        std::iter::once(first)
            .chain(std::iter::repeat_n(piece, count))
            .chain([last]),
    );
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// The next piece of an answer; nothing: it is over.
///
/// # Errors
/// When it breaks off, or nothing more comes of it.
pub async fn next_piece(body: &mut Incoming) -> Result<Option<Frame<Bytes>>> {
    let piece = within("more of an answer", body.frame()).await?;
    Ok(piece.transpose()?)
}

/// What is left of an answer, and its trailers.
async fn rest(mut body: Incoming) -> Result<(Bytes, HeaderMap)> {
    let (mut all, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(piece) = next_piece(&mut body).await? {
        match piece.into_data() {
            Ok(data) => all.put(data),
            Err(piece) => trailers = piece.into_trailers().unwrap_or_default(),
        }
    }
    Ok((all.freeze(), trailers))
}

/// A TCP connection that holds nothing back.
async fn connect(address: SocketAddr) -> Result<TokioIo<TcpStream>> {
    let stream = within("a connection", TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

/// What a request fails with that no answer has begun to.
const NO_ANSWER: &str = "no answer";
const CLOSED: &str = "the connection was closed";
/// What a request fails with that the connection never took.
const LOST: &str = "the connection ended as the request was handed to it";

/// Whether the other side can't have seen the request: nothing of it has left this process, or it came after a GOAWAY
/// that says so (RFC 9113, §6.8). Every client of HTTP sends such a request again.
pub fn unseen(error: &anyhow::Error) -> bool {
    let unsent = |error: &hyper::Error| error.is_canceled() || error.is_closed();
    let turned_away = |error: &h2::Error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    };
    let what = error.to_string();
    let begun = ![NO_ANSWER, CLOSED].contains(&what.as_str());
    let mut causes = error.chain();
    what == LOST
        || !begun
            && causes.any(|cause| {
                cause.downcast_ref().is_some_and(unsent) || cause.downcast_ref().is_some_and(turned_away)
            })
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub struct Http1 {
    sender: http1::SendRequest<Body>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Http1 {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let (sender, connection) = http1::handshake(connect(address).await?).await?;
        let connection = tokio::spawn(connection);
        Ok(Self { sender, connection })
    }

    /// Sends a request, and returns the head of the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn begin(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>> {
        if !request.headers().contains_key(HOST) {
            request
                .headers_mut()
                .insert(HOST, http::HeaderValue::from_static("model.test"));
        }
        let ready = within("the connection to take a request", self.sender.ready()).await?;
        ready.context(CLOSED)?;
        let mut answer = pin!(self.sender.send_request(request));
        // A connection that ends on one thread while a request is handed to it on another may lose it: tokio's channel takes
        // what nobody drains any more, and keeps it for as long as there is a sender.
        let ended = async |connection: &mut JoinHandle<_>| drop(connection.await);
        tokio::select! {
            biased;
            answer = within("the head of an answer", &mut answer) => answer?.context(NO_ANSWER),
            () = ended(&mut self.connection) => answer.now_or_never().context(LOST)?.context(NO_ANSWER),
        }
    }

    /// Sends a request, and returns the whole answer.
    ///
    /// # Errors
    /// When there is none, or it breaks off.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Answer> {
        Answer::read(self.begin(request).await?).await
    }
}

/// An HTTP/2 connection, without TLS, with prior knowledge.
#[derive(Clone, Debug)]
pub struct Http2(Arc<Mutex<Option<http2::SendRequest<Body>>>>);

impl Http2 {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = connect(address).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .handshake(stream)
            .await?;
        let client = Self(Arc::new(Mutex::new(Some(sender))));
        let open = Arc::downgrade(&client.0);
        tokio::spawn(async move {
            let _ = connection.await;
            // As with HTTP/1.1, a call that was handed to it meanwhile may be lost in tokio's channel. Without senders the
            // channel goes, and the call fails.
            if let Some(client) = open.upgrade() {
                Self(client).sender().take();
            }
        });
        Ok(client)
    }

    fn sender(&self) -> MutexGuard<'_, Option<http2::SendRequest<Body>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, and returns the head of the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn begin(&self, mut request: Request<Body>) -> Result<Response<Incoming>> {
        if request.uri().authority().is_none() {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = Uri::builder()
                .scheme("http")
                .authority("model.test")
                .path_and_query(path)
                .build()?;
        }
        let mut sender = self.sender().clone().context(LOST)?;
        sender.ready().await.context(CLOSED)?;
        let answer = sender.send_request(request);
        // Whoever waits for the answer holds no sender.
        drop(sender);
        within("the head of an answer", answer).await?.context(NO_ANSWER)
    }

    /// Sends a request, and returns the whole answer.
    ///
    /// # Errors
    /// When there is none, or it breaks off.
    pub async fn send(&self, request: Request<Body>) -> Result<Answer> {
        Answer::read(self.begin(request).await?).await
    }

    /// Calls a method with one message.
    ///
    /// # Errors
    /// When there is no answer, or it breaks off.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Result<Answer> {
        self.send(grpc(path, headers, full(framed(message)))?).await
    }

    /// Calls a method with a stream of messages, and waits until the first one comes back. It is sent with the call, as
    /// gRPC's own clients do: a stream is routed by its first message.
    ///
    /// # Errors
    /// When something else comes back, or nothing.
    pub async fn open(&self, path: &str, first: &[u8]) -> Result<Call> {
        let (messages, outgoing) = mpsc::unbounded_channel::<Bytes>();
        messages.send(framed(first))?;
        let outgoing = stream::unfold(outgoing, |mut outgoing| async move {
            let message = outgoing.recv().await?;
            Some((Ok(Frame::data(message)), outgoing))
        });
        let response = self
            .begin(grpc(path, &[], StreamBody::new(outgoing).boxed_unsync())?)
            .await?;
        let (head, body) = response.into_parts();
        ensure!(
            head.status.is_success() && !head.headers.contains_key("mesh-error"),
            "{head:?}"
        );
        let mut call = Call::new(messages, body);
        call.receive(&framed(first)).await?;
        Ok(call)
    }
}

/// The request of a gRPC call.
///
/// # Errors
/// When path or headers are none.
pub fn grpc(path: &str, headers: &[(&str, &str)], body: Body) -> Result<Request<Body>> {
    let mut request = request(Method::POST, path)
        .header(CONTENT_TYPE, "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.body(body)?)
}

/// A message behind gRPC's prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// Asks once, on a connection of its own.
///
/// # Errors
/// When there is no answer.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let request = request(Method::GET, path).body(full(""))?;
    Http1::connect(address).await?.send(request).await
}

/// Sends a body once, on a connection of its own.
///
/// # Errors
/// When there is no answer.
pub async fn post(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Result<Answer> {
    let request = request(Method::POST, path).body(full(body))?;
    Http1::connect(address).await?.send(request).await
}
