//! Heads: too large, too slow, and such that two readers could disagree where the next one begins.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;

use crate::frames::{Client, END_HEADERS, END_STREAM, HEADERS, head};
use crate::scene::{IDLE, LIMIT, Raw, Scene, exchange};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_so_many_bytes_and_fields() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    let listeners = scene.listeners();
    let fields = |count: usize| -> String { (0..count).map(|n| format!("x-{n}: 1\r\n")).collect() };
    let bytes = |length: usize| format!("x: {}\r\n", "y".repeat(length));
    for (what, more, status) in [
        // Two more are Host and Connection; a caller's sidecar says who calls in a third.
        ("fields, as many as may be", fields(97), "200"),
        ("fields, too many", fields(99), "431"),
        ("fields, a thousand", fields(1_000), "431"),
        ("bytes, as many as may be", bytes(63 << 10), "200"),
        ("bytes, too many", bytes(64 << 10), "431"),
        ("bytes, a megabyte", bytes(1 << 20), "431"),
    ] {
        for (sidecar, listener) in listeners {
            let request = format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{more}\r\n");
            let answer = exchange(listener, request.as_bytes()).await?;
            // Who is told off for a megabyte may be closed on before it hears why.
            let cut_short = answer.is_empty() && more.len() > 500_000;
            let seen: String = answer.chars().take(300).collect();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")) || cut_short,
                "{what} at {sidecar}: {seen}"
            );
        }
    }
    assert!(scene.cut("client", "head-too-large").await? >= 4);

    let many: Vec<(String, String)> = (0..101).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut client = Client::connect(scene.outbound, &[]).await?;
    client
        .send(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", &many))
        .await?;
    let answer = client.next_of(HEADERS).await?;
    let answer = String::from_utf8_lossy(&answer.payload).into_owned();
    // Either form of a literal: with or without Huffman's code, the status is one of no table.
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!(
        scene
            .metrics("client")
            .await?
            .sum("mesh_requests_total", &[("reason", "head-too-large")]),
        1.0
    );
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_comes_in_time_and_an_idle_connection_has_its_own() -> Result<()> {
    const SLOW: usize = 100;
    let mut scene = Scene::start(&[]).await?;
    let listeners = scene.listeners();
    scene
        .under(async |scene| {
            for (sidecar, listener) in listeners {
                let before = scene.held(sidecar)?;
                let began = Instant::now();
                // A byte now and then does not help: the whole head is due.
                let slow = (0..SLOW).map(|number| async move {
                    let mut raw = Raw::connect(listener).await?;
                    if number % 2 == 0 {
                        raw.send(b"GET / HTTP/1.1\r\nHost: web\r\n").await?;
                    } else {
                        raw.send(
                            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x20\x01\0\0\0\0\x01",
                        )
                        .await?;
                    }
                    while raw.send(b"x").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    raw.until_closed().await
                });
                try_join_all(slow).await?;
                assert!(began.elapsed() >= LIMIT, "no sooner than the limit");
                scene.until_cut(sidecar, "slow-head", SLOW as u64).await?;
                let after = scene.held(sidecar)?;
                assert!(after.bytes < before.bytes + (20 << 20), "{before:?} {after:?}");
                assert!(
                    after.descriptors <= before.descriptors + 20,
                    "{before:?} {after:?}"
                );
            }
            Ok(())
        })
        .await?;

    // Between two requests there is more time than for a head, and then the connection is closed, without being blamed.
    let mut raw = Raw::connect(scene.outbound).await?;
    let request = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
    raw.send(request).await?;
    raw.head().await?;
    tokio::time::sleep(LIMIT + Duration::from_secs(2)).await;
    raw.send(request).await?;
    let answer = raw
        .head()
        .await
        .context("an idle connection has more time than a head")?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let idle = Instant::now();
    assert!(raw.until_closed().await?.is_empty());
    assert!(idle.elapsed() >= IDLE - Duration::from_secs(1));
    scene.until_cut("client", "idle", 1).await?;
    scene.check()
}

/// What `bad_input/wire.rs` does not try yet: every request, good or bad, is one request to the server, or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_smuggles() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: web\r\nx-id: hidden\r\n\r\n";
    let post = |head: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{head}\r\n\r\n{body}").into_bytes()
    };
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    for (what, bytes) in [
        ("a vertical tab before chunked", post("Transfer-Encoding: \x0bchunked", hidden)),
        ("a tab behind the name", post("Transfer-Encoding\t: chunked", hidden)),
        ("an underscore in the name", post("Transfer_Encoding: chunked\r\nContent-Length: 5", hidden)),
        ("chunked in quotes", post("Transfer-Encoding: \"chunked\"", hidden)),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked", hidden)),
        ("chunked in two fields", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", hidden)),
        ("chunked behind identity", post("Transfer-Encoding: identity, chunked", hidden)),
        ("an empty encoding", post("Transfer-Encoding:\r\nContent-Length: 5", hidden)),
        ("chunked and a length behind a folded line", post("Content-Length: 5\r\nX: y\r\n Transfer-Encoding: chunked", hidden)),
        ("a folded length", post("Content-Length:\r\n 5", hidden)),
        ("a length with a space in it", post("Content-Length: 1 2", hidden)),
        ("a length with a zero byte", post("Content-Length: 5\0", hidden)),
        ("an empty length", post("Content-Length:", hidden)),
        ("the same length twice in one", post("Content-Length: 5, 5", "12345")),
        ("a length with leading zeros", post("Content-Length: 0000000000000000000005", "12345")),
        ("chunks in HTTP/1.0, with a length", format!("POST / HTTP/1.0\r\nHost: web\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{hidden}").into_bytes()),
        ("a bare return between fields", b"GET / HTTP/1.1\r\nHost: web\rX: y\r\n\r\n".to_vec()),
        ("a bare line feed before chunked", b"POST / HTTP/1.1\r\nHost: web\r\nX: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nConnection: close\r\n\r\n0\r\n\r\n".to_vec()),
        ("a space before the first field", b"GET / HTTP/1.1\r\n Host: web\r\nHost: web\r\n\r\n".to_vec()),
        ("a body of a GET", [b"GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 49\r\nConnection: close\r\n\r\n".as_slice(), b"GET /hidden HTTP/1.1\r\nHost: web\r\nx-id: hidden\r\n\r\n"].concat()),
        ("a bare line feed behind a chunk's size", chunked("5\nhello\r\n0\r\n\r\n")),
        ("a bare line feed behind a chunk", chunked("5\r\nhello\n0\r\n\r\n")),
        ("a bare return in a chunk's size", chunked("5\rhello\r\n0\r\n\r\n")),
        ("a space before a chunk's size", chunked(" 5\r\nhello\r\n0\r\n\r\n")),
        ("an underscore in a chunk's size", chunked("0_5\r\nhello\r\n0\r\n\r\n")),
        ("an empty chunk's size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("an endless chunk extension", chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000)))),
        ("endless trailers", chunked(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(100_000)))),
        ("a thousand trailers", chunked(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(1_000)))),
        ("a length in the trailers", chunked("5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n")),
        ("a request in the trailers", chunked("0\r\nGET /hidden HTTP/1.1\r\nHost: web\r\nx-id: hidden\r\n\r\n")),
    ] {
        for (sidecar, listener) in scene.listeners() {
            let answer = exchange(listener, &bytes).await.with_context(|| what.to_owned())?;
            let good = answer.matches("HTTP/1.1 200").count() as u64;
            assert!(
                good <= 1 && !answer.contains("/hidden"),
                "{what} at {sidecar}: {answer:.500}"
            );
        }
    }
    assert_eq!(
        scene.server.times_seen("hidden"),
        0,
        "a request in a request is none"
    );
    scene.check()
}
