//! A server that generates until it is told to stop, and counts how often it was: what a model server is to the mesh.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;
use tokio::time::timeout;

use super::peer::PATIENCE;

/// How large a piece of an endless response is.
const PIECE: &[u8] = &[b'x'; 16 << 10];

/// The server. What it does stands in the path:
/// - `/think` reads the request, and never answers;
/// - `/ignore` does not even read the request;
/// - `/begin` answers with one piece, and then says nothing more;
/// - `/flow` answers without an end.
pub(crate) struct Generator {
    pub(crate) address: SocketAddr,
    begun: watch::Receiver<Vec<HeaderMap>>,
    stopped: watch::Receiver<usize>,
    produced: Arc<AtomicU64>,
}

struct Counts {
    begun: watch::Sender<Vec<HeaderMap>>,
    stopped: watch::Sender<usize>,
    produced: Arc<AtomicU64>,
}

/// A generation; it is stopped when this is dropped.
struct Generation(Arc<Counts>);

impl Drop for Generation {
    fn drop(&mut self) {
        self.0.stopped.send_modify(|stopped| *stopped += 1);
    }
}

impl Generator {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, sees_begun) = watch::channel(Vec::new());
        let (stopped, sees_stopped) = watch::channel(0);
        let produced: Arc<AtomicU64> = Arc::default();
        let counts = Arc::new(Counts {
            begun,
            stopped,
            produced: Arc::clone(&produced),
        });
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let counts = Arc::clone(&counts);
                let service = service_fn(move |request| generate(Arc::clone(&counts), request));
                tokio::spawn(
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .into_owned(),
                );
            }
        });
        Self {
            address,
            begun: sees_begun,
            stopped: sees_stopped,
            produced,
        }
    }

    /// Waits until so many generations have begun, and returns the headers of the last.
    pub(crate) async fn begun(&mut self, count: usize) -> HeaderMap {
        let begun = timeout(PATIENCE, self.begun.wait_for(|begun| begun.len() >= count)).await;
        begun
            .unwrap_or_else(|_| panic!("generation {count} does not begin"))
            .unwrap()[count - 1]
            .clone()
    }

    /// Waits until so many generations were stopped.
    pub(crate) async fn stopped(&mut self, count: usize, why: &str) {
        let stopped = timeout(PATIENCE, self.stopped.wait_for(|stopped| *stopped >= count)).await;
        let stopped = *stopped
            .unwrap_or_else(|_| panic!("{why}: generation {count} goes on"))
            .unwrap();
        assert_eq!(stopped, count, "{why}: one generation was stopped, and no other");
    }

    /// Bytes of endless responses that were produced.
    pub(crate) fn produced(&self) -> u64 {
        self.produced.load(Ordering::SeqCst)
    }
}

async fn generate(counts: Arc<Counts>, request: Request<Incoming>) -> Result<Response<Pieces>, Infallible> {
    let generation = Generation(Arc::clone(&counts));
    counts
        .begun
        .send_modify(|begun| begun.push(request.headers().clone()));
    let (head, mut body) = request.into_parts();
    let mut pieces = Pieces {
        generation: Some(generation),
        left: 0,
        body: None,
    };
    match head.uri.path() {
        "/think" => {
            while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
            std::future::pending::<()>().await;
        }
        "/ignore" => std::future::pending::<()>().await,
        "/begin" => pieces.left = 1,
        _ => pieces.left = u64::MAX,
    }
    // What a client of gRPC goes on sending is not read, and not refused.
    pieces.body = Some(body);
    let mut response = Response::new(pieces);
    if let Some(kind) = head.headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    Ok(response)
}

/// So many pieces, and then silence.
struct Pieces {
    generation: Option<Generation>,
    left: u64,
    body: Option<Incoming>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Pending;
        }
        self.left -= 1;
        if let Some(Generation(counts)) = &self.generation {
            counts.produced.fetch_add(PIECE.len() as u64, Ordering::SeqCst);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
    }
}
