//! Load that runs while something happens: unary calls one after the other, and streams that stay open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;

use crate::client::{Http1, Http2, full, request};

/// How long a client waits between two requests, so that the load leaves the machine some time for what it is about.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// How many events an SSE stream asks for: more than any scenario lasts.
const EVENTS: u32 = 1_000_000;
/// How far apart they are, in milliseconds.
const PACE: u32 = 200;

/// Clients that go on until they are told to end.
#[derive(Debug, Default)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: JoinSet<Result<()>>,
}

/// What unary clients send.
#[derive(Clone, Debug)]
pub struct Unary {
    /// The path.
    pub path: String,
    /// The body.
    pub body: String,
    /// So many server-sent events, so many milliseconds apart, are the answer; none: a short answer.
    pub stream: Option<(u32, u32)>,
}

/// A client's part in a load: when it ends, and where it counts.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Turn {
    /// Whether the client is to send another request.
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// Counts an answer.
    pub(crate) fn done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }
}

impl Load {
    /// Clients of HTTP/1.1, each on a connection, each request after the answer to the one before.
    pub fn http1(&mut self, address: SocketAddr, clients: usize, unary: &Unary) {
        for number in 0..clients {
            let (stop, done, unary) = (Arc::clone(&self.stop), Arc::clone(&self.done), unary.clone());
            self.clients.spawn(async move {
                let mut client = Http1::connect(address).await?;
                while !stop.load(Ordering::Acquire) {
                    let request = request(Method::POST, &unary.path)
                        .header("content-type", "application/json")
                        .header("x-user-id", format!("user-{number}"))
                        .body(full(unary.body.clone()))?;
                    client.send(request).await?.success().context("HTTP/1.1")?;
                    done.fetch_add(1, Ordering::AcqRel);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
    }

    /// Clients of gRPC on one connection, each call after the answer to the one before.
    pub fn grpc(&mut self, client: &Http2, clients: usize, path: &str, message: &[u8]) {
        for _ in 0..clients {
            let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.done));
            let (client, path, message) = (client.clone(), path.to_owned(), message.to_vec());
            self.clients.spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    client
                        .call(&path, &[], &message)
                        .await?
                        .success()
                        .context("gRPC")?;
                    done.fetch_add(1, Ordering::AcqRel);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
    }

    /// gRPC streams on one connection, each message after the one before has come back.
    pub fn grpc_streams(&mut self, client: &Http2, streams: usize, path: &str, message: &[u8]) {
        for _ in 0..streams {
            let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.done));
            let (client, path, message) = (client.clone(), path.to_owned(), message.to_vec());
            self.clients.spawn(async move {
                let mut call = client.open(&path, &message).await?;
                while !stop.load(Ordering::Acquire) {
                    call.exchange(&message).await.context("a gRPC stream")?;
                    done.fetch_add(1, Ordering::AcqRel);
                    tokio::time::sleep(PAUSE * 10).await;
                }
                call.finish().await.context("a gRPC stream")
            });
        }
    }

    /// Streams of server-sent events, each on a connection of its own, read until they are told to end; each event must
    /// follow the one before.
    pub fn events(&mut self, address: SocketAddr, streams: usize, unary: &Unary) {
        for _ in 0..streams {
            let (stop, done, unary) = (Arc::clone(&self.stop), Arc::clone(&self.done), unary.clone());
            self.clients.spawn(async move {
                let mut client = Http1::connect(address).await?;
                let request = request(Method::POST, &unary.path)
                    .header("content-type", "application/json")
                    .header("x-stream", format!("{EVENTS},{PACE}"))
                    .body(full(unary.body.clone()))?;
                let response = client.begin(request).await?;
                ensure!(response.status().is_success(), "{response:?}");
                let mut body = response.into_body();
                let (mut received, mut next) = (BytesMut::new(), 0_u32);
                while !stop.load(Ordering::Acquire) {
                    let frame = body.frame().await.context("an event stream ended")??;
                    received.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                    let expected = format!("data: {{\"event\": {next}}}\n\n");
                    if received.len() >= expected.len() {
                        ensure!(
                            received.split_to(expected.len()) == expected,
                            "event {next} is missing"
                        );
                        next += 1;
                        done.fetch_add(1, Ordering::AcqRel);
                    }
                }
                Ok(())
            });
        }
    }

    /// A client of another kind.
    pub(crate) fn spawn<F>(&mut self, client: impl FnOnce(Turn) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let turn = Turn {
            stop: Arc::clone(&self.stop),
            done: Arc::clone(&self.done),
        };
        self.clients.spawn(client(turn));
    }

    /// How many requests, messages and events have come back so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Fails if a client has failed already.
    ///
    /// # Errors
    /// With its failure.
    pub fn check(&mut self) -> Result<()> {
        match self.clients.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended??;
                anyhow::bail!("a client ended before it was told to")
            }
        }
    }

    /// Tells the clients to end, and fails if one of them has failed.
    ///
    /// # Errors
    /// With all failures.
    pub async fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        let mut failures = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            if let Err(failure) = ended.map_err(anyhow::Error::from).flatten() {
                failures.push(format!("{failure:#}"));
            }
        }
        ensure!(
            failures.is_empty(),
            "{} clients failed: {failures:#?}",
            failures.len()
        );
        Ok(self.done.load(Ordering::Acquire))
    }
}
