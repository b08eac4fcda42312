//! Handshakes: that do not begin, do not go on, or are none, while honest sidecars make theirs.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::scene::{LIMIT, Raw, Scene};

/// The beginning of a ClientHello of 512 bytes (RFC 8446, §4.1.2).
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_comes_in_time() -> Result<()> {
    const SLOW: usize = 150;
    let mut scene = Scene::start(&[]).await?;
    let inbound = scene.inbound;
    let before = scene.held("web")?;
    scene
        .under(async |scene| {
            let began = Instant::now();
            let slow = (0..SLOW).map(|number| async move {
                let mut raw = Raw::connect(inbound).await?;
                if number % 3 > 0 {
                    raw.send(HELLO).await?;
                }
                while number % 3 == 2 && raw.send(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                raw.until_closed().await
            });
            try_join_all(slow).await?;
            assert!(began.elapsed() >= LIMIT, "no sooner than the limit");
            scene.until_cut("web", "slow-head", SLOW as u64).await?;
            Ok(())
        })
        .await?;
    scene.until_open("web", 2).await?;
    let after = scene.held("web")?;
    assert!(after.bytes < before.bytes + (20 << 20), "{before:?} {after:?}");
    assert!(
        after.descriptors <= before.descriptors + 5,
        "{before:?} {after:?}"
    );
    let metrics = scene.metrics("web").await?;
    assert_eq!(
        metrics.sum("mesh_tls_handshakes_total", &[("result", "timeout")]),
        SLOW as f64 * 2.0 / 3.0
    );
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_handshakes_leaves_others_time() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    let inbound = scene.inbound;
    let before = scene.held("web")?;
    scene
        .under(async |_| {
            for _ in 0..20 {
                let storm = (0..50).map(|number| async move {
                    let mut raw = Raw::connect(inbound).await?;
                    let mut bytes = HELLO.to_vec();
                    bytes.resize(HELLO.len() + 506, number);
                    raw.send(&bytes).await?;
                    raw.until_closed().await
                });
                try_join_all(storm).await?;
            }
            Ok(())
        })
        .await?;
    let after = scene.held("web")?;
    assert!(after.bytes < before.bytes + (20 << 20), "{before:?} {after:?}");
    scene.check()
}
