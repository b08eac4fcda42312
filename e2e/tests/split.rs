//! Acceptance: weights 95/5 over 20,000 requests give shares within 3σ of binomial; the same 1,000 sticky keys land on
//! the same version through three different proxies; raising 5 → 25 → 50 moves no key from canary back to stable.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use http::Method;
use mesh_api::document::ModelRouteSpec;
use mesh_api::route::{Route, Split};
use mesh_api::split::{Salt, place};
use mesh_e2e::canary::{self, Canary, INFER, KEY, TENSOR};
use mesh_e2e::client::{Http1, full, request};
use tokio::task::JoinSet;

/// How many connections the requests are spread over.
const CLIENTS: usize = 16;
const KEYS: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_follow_the_weights() -> Result<()> {
    const REQUESTS: u64 = 20_000;
    let mesh = Canary::start(1, [95, 5]).await?;
    let mut clients = JoinSet::new();
    let address = mesh.caller(0)?;
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Http1::connect(address).await?;
            for _ in 0..REQUESTS / CLIENTS as u64 {
                client
                    .send(request(Method::POST, INFER).body(full(TENSOR))?)
                    .await?
                    .success()?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let (stable, canary) = (mesh.stable.requests(), mesh.canary.requests());
    assert_eq!(stable + canary, REQUESTS, "each request is sent once");
    let n = REQUESTS as f64;
    let sigma = (n * 0.05 * 0.95).sqrt();
    let off = (canary as f64 - n * 0.05).abs() / sigma;
    assert!(
        off < 3.0,
        "{canary} of {REQUESTS} requests went to the canary: {off:.2} sigma off 5 %"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_stay_where_they_are() -> Result<()> {
    let mesh = Canary::start(3, [95, 5]).await?;
    let mut before = BTreeSet::new();
    for weights in [[95, 5], [75, 25], [50, 50]] {
        mesh.shift(weights[0], weights[1]).await?;
        let first = on_canary(mesh.caller(0)?).await?;
        for caller in 1..3 {
            assert_eq!(
                on_canary(mesh.caller(caller)?).await?,
                first,
                "caller {caller} at {weights:?}"
            );
        }
        assert!(
            first.is_superset(&before),
            "a key moved back from the canary at {weights:?}"
        );
        assert_eq!(first, on_canary_offline(weights)?, "offline at {weights:?}");
        before = first;
    }
    Ok(())
}

/// The keys whose requests the canary answers through this sidecar.
async fn on_canary(address: SocketAddr) -> Result<BTreeSet<usize>> {
    let mut client = Http1::connect(address).await?;
    let mut found = BTreeSet::new();
    for key in 0..KEYS {
        let request = request(Method::POST, INFER)
            .header(KEY, format!("user-{key}"))
            .body(full(TENSOR))?;
        if client.send(request).await?.success()?.server() == "canary" {
            found.insert(key);
        }
    }
    Ok(found)
}

/// The keys that mesh-api gives to the canary, without a proxy.
fn on_canary_offline(weights: [u32; 2]) -> Result<BTreeSet<usize>> {
    let split = offline(weights)?;
    let salt = Salt::of(&"ml/fraud".parse()?);
    let canary = split
        .backends
        .iter()
        .position(|backend| backend.name.as_str() == "canary");
    let is_canary = |key: &usize| Some(place(&split, salt, format!("user-{key}").as_bytes())) == canary;
    Ok((0..KEYS).filter(is_canary).collect())
}

fn offline(weights: [u32; 2]) -> Result<Split> {
    let spec: ModelRouteSpec = serde_json::from_value(canary::split(weights)["spec"].clone())?;
    let route =
        Route::new(&"ml/fraud".parse()?, &spec).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    route.rules[0].split().cloned().context("the rule splits nothing")
}
