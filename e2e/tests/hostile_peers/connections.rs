//! Connections: too many, idle ones, ones that are reset, and a process without descriptors or ports.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use mesh_e2e::client::get;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::scene::{CONNECTIONS, Raw, Scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_makes_room_for_who_does() -> Result<()> {
    let mut scene = Scene::start(&["--head-timeout", "1h"]).await?;
    for (sidecar, listener) in scene.listeners() {
        let before = scene.held(sidecar)?;
        let silent = try_join_all((0..CONNECTIONS * 3).map(|number| async move {
            let mut raw = Raw::connect(listener).await?;
            if number % 3 == 0 {
                raw.send(b"GET / HT").await?;
            }
            anyhow::Ok(raw)
        }))
        .await?;
        for _ in 0..20 {
            get(listener, "/")
                .await?
                .success()
                .with_context(|| format!("at {sidecar}"))?;
        }
        let held = scene.held(sidecar)?;
        assert!(
            held.descriptors <= before.descriptors + CONNECTIONS + CONNECTIONS / 10,
            "{before:?} {held:?}"
        );
        let evicted = scene.cut(sidecar, "evicted").await?;
        assert!(evicted >= CONNECTIONS as u64 * 2 - 50, "{evicted} at {sidecar}");
        drop(silent);
        scene.until_open(sidecar, 2).await?;
    }
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_are_busy_more_are_refused_and_the_busy_go_on() -> Result<()> {
    let mut scene = Scene::start(&["--max-connections", "50"]).await?;
    let outbound = scene.outbound;
    let busy = try_join_all((0..50).map(|_| async move {
        let mut raw = Raw::connect(outbound).await?;
        raw.send(b"GET / HTTP/1.1\r\nHost: web\r\nx-stream: 100000,50\r\n\r\n")
            .await?;
        raw.head().await?;
        anyhow::Ok(raw)
    }))
    .await?;
    for _ in 0..20 {
        let refused = Raw::connect(outbound).await?.until_closed().await?;
        assert!(refused.is_empty());
    }
    assert_eq!(scene.cut("client", "too-many-connections").await?, 20);
    for mut raw in busy {
        let mut more = [0; 1];
        tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut more)
            .await
            .context("an event stream goes on")?;
    }
    scene.until_open("client", 2).await?;
    get(outbound, "/").await?.success()?;
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_leave_nothing_behind() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    let listeners = scene.listeners();
    let before = [scene.held("client")?, scene.held("web")?];
    // One for two thousand of theirs, each tenth of which costs a handshake.
    scene
        .under_serving(10, async |_| {
            for (_, listener) in listeners {
                for round in 0..200 {
                    let all = try_join_all((0..50).map(|number| async move {
                        let mut raw = Raw::connect(listener).await?;
                        raw.0.set_zero_linger()?;
                        // A request that is broken off costs a connection between the sidecars, and with it a handshake.
                        let head: &[u8] = match (round + number) % 16 {
                            0..=6 => b"",
                            7..=13 => b"GET / HT",
                            14 => b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\nx",
                            _ => b"GET / HTTP/1.1\r\nHost: web\r\nx-size: 200000\r\n\r\n",
                        };
                        raw.send(head).await?;
                        anyhow::Ok(raw)
                    }))
                    .await?;
                    drop(all);
                }
            }
            Ok(())
        })
        .await?;
    for ((sidecar, _), before) in listeners.into_iter().zip(before) {
        scene.until_open(sidecar, 3).await?;
        mesh_e2e::wait::until("the descriptors", async || {
            let held = scene.held(sidecar)?;
            let in_flight = scene.metrics(sidecar).await?.sum("mesh_in_flight", &[]);
            Ok((held.descriptors <= before.descriptors + 60 && in_flight == 0.0).then_some(()))
        })
        .await?;
        let held = scene.held(sidecar)?;
        assert!(held.bytes < before.bytes + (48 << 20), "{before:?} {held:?}");
    }
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_the_listener_waits_and_goes_on() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    let outbound = scene.outbound;
    get(outbound, "/").await?.success()?;
    let process = scene.mesh.proxy("client")?.process();
    let held = process.descriptors()? as u64;
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
    };
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let before = prlimit(pid, Resource::Nofile, limit(held + 4))?;
    let flood = try_join_all((0..40).map(|_| Raw::connect(outbound))).await?;
    scene.until_cut("client", "evicted", 1).await?;
    // It waits between two attempts, and says so now and then, not each time.
    let cpu = async |scene: &mut Scene| {
        scene
            .metrics("client")
            .await
            .map(|it| it.sum("process_cpu_seconds_total", &[]))
    };
    let began = cpu(&mut scene).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = cpu(&mut scene).await? - began;
    assert!(spent < 0.6, "{spent} s of CPU in 2 s");
    assert!(scene.cut("client", "no-descriptors").await? >= 1);
    let process = scene.mesh.proxy("client")?.process();
    let warned = process.log().matches("connections can't be taken").count();
    assert!((1..10).contains(&warned), "{warned}");
    drop(flood);
    prlimit(pid, Resource::Nofile, before)?;
    for _ in 0..20 {
        get(outbound, "/").await?.success()?;
    }
    scene.check()
}

/// In a network namespace of its own, where there are few ports.
#[test]
fn without_ports_there_is_an_answer() -> Result<()> {
    let scenario = std::thread::spawn(|| -> Result<()> {
        // SAFETY: only this thread leaves its network, and what it starts; no other shares its descriptors' table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
            .context("this test makes a network namespace, for which it must be root")?;
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        anyhow::ensure!(
            up.context("this test needs `ip` (Debian: iproute2)")?.success(),
            "ip failed"
        );
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50059")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(few_ports())
    });
    scenario
        .join()
        .map_err(|_| anyhow::anyhow!("the scenario panicked"))?
}

async fn few_ports() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    // Ports are taken by destination: those of the server's sidecar, by connections to it.
    let mut taken = Vec::new();
    while let Ok(raw) = Raw::connect(scene.inbound).await {
        taken.push(raw);
    }
    let answer = get(scene.outbound, "/").await?;
    assert_eq!(
        (answer.status.as_u16(), answer.mesh_error()),
        (503, "exhausted"),
        "{answer:?}"
    );
    drop(taken);
    mesh_e2e::wait::until("ports", async || {
        let answer = get(scene.outbound, "/").await?;
        Ok(answer.success().ok().map(|_| ()))
    })
    .await?;
    scene.check()
}
