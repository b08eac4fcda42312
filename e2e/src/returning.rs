//! Load of clients that come back: whose connection was closed between two requests connects anew, as every HTTP client
//! does. Whatever was sent must be answered all the same.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;

use crate::client::{Answer, Http1, Http2, full, request, unseen};
use crate::load::{Load, PAUSE, Unary};

/// How far apart the events and messages of a stream are, in milliseconds.
const PACE: u32 = 50;
/// How often a client tries to send a request that does not leave it.
const ATTEMPTS: usize = 5;

impl Load {
    /// Clients of HTTP/1.1 that keep their connection for as long as the other side does.
    pub fn returning_http1(&mut self, address: SocketAddr, clients: usize, unary: &Unary) {
        for _ in 0..clients {
            let unary = unary.clone();
            self.spawn(
                &format!("HTTP/1.1 coming back to {address}"),
                move |turn| async move {
                    let mut kept = None;
                    while turn.goes_on() {
                        http1(&mut kept, address, &unary).await?.success()?;
                        turn.done();
                        tokio::time::sleep(PAUSE).await;
                    }
                    Ok(())
                },
            );
        }
    }

    /// Clients of HTTP/1.1 that make a connection for each request.
    pub fn new_connections(&mut self, address: SocketAddr, clients: usize, unary: &Unary) {
        for _ in 0..clients {
            let unary = unary.clone();
            self.spawn(
                &format!("HTTP/1.1 connecting anew to {address}"),
                move |turn| async move {
                    while turn.goes_on() {
                        let mut client = Http1::connect(address).await.context("a new connection")?;
                        let answer = client.send(post(&unary)?).await;
                        answer.context("on a new connection")?.success()?;
                        turn.done();
                        tokio::time::sleep(PAUSE).await;
                    }
                    Ok(())
                },
            );
        }
    }

    /// Clients of gRPC that keep their connection for as long as the other side takes calls on it.
    pub fn returning_grpc(&mut self, address: SocketAddr, clients: usize, path: &str, message: &[u8]) {
        for _ in 0..clients {
            let (path, message) = (path.to_owned(), message.to_vec());
            self.spawn(
                &format!("gRPC coming back to {address}"),
                move |turn| async move {
                    let mut kept = None;
                    while turn.goes_on() {
                        let call = async |client: Http2| client.call(&path, &[], &message).await;
                        http2(&mut kept, address, call).await?.success()?;
                        turn.done();
                        tokio::time::sleep(PAUSE).await;
                    }
                    Ok(())
                },
            );
        }
    }

    /// gRPC streams of so many messages there and back, one after the other.
    pub fn returning_grpc_streams(
        &mut self,
        address: SocketAddr,
        clients: usize,
        path: &str,
        message: &[u8],
        messages: u32,
    ) {
        for _ in 0..clients {
            let (path, message) = (path.to_owned(), message.to_vec());
            self.spawn(
                &format!("gRPC streams coming back to {address}"),
                move |turn| async move {
                    let mut kept = None;
                    while turn.goes_on() {
                        let open = async |client: Http2| client.open(&path, &message).await;
                        let mut call = http2(&mut kept, address, open).await?;
                        for number in 0..messages {
                            tokio::time::sleep(Duration::from_millis(PACE.into())).await;
                            call.exchange(&message)
                                .await
                                .with_context(|| format!("message {number} of a gRPC stream"))?;
                        }
                        call.finish().await.context("the end of a gRPC stream")?;
                        turn.done();
                    }
                    Ok(())
                },
            );
        }
    }

    /// Streams of so many server-sent events, one after the other; each must come to its last event.
    pub fn returning_events(&mut self, address: SocketAddr, clients: usize, unary: &Unary, events: u32) {
        for _ in 0..clients {
            let unary = Unary {
                stream: Some((events, PACE)),
                ..unary.clone()
            };
            self.spawn(
                &format!("event streams coming back to {address}"),
                move |turn| async move {
                    let mut kept = None;
                    while turn.goes_on() {
                        let answer = http1(&mut kept, address, &unary).await?.success()?;
                        let text = answer.text();
                        ensure!(
                            text.ends_with("data: [DONE]\n\n")
                                && text.matches("event").count() == events as usize,
                            "an event stream broke off: {text}"
                        );
                        turn.done();
                    }
                    Ok(())
                },
            );
        }
    }
}

fn post(unary: &Unary) -> Result<http::Request<crate::client::Body>> {
    let mut request = request(Method::POST, &unary.path).header("content-type", "application/json");
    if let Some((events, pace)) = unary.stream {
        request = request.header("x-stream", format!("{events},{pace}"));
    }
    Ok(request.body(full(unary.body.clone()))?)
}

/// The answer to a request, on the connection kept or on a new one.
async fn http1(kept: &mut Option<Http1>, address: SocketAddr, unary: &Unary) -> Result<Answer> {
    for _ in 0..ATTEMPTS {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Http1::connect(address).await.context("a connection anew")?,
        };
        match client.send(post(unary)?).await {
            Ok(answer) => {
                *kept = Some(client);
                return Ok(answer);
            }
            Err(error) if unseen(&error) => {}
            Err(error) => return Err(error),
        }
    }
    anyhow::bail!("no connection stays open until a request is sent")
}

/// What a call comes to, on the connection kept or on a new one.
async fn http2<T, F: Future<Output = Result<T>>>(
    kept: &mut Option<Http2>,
    address: SocketAddr,
    call: impl Fn(Http2) -> F,
) -> Result<T> {
    for _ in 0..ATTEMPTS {
        let client = match kept.take() {
            Some(client) => client,
            None => Http2::connect(address).await.context("a connection anew")?,
        };
        match call(client.clone()).await {
            Ok(result) => {
                *kept = Some(client);
                return Ok(result);
            }
            Err(error) if unseen(&error) => {}
            Err(error) => return Err(error),
        }
    }
    anyhow::bail!("no connection stays open until a call is sent")
}
