//! Acceptance: a 200 MB V2 binary tensor and a 64 MB OpenAI body with `model` first pass with proxy memory growing by
//! less than 32 MB; with `model` last, a body within the read-ahead bound is routed by it, and one beyond it gets the
//! documented outcome.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use mesh_e2e::client::{Answer, Http1, Http2, full, long, request};
use mesh_e2e::documents::{backend, caller, object, route, routed, service, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::{free_port, local};
use mesh_e2e::server::Server;
use serde_json::{Value, json};
use tokio::sync::watch;

const MIB: usize = 1 << 20;
/// What a proxy may grow by.
const GROWTH: u64 = 32 << 20;
const CHAT: &str = "/v1/chat/completions";

/// A caller, a V2 server behind a sidecar of its own, and an OpenAI service that is routed by model.
struct Bench {
    mesh: Mesh,
    tensors: Server,
    v2: SocketAddr,
    chat: SocketAddr,
    _chats: [Server; 2],
}

impl Bench {
    async fn start() -> Result<Self> {
        let (v2, openai) = ("mesh.dev/open-inference", "mesh.dev/openai");
        let tensors = Server::start("tensors").await?;
        let chats = [Server::start("llama").await?, Server::start("rest").await?];
        let ports = [free_port()?, free_port()?];
        let mut documents = vec![
            service("tensors", v2),
            workload("tensors", "tensors", tensors.port(), free_port()?, v2),
            routed("chat", openai),
            route(
                "chat",
                &json!([
                    {"matches": [{"model": "llama"}], "split": {"backends": [backend("llama", 1)]}},
                    {"split": {"backends": [backend("rest", 1)]}},
                ]),
            ),
            caller("client", &[(ports[0], "tensors"), (ports[1], "chat")]),
        ];
        for server in &chats {
            documents.push(service(server.name(), openai));
            documents.push(workload(
                server.name(),
                server.name(),
                server.port(),
                free_port()?,
                openai,
            ));
        }
        Ok(Self {
            mesh: Mesh::start(&documents).await?,
            tensors,
            v2: local(ports[0]),
            chat: local(ports[1]),
            _chats: chats,
        })
    }

    /// Runs something while the memory of two sidecars is watched: neither may grow further than allowed.
    async fn within_bounds<T>(&mut self, server: &str, run: impl Future<Output = Result<T>>) -> Result<T> {
        let ids = [
            self.mesh.proxy("client")?.process().id(),
            self.mesh.proxy(server)?.process().id(),
        ];
        let before = ids.map(resident);
        let (stop, stopped) = watch::channel(false);
        let watching = tokio::spawn(async move {
            let mut most = before;
            while !*stopped.borrow() {
                for (most, id) in most.iter_mut().zip(ids) {
                    *most = (*most).max(resident(id));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most
        });
        let done = run.await;
        stop.send_replace(true);
        let most = watching.await?;
        for (before, most) in before.into_iter().zip(most) {
            assert!(before > 0, "a sidecar has ended");
            let grown = most.saturating_sub(before);
            eprintln!("a sidecar of {} MiB grew by {} MiB", before >> 20, grown >> 20);
            assert!(grown < GROWTH, "a sidecar grew by {grown} bytes");
        }
        done
    }
}

/// The resident memory of a process, in bytes; 0: it has ended.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_through() -> Result<()> {
    let mut bench = Bench::start().await?;
    let (v2, chat) = (bench.v2, bench.chat);
    // Connections and buffers are there before memory is measured.
    Http1::connect(v2).await?.send(tensor(2)?).await?.success()?;
    Http1::connect(chat).await?.send(prompt(2)?).await?.success()?;

    let answer = bench
        .within_bounds("tensors", async {
            Http1::connect(v2).await?.send(tensor(200)?).await
        })
        .await?
        .success()?;
    let body: Value = serde_json::from_slice(&answer.body)?;
    assert_eq!(body["bytes"], json!(200 * MIB + TENSOR_HEAD.len()));

    let answer = bench
        .within_bounds("llama", async {
            Http1::connect(chat).await?.send(prompt(64)?).await
        })
        .await?
        .success()?;
    assert_eq!(answer.server(), "llama");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_no_memory() -> Result<()> {
    let mut bench = Bench::start().await?;
    let v2 = bench.v2;
    Http1::connect(v2).await?.send(tensor(2)?).await?.success()?;
    Http2::connect(v2).await?.send(tensor(2)?).await?.success()?;

    let slowly = || -> Result<_> {
        let mut request = tensor(48)?;
        request.headers_mut().insert("x-pause", "2".parse()?);
        Ok(request)
    };
    let sent = bench.tensors.bytes();
    bench
        .within_bounds("tensors", async {
            Http1::connect(v2).await?.send(slowly()?).await?.success()
        })
        .await?;
    bench
        .within_bounds("tensors", async {
            Http2::connect(v2).await?.send(slowly()?).await?.success()
        })
        .await?;
    assert_eq!(
        bench.tensors.bytes() - sent,
        2 * (48 * MIB + TENSOR_HEAD.len()) as u64
    );

    let size = 64 * MIB;
    let ask = || {
        request(Method::POST, "/v2/models/m/infer")
            .header("x-size", size)
            .body(full("{}"))
    };
    let read = async |response: http::Response<hyper::body::Incoming>| {
        let (mut body, mut total) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            total += frame?.data_ref().map_or(0, Bytes::len);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::Ok(total)
    };
    let total = bench
        .within_bounds("tensors", async {
            let mut client = Http1::connect(v2).await?;
            read(client.begin(ask()?).await?).await
        })
        .await?;
    assert_eq!(total, size);
    let total = bench
        .within_bounds("tensors", async {
            let client = Http2::connect(v2).await?;
            read(client.begin(ask()?).await?).await
        })
        .await?;
    assert_eq!(total, size);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_name_has_a_documented_outcome() -> Result<()> {
    let bench = Bench::start().await?;
    let setting = async |inference: Value| {
        let config = object("MeshConfig", "mesh", &json!({"inference": inference}));
        bench.mesh.everyone_at(bench.mesh.apply(&config).await?).await
    };
    let chat = bench.chat;

    let within = late(chat, 900 << 10).await?.success()?;
    assert_eq!(
        within.server(),
        "llama",
        "a name within the default bound is read"
    );
    let beyond = late(chat, 3 * MIB).await?.success()?;
    assert_eq!(beyond.server(), "rest", "a name beyond it is none, by default");

    setting(json!({"beyondReadAhead": "refuse"})).await?;
    let refused = late(chat, 3 * MIB).await?;
    assert_eq!(
        (refused.status, refused.mesh_error()),
        (StatusCode::PAYLOAD_TOO_LARGE, "beyond-read-ahead"),
        "{refused:?}"
    );
    assert_eq!(late(chat, 900 << 10).await?.success()?.server(), "llama");

    setting(json!({"beyondReadAhead": "refuse", "readAheadBytes": 8 * MIB})).await?;
    assert_eq!(
        late(chat, 3 * MIB).await?.success()?.server(),
        "llama",
        "the bound is a setting"
    );
    Ok(())
}

/// The JSON part of a request with a binary tensor.
const TENSOR_HEAD: &str = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 1}}]}"#;

