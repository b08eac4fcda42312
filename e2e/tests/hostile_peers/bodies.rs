//! Bodies: that do not come, or are not taken; servers that answer early, late, wrong or with half an answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use mesh_e2e::client::{Http2, full, get, request};
use mesh_e2e::server::Server;

use crate::frames::{CANCEL, Client, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, head};
use crate::scene::{LIMIT, Raw, Scene, exchange};
use crate::servers::Stub;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_nothing_is_answered_408() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    // A gRPC call may be silent for as long as it likes.
    let client = Http2::connect(scene.outbound).await?;
    let mut call = client.open("/a.B/C", b"hello").await?;
    let listeners = scene.listeners();
    scene
        .under(async |_| {
            for (sidecar, listener) in listeners {
                for (what, head) in [
                    ("a length", "Content-Length: 100\r\n\r\nx"),
                    ("nothing of a length", "Content-Length: 100\r\n\r\n"),
                    ("chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
                    (
                        "chunks in time, but one",
                        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                    ),
                    (
                        "a body after 100",
                        "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
                    ),
                ] {
                    let began = Instant::now();
                    let slow = (0..10).map(|_| async move {
                        exchange(
                            listener,
                            format!("POST / HTTP/1.1\r\nHost: web\r\n{head}").as_bytes(),
                        )
                        .await
                    });
                    for answer in try_join_all(slow).await? {
                        assert!(
                            answer.contains("HTTP/1.1 408") && answer.contains("mesh-error: slow-body"),
                            "{what} at {sidecar}: {answer}"
                        );
                    }
                    assert!(
                        began.elapsed() >= LIMIT,
                        "{what} at {sidecar}: no sooner than the limit"
                    );
                }
            }
            Ok(())
        })
        .await?;
    call.exchange(b"still there").await.context("a silent call")?;
    call.finish().await?;
    for sidecar in ["client", "web"] {
        let metrics = scene.metrics(sidecar).await?;
        assert!(metrics.sum("mesh_requests_total", &[("reason", "slow-body")]) >= 50.0);
        assert_eq!(metrics.sum("mesh_in_flight", &[]), 0.0, "{sidecar}");
    }
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_is_cut_off_and_holds_little() -> Result<()> {
    const READERS: usize = 40;
    let mut scene = Scene::start(&[]).await?;
    let outbound = scene.outbound;
    let before = scene.held("client")?;
    scene
        .under(async |scene| {
            let mut readers = Vec::new();
            for _ in 0..READERS {
                let mut raw = Raw::connect(outbound).await?;
                raw.send(b"GET / HTTP/1.1\r\nHost: web\r\nx-size: 100000000\r\n\r\n")
                    .await?;
                readers.push(raw);
            }
            scene.until_cut("client", "slow-reader", READERS as u64).await?;
            let held = scene.held("client")?;
            assert!(
                held.bytes < before.bytes + READERS as u64 * (3 << 20),
                "{before:?} {held:?}"
            );
            Ok(())
        })
        .await?;
    scene.until_open("client", 2).await?;

    // One stream of a connection whose others are read.
    let no_window = [0, 4, 0, 0, 0, 0];
    let mut client = Client::connect(outbound, &no_window).await?;
    let began = Instant::now();
    client
        .send(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &head("GET", &[("x-size", "1000000")]),
        )
        .await?;
    while began.elapsed() < LIMIT / 2 {
        client.ping().await?.context("the connection is closed")?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let reset = client.next_of(RST_STREAM).await?;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    assert!(began.elapsed() >= LIMIT);
    let good = head("GET", &[]);
    client.send(HEADERS, END_HEADERS | END_STREAM, 3, &good).await?;
    client.send(8, 0, 3, &1_000_u32.to_be_bytes()).await?;
    let data = client.next_of(DATA).await?;
    assert_eq!(data.stream, 3, "the connection lives on");
    scene
        .until_cut("client", "slow-reader", READERS as u64 + 1)
        .await?;

    // A client that sends and never reads: what is answered to its PINGs fills no more than the sockets.
    let before = scene.held("client")?;
    let mut raw = Client::connect(outbound, &[]).await?.raw;
    let pings = crate::frames::frame(PING, 0, 0, b"whatever").repeat(1_000);
    while raw.send(&pings).await.is_ok() {}
    let after = scene.held("client")?;
    assert!(after.bytes < before.bytes + (5 << 20), "{before:?} {after:?}");
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stand_still_hold_up_nobody_else() -> Result<()> {
    /// Fewer than the streams that share a connection to a server, with many times what it may have on its way.
    const READERS: u32 = 60;
    let mut scene = Scene::start(&["--stall-timeout", "1h"]).await?;
    for (sidecar, listener) in scene.listeners() {
        let no_window = [0, 4, 0, 0, 0, 0];
        let mut still = Client::connect(listener, &no_window).await?;
        for reader in 0..READERS {
            let head = head("GET", &[("x-size", "10000000")]);
            still
                .send(HEADERS, END_HEADERS | END_STREAM, reader * 2 + 1, &head)
                .await?;
        }
        for _ in 0..READERS {
            still.next_of(HEADERS).await?;
        }
        // As much has come as comes for them once what they hold grows no more.
        let mut held = 0;
        mesh_e2e::wait::until("all windows to be full", async || {
            let before = std::mem::replace(&mut held, scene.held("client")?.bytes + scene.held("web")?.bytes);
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok((held <= before + (1 << 20)).then_some(()))
        })
        .await?;
        let others = async {
            let client = Http2::connect(listener).await?;
            for _ in 0..20 {
                let wanted = request(http::Method::GET, "/")
                    .header("x-size", "1000000")
                    .body(full(""))?;
                let answer = client.send(wanted).await?.success()?;
                anyhow::ensure!(answer.body.len() == 1_000_000);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), others)
            .await
            .with_context(|| format!("others wait at {sidecar} for readers that stand still"))??;
        eprintln!("{sidecar}: {held} bytes held for {READERS} readers");
        drop(still);
        scene.until_open(sidecar, 3).await?;
    }
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_becomes_none() -> Result<()> {
    let stub = Stub::start().await?;
    let mut scene = Scene::before(Server::start("unused").await?, stub.port(), &[]).await?;
    let ok = "HTTP/1.1 200 OK\r\n";
    let large = format!("{ok}x: {}\r\ncontent-length: 0\r\n\r\n", "y".repeat(100_000));
    let many = format!("{ok}{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(200));
    let informed = format!(
        "{}{ok}content-length: 2\r\n\r\nok",
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000)
    );
    for (what, answer, status, reason) in [
        ("no HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n", 502, "bad-response"),
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n", 502, "bad-response"),
        ("nothing", "", 502, "reset"),
        ("half a head", "HTTP/1.1 200 OK\r\nx: y", 502, "reset"),
        (
            "a status that is none",
            "HTTP/1.1 2000 OK\r\n\r\n",
            502,
            "bad-response",
        ),
        (
            "a version that is none",
            "HTTP/7.3 200 OK\r\n\r\n",
            502,
            "bad-response",
        ),
        (
            "a field that is split",
            "HTTP/1.1 200 OK\r\nx: y\rset-cookie: z\r\ncontent-length: 0\r\n\r\n",
            502,
            "bad-response",
        ),
        (
            "a zero byte in a field",
            "HTTP/1.1 200 OK\r\nx: y\0z\r\ncontent-length: 0\r\n\r\n",
            502,
            "bad-response",
        ),
        (
            "a folded field",
            "HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n",
            502,
            "bad-response",
        ),
        (
            "a space before the colon",
            "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n",
            502,
            "bad-response",
        ),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            502,
            "bad-response",
        ),
        (
            "a negative length",
            "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
            502,
            "bad-response",
        ),
        ("a head of 100 KB", &large, 502, "bad-response"),
        ("200 fields", &many, 502, "bad-response"),
        ("a thousand times 100", &informed, 200, ""),
        (
            "an answer and another one",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
            200,
            "",
        ),
        (
            "mesh-error, from whom it is not believed",
            "HTTP/1.1 200 OK\r\nmesh-error: denied\r\ncontent-length: 2\r\n\r\nok",
            200,
            "",
        ),
    ] {
        stub.answers(answer.as_bytes());
        let got = get(scene.outbound, "/").await.with_context(|| what.to_owned())?;
        assert_eq!(
            (got.status.as_u16(), got.mesh_error()),
            (status, reason),
            "{what}: {got:?}"
        );
        assert!(!got.text().contains("bad") || status == 502, "{what}: {got:?}");
        assert!(got.header("set-cookie").is_empty(), "{what}: {got:?}");
    }
    // What breaks off in the middle is not passed on as if it were whole.
    for (what, answer) in [
        (
            "a body too short",
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello",
        ),
        (
            "chunks that end",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "chunks that are none",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        ),
        (
            "a chunk beyond all sizes",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\nhello",
        ),
    ] {
        stub.answers(answer.as_bytes());
        let got = get(scene.outbound, "/").await;
        let broken = got.as_ref().is_err() || got.as_ref().is_ok_and(|got| got.status.as_u16() == 502);
        assert!(broken, "{what}: {got:?}");
    }
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_arrives_and_half_a_connection_is_none() -> Result<()> {
    let stub = Stub::start().await?;
    let mut scene = Scene::before(Server::start("unused").await?, stub.port(), &[]).await?;
    // The server answers as soon as it has the head, and closes; the client goes on sending.
    stub.answers(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
    let mut raw = Raw::connect(scene.outbound).await?;
    raw.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n")
        .await?;
    let answer = raw.head().await?;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.ends_with("big"),
        "{answer}"
    );
    while raw.send(&[b'x'; 64 << 10]).await.is_ok() {}
    // A client that closes its half has left: the request ends, and nothing of it stays.
    stub.answers_never();
    let mut raw = Raw::connect(scene.outbound).await?;
    raw.send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await?;
    stub.asked().await;
    tokio::io::AsyncWriteExt::shutdown(&mut raw.0).await?;
    assert!(raw.until_closed().await?.is_empty());
    for sidecar in ["client", "web"] {
        mesh_e2e::wait::until("nothing in flight", async || {
            let open = scene.metrics(sidecar).await?.sum("mesh_in_flight", &[]);
            Ok((open == 0.0).then_some(()))
        })
        .await?;
    }
    scene.check()
}
