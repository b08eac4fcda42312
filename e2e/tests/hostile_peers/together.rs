//! All of it at once against one pair: memory and descriptors stay within bounds, honest clients are served, and
//! everything comes back. And memory alone, against its own limit.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mesh_e2e::client::{Answer, get};
use mesh_e2e::server::Server;
use tokio::task::JoinSet;

use crate::frames::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, frame, head,
};
use crate::scene::{CONNECTIONS, Raw, Scene};
use crate::servers::Stub;

/// How long all of them go on.
const STORM: Duration = Duration::from_secs(10);
/// How long an attacker waits between two connections.
const PAUSE: Duration = Duration::from_millis(250);
/// How much slower honest requests may be: they share one worker with all of it, and two cores with all attackers.
const SLOWER: u32 = 100;
/// How many clients of each kind there are.
const EACH: usize = 4;
/// How much more memory a sidecar may hold meanwhile, in bytes: far more than honest load takes, far less than attackers
/// offer.
const GROWTH: u64 = 160 << 20;

/// What an attacker does with one connection, until it is closed.
#[derive(Clone, Copy, Debug)]
enum Attack {
    SlowHead,
    SlowBody,
    SlowReader,
    Silence,
    Reset,
    Garbage,
    HugeHead,
    RapidReset,
    Continuation,
    Pings,
    Settings,
    ZeroWindow,
    Streams,
    TinyData,
}

const ATTACKS: [Attack; 14] = [
    Attack::SlowHead,
    Attack::SlowBody,
    Attack::SlowReader,
    Attack::Silence,
    Attack::Reset,
    Attack::Garbage,
    Attack::HugeHead,
    Attack::RapidReset,
    Attack::Continuation,
    Attack::Pings,
    Attack::Settings,
    Attack::ZeroWindow,
    Attack::Streams,
    Attack::TinyData,
];

