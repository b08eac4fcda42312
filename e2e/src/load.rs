//! Load that runs while something happens: unary calls one after the other, and streams that stay open.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::BytesMut;
use http::Method;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::client::{Http1, Http2, full, next_piece, request};
use crate::wait::PATIENCE;

/// How long a client waits between two requests, so that the load leaves the machine some time for what it is about.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// How many events an SSE stream asks for: more than any scenario lasts.
const EVENTS: u32 = 1_000_000;
/// How far apart they are, in milliseconds.
const PACE: u32 = 200;
/// How long clients may take to end: whatever one waits for then has its own limit, and a stream may have some more to come.
const END: Duration = PATIENCE.saturating_mul(2);

/// Clients that go on until they are told to end.
#[derive(Debug, Default)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    clients: JoinSet<Result<()>>,
    /// Of those that have not ended.
    names: HashMap<Id, String>,
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
pub struct Turn {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Turn {
    /// Whether the client is to send another request.
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// Counts an answer.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }
}

impl Load {
    /// Clients of HTTP/1.1, each on a connection, each request after the answer to the one before.
    pub fn http1(&mut self, address: SocketAddr, clients: usize, unary: &Unary) {
        for number in 0..clients {
            let unary = unary.clone();
            self.spawn(&format!("HTTP/1.1 at {address}"), move |turn| async move {
                let mut client = Http1::connect(address).await?;
                while turn.goes_on() {
                    let request = request(Method::POST, &unary.path)
                        .header("content-type", "application/json")
                        .header("x-user-id", format!("user-{number}"))
                        .body(full(unary.body.clone()))?;
                    client.send(request).await?.success()?;
                    turn.done();
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
    }

    /// Clients of gRPC on one connection, each call after the answer to the one before.
    pub fn grpc(&mut self, client: &Http2, clients: usize, path: &str, message: &[u8]) {
        for _ in 0..clients {
            let (client, path, message) = (client.clone(), path.to_owned(), message.to_vec());
            self.spawn("gRPC", move |turn| async move {
                while turn.goes_on() {
                    client.call(&path, &[], &message).await?.success()?;
                    turn.done();
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
    }

    /// gRPC streams on one connection, each message after the one before has come back.
    pub fn grpc_streams(&mut self, client: &Http2, streams: usize, path: &str, message: &[u8]) {
        for _ in 0..streams {
            let (client, path, message) = (client.clone(), path.to_owned(), message.to_vec());
            self.spawn("a gRPC stream", move |turn| async move {
                let mut call = client.open(&path, &message).await?;
                while turn.goes_on() {
                    call.exchange(&message).await?;
                    turn.done();
                    tokio::time::sleep(PAUSE * 10).await;
                }
                call.finish().await
            });
        }
    }

    /// Streams of server-sent events, each on a connection of its own, read until they are told to end; each event must
    /// follow the one before.
    pub fn events(&mut self, address: SocketAddr, streams: usize, unary: &Unary) {
        for _ in 0..streams {
            let unary = unary.clone();
            self.spawn(&format!("an event stream at {address}"), move |turn| async move {
                let mut client = Http1::connect(address).await?;
                let request = request(Method::POST, &unary.path)
                    .header("content-type", "application/json")
                    .header("x-stream", format!("{EVENTS},{PACE}"))
                    .body(full(unary.body.clone()))?;
                let response = client.begin(request).await?;
                ensure!(response.status().is_success(), "{response:?}");
                let mut body = response.into_body();
                let (mut received, mut next) = (BytesMut::new(), 0_u32);
                while turn.goes_on() {
                    let piece = next_piece(&mut body).await;
                    let piece = piece.with_context(|| format!("event {next}"))?;
                    let piece = piece.context("an event stream ended")?;
                    received.extend_from_slice(piece.data_ref().map_or(&[], |data| data));
                    let expected = format!("data: {{\"event\": {next}}}\n\n");
                    if received.len() >= expected.len() {
                        ensure!(
                            received.split_to(expected.len()) == expected,
                            "event {next} is missing"
                        );
                        next += 1;
                        turn.done();
                    }
                }
                Ok(())
            });
        }
    }

    /// A client of another kind, which is named with what it fails with.
    pub fn spawn<F>(&mut self, kind: &str, client: impl FnOnce(Turn) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let turn = Turn {
            stop: Arc::clone(&self.stop),
            done: Arc::clone(&self.done),
        };
        let name = format!("client {}, {kind}", self.names.len());
        let (client, named) = (client(turn), name.clone());
        let task = self.clients.spawn(async move { client.await.context(named) });
        self.names.insert(task.id(), name);
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

    /// Tells the clients to end, and fails if one of them has failed, or does not end.
    ///
    /// # Errors
    /// With all failures.
    pub async fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        let (mut failures, limit) = (Vec::new(), Instant::now() + END);
        while let Ok(Some(ended)) = tokio::time::timeout_at(limit, self.clients.join_next_with_id()).await {
            let (id, result) = match ended {
                Ok((id, result)) => (id, result),
                Err(panic) => (panic.id(), Err(panic.into())),
            };
            self.names.remove(&id);
            failures.extend(result.err().map(|failure| format!("{failure:#}")));
        }
        let running = (0..self.clients.len()).zip(self.names.values());
        failures
            .extend(running.map(|(_, name)| format!("{name}: has not ended {END:?} after it was told to")));
        ensure!(
            failures.is_empty(),
            "{} clients failed: {failures:#?}",
            failures.len()
        );
        Ok(self.done.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::wait::within;

    #[tokio::test(start_paused = true)]
    async fn who_fails_and_who_does_not_end_is_named() {
        let mut load = Load::default();
        load.spawn("that ends", |_| async { Ok(()) });
        load.spawn("that fails", |_| async { anyhow::bail!("for a reason") });
        load.spawn("that is kept waiting", |_| within("an answer", pending()));
        load.spawn("that hangs", |_| pending());
        let failures = load.finish().await.unwrap_err().to_string();
        assert!(failures.starts_with("3 clients failed"), "{failures}");
        for named in [
            "client 1, that fails: for a reason",
            "client 2, that is kept waiting: waited 60s for an answer",
            "client 3, that hangs: has not ended 120s after it was told to",
        ] {
            assert!(failures.contains(named), "{failures}");
        }
    }
}