/// A V2 request with so many MiB of binary tensor.
fn tensor(mebibytes: usize) -> Result<http::Request<mesh_e2e::client::Body>> {
    let length = TENSOR_HEAD.len() + mebibytes * MIB;
    let body = long(
        Bytes::from(TENSOR_HEAD),
        Bytes::from(vec![7; MIB]),
        mebibytes,
        Bytes::new(),
    );
    Ok(request(Method::POST, "/v2/models/m/infer")
        .header("content-type", "application/octet-stream")
        .header("inference-header-content-length", TENSOR_HEAD.len())
        .header("content-length", length)
        .body(body)?)
}

/// A chat request with so many MiB of prompt, behind its model's name.
fn prompt(mebibytes: usize) -> Result<http::Request<mesh_e2e::client::Body>> {
    let first = Bytes::from(r#"{"model": "llama", "messages": [{"role": "user", "content": ""#);
    let body = long(
        first,
        Bytes::from(vec![b'x'; MIB]),
        mebibytes,
        Bytes::from("\"}]}"),
    );
    Ok(request(Method::POST, CHAT)
        .header("content-type", "application/json")
        .body(body)?)
}

/// A chat request with so many bytes before its model's name. The mesh may answer before all of it is sent.
async fn late(address: SocketAddr, before: usize) -> Result<Answer> {
    let text = "x".repeat(before);
    let body = json!({"messages": [{"role": "user", "content": text}], "model": "llama"}).to_string();
    let at = body.find("\"model\"").context("the name is there")?;
    assert!(at > before, "the name stands last");
    let request = request(Method::POST, CHAT)
        .header("content-type", "application/json")
        .body(full(body))?;
    Http1::connect(address).await?.send(request).await
}