impl Attack {
    async fn once(self, listener: std::net::SocketAddr) -> Result<()> {
        let http1 = |bytes: &'static [u8]| async move {
            let mut raw = Raw::connect(listener).await?;
            raw.send(bytes).await?;
            anyhow::Ok(raw)
        };
        let flood = |settings: &'static [u8], opening: Vec<u8>, frames: fn(u32) -> Vec<u8>| async move {
            let mut client = Client::connect(listener, settings).await?;
            client.raw.send(&opening).await?;
            let mut number = 3;
            while number < 100_000 && client.raw.send(&frames(number)).await.is_ok() {
                number += 2;
            }
            anyhow::Ok(())
        };
        let open =
            |stream, fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, stream, &head("POST", fields));
        match self {
            Self::SlowHead => drop(
                http1(b"GET / HTTP/1.1\r\nHost: web\r\nx")
                    .await?
                    .until_closed()
                    .await?,
            ),
            Self::SlowBody => {
                drop(
                    http1(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\nx")
                        .await?
                        .until_closed()
                        .await?,
                );
            }
            Self::SlowReader => {
                let raw = http1(b"GET / HTTP/1.1\r\nHost: web\r\nx-size: 100000000\r\n\r\n").await?;
                tokio::time::sleep(Duration::from_secs(4)).await;
                drop(raw);
            }
            Self::Silence => drop(http1(b"").await?.until_closed().await?),
            Self::Reset => http1(b"GET / HTTP/1.1\r\nHost: web\r\nx-size: 1000000\r\n\r\n")
                .await?
                .0
                .set_zero_linger()?,
            Self::Garbage => drop(http1(&[0xff; 512]).await?.until_closed().await?),
            Self::HugeHead => {
                let mut raw = http1(b"GET / HTTP/1.1\r\nHost: web\r\nx: ").await?;
                while raw.send(&[b'y'; 8 << 10]).await.is_ok() {}
            }
            Self::RapidReset => {
                let pair = |n| {
                    let head = frame(HEADERS, END_HEADERS | END_STREAM, n, &head("GET", &[]));
                    [head, frame(RST_STREAM, 0, n, &[0, 0, 0, 8])].concat()
                };
                flood(&[], Vec::new(), pair).await?;
            }
            Self::Continuation => {
                flood(&[], frame(HEADERS, 0, 1, b"\x83"), |_| {
                    frame(CONTINUATION, 0, 1, b"\x84")
                })
                .await?;
            }
            Self::Pings => flood(&[], Vec::new(), |_| frame(PING, 0, 0, b"whatever")).await?,
            Self::Settings => flood(&[], Vec::new(), |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0])).await?,
            Self::ZeroWindow => {
                let mut client = Client::connect(listener, &[0, 4, 0, 0, 0, 0]).await?;
                for stream in 0..20 {
                    let head = head("GET", &[("x-size", "10000000")]);
                    client
                        .send(HEADERS, END_HEADERS | END_STREAM, stream * 2 + 1, &head)
                        .await?;
                }
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            Self::Streams => {
                let opening: Vec<u8> = (0..100).flat_map(|n| open(n * 2 + 1, &[])).collect();
                let mut client = Client::connect(listener, &[]).await?;
                client.raw.send(&opening).await?;
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            Self::TinyData => {
                flood(&[], open(1, &[("x-pause", "1000")]), |_| frame(DATA, 0, 1, b"x")).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_once_stay_within_bounds() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    for _ in 0..50 {
        get(scene.outbound, "/").await?.success()?;
    }
    let listeners = scene.listeners();
    let before = [scene.held("client")?, scene.held("web")?];
    let most = scene
        .under_within(SLOWER, async |scene| {
            let began = Instant::now();
            let mut attackers = JoinSet::new();
            for (number, attack) in ATTACKS.into_iter().cycle().take(ATTACKS.len() * EACH).enumerate() {
                let listener = listeners[number / ATTACKS.len() % 2].1;
                attackers.spawn(async move {
                    while began.elapsed() < STORM {
                        // A connection that is refused or broken is what an attacker must expect.
                        let _ = attack.once(listener).await;
                        tokio::time::sleep(PAUSE).await;
                    }
                });
            }
            let mut most = before;
            while !attackers.is_empty() {
                let done = tokio::time::timeout(Duration::from_millis(100), attackers.join_next()).await;
                if let Ok(Some(done)) = done {
                    done?;
                }
                for ((sidecar, _), most) in listeners.into_iter().zip(&mut most) {
                    let held = scene.held(sidecar)?;
                    most.bytes = most.bytes.max(held.bytes);
                    most.descriptors = most.descriptors.max(held.descriptors);
                }
            }
            Ok(most)
        })
        .await?;
    eprintln!("before {before:?}, at most {most:?}");
    for (at, (sidecar, _)) in listeners.into_iter().enumerate() {
        let (before, most) = (before[at], most[at]);
        assert!(
            most.bytes < before.bytes + GROWTH,
            "{sidecar}: {before:?} {most:?}"
        );
        assert!(
            most.descriptors < before.descriptors + CONNECTIONS * 2 + 50,
            "{sidecar}: {before:?} {most:?}"
        );
        scene.until_open(sidecar, 3).await?;
        mesh_e2e::wait::until(&format!("{sidecar} to let go"), async || {
            let held = scene.held(sidecar)?;
            let room = held.bytes < before.bytes + GROWTH / 2 && held.descriptors <= before.descriptors + 300;
            Ok(room.then_some(()))
        })
        .await?;
        let after = scene.held(sidecar)?;
        eprintln!("{sidecar} afterwards: {after:?}");
        for reason in ["slow-head", "empty-frames", "flood"] {
            assert!(scene.cut(sidecar, reason).await? > 0, "{reason} at {sidecar}");
        }
    }
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_has_a_limit() -> Result<()> {
    const LIMIT: u64 = 96 << 20;
    // A server that takes no more than it must.
    let stub = Stub::start().await?;
    stub.answers_never();
    let flags = [
        "--memory-limit",
        "100663296",
        "--body-timeout",
        "1h",
        "--stall-timeout",
        "1h",
    ];
    let mut scene = Scene::before(Server::start("unused").await?, stub.port(), &flags).await?;
    let listener = scene.inbound;
    // Each sends as much as it is allowed to: 1 MiB is each stream's window, 8 MiB the connection's.
    let mut uploads = JoinSet::new();
    for _ in 0..40 {
        uploads.spawn(async move {
            let mut client = Client::connect(listener, &[]).await?;
            // Windows are what the sidecar says once that is acknowledged.
            client.next_of(SETTINGS).await?;
            client.send(SETTINGS, 1, 0, &[]).await?;
            client.ping().await?.context("no round trip")?;
            for stream in 0..8_u32 {
                let head = head("POST", &[]);
                client.send(HEADERS, END_HEADERS, stream * 2 + 1, &head).await?;
            }
            for piece in 0..8 * 64_u32 {
                client.send(DATA, 0, piece % 8 * 2 + 1, &[0; 16_000]).await?;
            }
            client.goodbye().await
        });
    }
    let mut most = 0;
    let mut cut = 0;
    let began = Instant::now();
    while cut == 0 || began.elapsed() < Duration::from_secs(5) {
        most = most.max(scene.held("web")?.bytes);
        cut = scene.cut("web", "memory").await?;
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(40),
            "{most} bytes, and nobody was cut off"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("at most {most} bytes, {cut} connections cut off");
    assert!(most < LIMIT + (64 << 20), "{most}");
    uploads.abort_all();
    while uploads.join_next().await.is_some() {}
    stub.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    mesh_e2e::wait::until("room", async || {
        Ok(get(listener, "/")
            .await
            .and_then(Answer::success)
            .ok()
            .map(|_| ()))
    })
    .await
    .context("honest clients are served again")?;
    scene.check()
}
