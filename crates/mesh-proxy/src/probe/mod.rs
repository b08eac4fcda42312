//! The kubelet's probes: whether this proxy is ready, and the probes of the workload's own containers, which the kubelet
//! can't ask itself where only callers with an identity are let in.
//!
//! Whoever reaches the pod reaches this. It answers GET alone, on paths that it was started with, and asks the workload
//! what the pod's own probes say and nothing else: no byte of a caller's goes to the workload.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_api::inject::probe::{self, Probes};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::admin::Admin;
use crate::apply::has_no_ipv6;

mod ask;
mod grpc;
mod http_get;
pub mod outlast;
pub mod ready;
mod recent;

use ask::Ask;
use recent::Recent;

/// The most connections at a time. The kubelet makes one for each probe and keeps none; for one more than this, the one
/// that was made first is closed, so that nobody keeps the kubelet out by making many.
const MAX_CONNECTIONS: usize = 128;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(2);

/// What is answered, where, and what the workload is asked.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Where the kubelet's probes are answered: /ready, /live and those of --probes; default: nowhere
    #[arg(long, value_name = "ADDRESS", env = "MESH_PROBE_LISTEN")]
    pub probe_listen: Option<SocketAddr>,

    /// The probes of the workload's containers, as `meshctl inject` and the injector write them; default: none
    #[arg(long, value_name = "JSON", env = "MESH_PROBES", value_parser = probe::parse, default_value = "{}", hide_default_value = true)]
    pub probes: Probes,

    /// Where the workload is asked: its own address, as the kubelet would
    #[arg(long, value_name = "IP", env = "MESH_POD_IP", default_value = "127.0.0.1")]
    pub pod_ip: IpAddr,
}

type Answer = Response<Full<Bytes>>;

/// Answers probes.
pub struct Prober {
    admin: Arc<Admin>,
    /// By path.
    asks: HashMap<String, Ask>,
}

impl Prober {
    /// One that says of itself what `admin` says, and performs these probes.
    pub fn new(probing: &Probing, admin: Arc<Admin>) -> Self {
        let asks = probing.probes.iter().map(|(key, probe)| {
            let ask = Ask::new(probe.clone(), probing.pod_ip);
            (probe::path(key), ask)
        });
        Self {
            admin,
            asks: asks.collect(),
        }
    }

    /// Answers until the process ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut recent = Recent::new(MAX_CONNECTIONS);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    recent.push(tokio::spawn(Arc::clone(&self).connection(stream)).abort_handle());
                }
                Err(error) => {
                    tracing::warn!("probes: a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let prober = Arc::clone(&self);
            async move { Ok::<_, Infallible>(prober.answer(&request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .keep_alive(false)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = served.await {
            tracing::debug!("probes: {error}");
        }
    }

    /// Answers a request; its headers and its body are not looked at.
    async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        let ask = self.asks.get(path);
        match (path, request.method(), ask) {
            ("/ready" | "/live", &Method::GET, _) => match self.admin.not_ready() {
                Some(reason) if path == "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, reason),
                _ => text(StatusCode::OK, "ok"),
            },
            (_, &Method::GET, Some(ask)) => match ask.outcome().await {
                Ok(()) => text(StatusCode::OK, "ok"),
                Err(failed) => text(failed.status, &failed.reason),
            },
            ("/ready" | "/live", _, _) | (_, _, Some(_)) => {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET alone");
                answer
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET"));
                answer
            }
            (_, _, None) => text(StatusCode::NOT_FOUND, "there is no such probe"),
        }
    }
}

fn text(status: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *answer.status_mut() = status;
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, media);
    answer
}

/// The socket that probes come to. `[::]` takes IPv4 too, and is `0.0.0.0` on a machine without IPv6. A proxy that is about
/// to give way may have one there as well.
///
/// # Errors
/// When the address can't be used.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match socket(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            socket(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        other => other,
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(MAX_CONNECTIONS as i32)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests;
