//! How proxies come and go: draining waits for streams in flight, and a proxy that starts needs no more than its state.

use anyhow::{Context as _, Result};
use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt as _;
use mesh_e2e::canary::{Canary, INFER, TENSOR};
use mesh_e2e::client::{Http1, Http2, full, request};
use mesh_e2e::wait;
use rustix::process::Signal;

/// `ModelInferRequest { model_name: "fraud" }`.
const MESSAGE: &[u8] = b"\x0a\x05fraud";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_told_to_end_finishes_its_streams() -> Result<()> {
    for told_by in ["SIGTERM", "POST /drain"] {
        let mut mesh = Canary::start(2, [100, 0]).await?;
        let address = mesh.caller(0)?;
        let grpc = Http2::connect(address).await?;
        let mut call = grpc.open(STREAM, MESSAGE).await?;
        let mut client = Http1::connect(address).await?;
        let events = request(Method::POST, "/v2/models/fraud/generate_stream")
            .header("x-stream", "40,25")
            .body(full("{}"))?;
        let mut events = client.begin(events).await?.into_body();
        let mut received = BytesMut::new();
        events.frame().await.context("an event")??;

        // First the server's sidecar, then the caller's: both carry both streams.
        for name in ["stable", "caller-0"] {
            let proxy = mesh.mesh.proxy(name)?;
            match told_by {
                "SIGTERM" => proxy.process().signal(Signal::TERM),
                _ => assert!(proxy.drain().await?.status.is_success()),
            }
        }
        wait::until("listeners that take no more", async || {
            Ok(Http1::connect(address).await.is_err().then_some(()))
        })
        .await?;
        for _ in 0..10 {
            call.exchange(MESSAGE)
                .await
                .with_context(|| format!("a call, after {told_by}"))?;
        }
        while let Some(frame) = events.frame().await {
            let frame = frame.with_context(|| format!("events, after {told_by}"))?;
            received.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        assert!(
            received.ends_with(b"data: [DONE]\n\n"),
            "the stream ends with its last event"
        );
        call.finish().await?;
        drop((grpc, client));
        for name in ["stable", "caller-0"] {
            let ended = mesh.mesh.proxy(name)?.process().ended().await?;
            assert!(ended.success(), "{name} ends well after {told_by}: {ended}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_needs_its_token_once_and_the_control_plane_never_again() -> Result<()> {
    let mut mesh = Canary::start(1, [100, 0]).await?;
    for name in ["caller-0", "stable"] {
        mesh.mesh.proxy(name)?.saved().await?;
    }
    mesh.mesh.kill_control()?;
    for name in ["caller-0", "stable"] {
        // The token was used up by the first start.
        mesh.mesh.proxy(name)?.restart().await?;
    }
    let mut client = Http1::connect(mesh.caller(0)?).await?;
    client
        .send(request(Method::POST, INFER).body(full(TENSOR))?)
        .await?
        .success()?;

    mesh.mesh.start_control().await?;
    mesh.shift(0, 100).await?;
    let answer = client
        .send(request(Method::POST, INFER).body(full(TENSOR))?)
        .await?
        .success()?;
    assert_eq!(
        answer.server(),
        "canary",
        "the control plane that comes back is followed again"
    );
    Ok(())
}
