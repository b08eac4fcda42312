//! What the tests of the request path share: a proxy in this process whose workers are fed from documents, and a server
//! that remembers what it saw.

#![allow(dead_code, reason = "each test uses the part it needs")]

pub(crate) mod generator;
pub(crate) mod peer;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_control::compile::compile;
use mesh_control::index::{Event, Index};
use mesh_control::view::View;
use mesh_proxy::apply::Applier;
use mesh_proxy::observe::Observe;
use mesh_proxy::observe::series::{Labels, Totals};
use mesh_proxy::shared::Shared;
use mesh_proxy::worker::Workers;
use peer::PATIENCE;
use tokio::time::{sleep, timeout};

/// What a server saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A server that remembers what it saw and answers 200 with its name, in HTTP/1.1 or HTTP/2.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let remember = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let remember = Arc::clone(&remember);
                let service = service_fn(move |request: Request<Incoming>| {
                    let remember = Arc::clone(&remember);
                    async move {
                        let (parts, body) = request.into_parts();
                        let Ok(body) = body.collect().await else {
                            return Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()));
                        };
                        let target = parts.uri.path_and_query().unwrap().to_string();
                        let body = body.to_bytes();
                        remember.lock().unwrap().push(Seen {
                            method: parts.method,
                            target,
                            headers: parts.headers,
                            body,
                        });
                        let mut response = Response::new(Full::from(name));
                        response
                            .headers_mut()
                            .insert("connection-note", "kept".parse().unwrap());
                        Ok(response)
                    }
                });
                tokio::spawn(
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .into_owned(),
                );
            }
        });
        Self { address, seen }
    }

    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A port that nobody listens on, handed out once, and below the range that outgoing connections take theirs from.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new((std::process::id().wrapping_mul(40_503) % 20_000) as u16));
    loop {
        let port = 10_240 + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A proxy of workload `ml/client` that listens for all services on one port and for `fraud` on another. Callers of the
/// workload itself come in by a third, in plaintext.
pub(crate) struct Proxy {
    pub(crate) applier: Applier,
    pub(crate) shared: Arc<Shared>,
    pub(crate) observe: Arc<Observe>,
    pub(crate) proxy_port: u16,
    pub(crate) fraud_port: u16,
    pub(crate) inbound_port: u16,
    pub(crate) documents: String,
    pub(crate) version: u64,
}

impl Proxy {
    pub(crate) fn start(documents: &str) -> Self {
        Self::start_before(([127, 0, 0, 1], 9).into(), "http", documents)
    }

    /// As [`start`](Self::start), with this server as the workload's own process.
    pub(crate) fn start_before(workload: SocketAddr, protocol: &str, documents: &str) -> Self {
        let (proxy_port, fraud_port, inbound_port) = (free_port(), free_port(), free_port());
        let port = workload.port();
        let documents = format!(
            "apiVersion: mesh.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: mesh}}\nspec: {{mtls: permissive}}\n---\n{documents}"
        );
        let documents = format!(
            "apiVersion: mesh.dev/v1alpha1\nkind: Workload\nmetadata: {{name: client, namespace: ml}}\n\
             spec: {{serviceAccount: client, ports: [{{name: http, port: {port}, listen: {inbound_port}, appProtocol: {protocol}}}], outbound: {{proxyPort: {proxy_port}, localPorts: [{{listen: {fraud_port}, service: fraud, port: http}}]}}}}\n---\n{documents}"
        );
        let shared = Arc::new(Shared::default());
        let (observe, _) = Observe::new("ml/client".parse().unwrap(), Box::new(std::io::sink()));
        let workers = Workers::start(&shared, &observe, 2).unwrap();
        let applier = Applier::new(Arc::clone(&shared), workers, std::collections::HashMap::new());
        let mut proxy = Self {
            applier,
            shared,
            observe,
            proxy_port,
            fraud_port,
            inbound_port,
            documents,
            version: 0,
        };
        proxy.apply();
        proxy
    }

    /// What is counted once so many requests, or more, are over.
    pub(crate) async fn counted(&self, requests: u64) -> Vec<(Labels, Totals)> {
        let over = async {
            loop {
                let all = self.observe.series().read();
                if all.iter().map(|(_, totals)| totals.requests()).sum::<u64>() >= requests {
                    return all;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, over).await.unwrap()
    }

    pub(crate) fn apply(&mut self) {
        self.version += 1;
        let mut index = Index::new("mesh.local".parse().unwrap());
        index.apply([Event::Text("mesh.yaml".into(), self.documents.clone())]);
        assert_eq!(index.problems(), []);
        let view = compile(&index, &View::empty(index.trust_domain())).0;
        let version = mesh_api::snapshot::Version(self.version);
        let snapshot = view
            .snapshot(
                &"ml/client".parse().unwrap(),
                version,
                &std::collections::BTreeSet::new(),
            )
            .unwrap();
        self.applier.apply(Arc::new(snapshot)).unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        send(self.fraud_port, request).await
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn mesh_error(&self) -> &str {
        self.headers
            .get("mesh-error")
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) async fn send(port: u16, request: Request<Full<Bytes>>) -> Answer {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let io = TokioIo::new(stream);
    let response = if request.version() == Version::HTTP_2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

pub(crate) fn post(target: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(target)
        .header("host", "whatever")
        .body(Full::new(body.into()))
        .unwrap()
}

pub(crate) fn service(name: &str, protocol: &str, endpoints: &[SocketAddr]) -> String {
    let external: Vec<_> = endpoints
        .iter()
        .map(|at| format!("{{port: http, address: \"{at}\"}}"))
        .collect();
    format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: ml}}\n\
         spec: {{ports: [{{name: http, port: 80, appProtocol: {protocol}}}], external: [{}]}}\n---\n",
        external.join(", ")
    )
}

pub(crate) fn route(rules: &str) -> String {
    format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: ModelRoute\nmetadata: {{name: fraud, namespace: ml}}\n\
         spec: {{service: fraud, rules: [{rules}]}}\n---\n"
    )
}
