//! HTTP/2 connections that make work and ask for nothing: each is told to calm down, or what it broke.

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::frames::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, HEADERS, PING, PRIORITY, PROTOCOL_ERROR, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
    head, number,
};
use crate::scene::Scene;

/// What one client does: so many times these frames, each time with another stream, before it looks for an answer.
struct Flood {
    what: &'static str,
    /// Sent first, as a stream of its own.
    opening: Vec<u8>,
    frames: fn(u32) -> Vec<u8>,
    times: u32,
    /// Whether it waits for a round trip after each time, as one does who stays below what is seen at once.
    paced: bool,
    /// What GOAWAY says.
    code: u32,
    /// What is counted.
    reason: &'static str,
}

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head("POST", &[]))
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn floods() -> Vec<Flood> {
    let flood = |what, frames, reason| Flood {
        what,
        opening: Vec::new(),
        frames,
        times: 5_000,
        paced: false,
        code: ENHANCE_YOUR_CALM,
        reason,
    };
    vec![
        flood(
            "rapid reset (CVE-2023-44487)",
            |n| [open(n), cancel(n)].concat(),
            // Who is first: the frames' count, or the one of streams that were not looked at yet.
            "resets|flood",
        ),
        Flood {
            paced: true,
            times: 300,
            ..flood(
                "rapid reset, one at a time",
                |n| [open(n), cancel(n)].concat(),
                "resets",
            )
        },
        Flood {
            opening: frame(HEADERS, 0, 1, b"\x83"),
            ..flood(
                "CONTINUATION without end (CVE-2024-27316)",
                |_| frame(CONTINUATION, 0, 1, b""),
                "flood",
            )
        },
        Flood {
            opening: frame(HEADERS, 0, 1, b"\x83"),
            ..flood(
                "CONTINUATION with a head without end",
                |_| {
                    frame(
                        CONTINUATION,
                        0,
                        1,
                        &[[0x40].as_slice(), &number(100, 7), &[b'x'; 100], b"\x01y"].concat(),
                    )
                },
                "flood",
            )
        },
        flood(
            "PING (CVE-2019-9512)",
            |_| frame(PING, 0, 0, b"whatever"),
            "empty-frames",
        ),
        Flood {
            paced: true,
            ..flood(
                "SETTINGS (CVE-2019-9515)",
                |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
                "empty-frames",
            )
        },
        Flood {
            opening: open(1),
            ..flood(
                "PRIORITY (CVE-2019-9513)",
                |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
                "empty-frames",
            )
        },
        Flood {
            opening: open(1),
            ..flood(
                "WINDOW_UPDATE of a byte",
                |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
                "empty-frames",
            )
        },
        flood(
            "frames of no known kind",
            |_| frame(0x77, 0, 0, b""),
            "empty-frames",
        ),
        Flood {
            opening: open(1),
            ..flood(
                "empty DATA (CVE-2019-9518)",
                |_| frame(DATA, 0, 1, b""),
                "empty-frames",
            )
        },
        Flood {
            opening: frame(DATA, 0, 0, b"x"),
            code: PROTOCOL_ERROR,
            ..flood("DATA on no stream", |_| Vec::new(), "malformed")
        },
        Flood {
            opening: frame(DATA, 0, 1, &[0; 16_385]),
            code: FRAME_SIZE_ERROR,
            ..flood("a frame beyond what was allowed", |_| Vec::new(), "malformed")
        },
        Flood {
            opening: frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            code: FLOW_CONTROL_ERROR,
            ..flood("a window beyond all windows", |_| Vec::new(), "malformed")
        },
        Flood {
            opening: frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            code: PROTOCOL_ERROR,
            ..flood("a window that does not grow", |_| Vec::new(), "malformed")
        },
        Flood {
            opening: frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
            // RFC 9113, §6.5.2, has FLOW_CONTROL_ERROR.
            code: PROTOCOL_ERROR,
            ..flood(
                "an initial window beyond all windows",
                |_| Vec::new(),
                "malformed",
            )
        },
        Flood {
            opening: frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
            code: 9,
            ..flood("a head that is not packed", |_| Vec::new(), "malformed")
        },
    ]
}

impl Flood {
    /// Floods until the connection is closed, and returns what was said.
    async fn run(&self, mut client: Client) -> Result<Option<u32>> {
        client.raw.send(&self.opening).await?;
        for number in 0..self.times {
            let bytes = (self.frames)(number * 2 + 3);
            if client.raw.send(&bytes).await.is_err() || (self.paced && client.ping().await?.is_none()) {
                break;
            }
        }
        client.goodbye().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_work_is_told_to_go() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    let listeners = scene.listeners();
    for flood in floods() {
        for (sidecar, listener) in listeners {
            let before = (scene.cut(sidecar, flood.reason).await?, scene.held(sidecar)?);
            let requests = scene.server.requests();
            let code = scene
                .under(async |_| flood.run(Client::connect(listener, &[]).await?).await)
                .await
                .with_context(|| format!("{} at {sidecar}", flood.what))?;
            // Who still sends when it is closed on may not hear why.
            let heard =
                code.is_none_or(|code| code == flood.code || (flood.code == 9 && code == PROTOCOL_ERROR));
            assert!(
                heard && (code.is_some() || flood.times > 0),
                "{} at {sidecar}: {code:?}",
                flood.what
            );
            let after = scene.held(sidecar)?;
            assert!(
                after.bytes < before.1.bytes + (16 << 20),
                "{} at {sidecar}: {before:?} {after:?}",
                flood.what
            );
            scene
                .until_cut(sidecar, flood.reason, before.0 + 1)
                .await
                .with_context(|| format!("{} at {sidecar}", flood.what))?;
            let made = scene.server.requests() - requests;
            assert!(made < 20_000, "{} at {sidecar}: {made} requests", flood.what);
        }
    }
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_unpacks_to_much_more_is_refused() -> Result<()> {
    let mut scene = Scene::start(&[]).await?;
    for (sidecar, listener) in scene.listeners() {
        let before = scene.held(sidecar)?;
        let mut client = Client::connect(listener, &[]).await?;
        // A field of 4,000 bytes into the dynamic table, and then by its number, 12,000 times: 48 MB in 16 KB.
        let bomb = [
            head("GET", &[]),
            [
                [0x40].as_slice(),
                &number(4, 7),
                b"bomb",
                &number(3_900, 7),
                &[b'x'; 3_900],
            ]
            .concat(),
            vec![0xbe; 12_000],
        ]
        .concat();
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &bomb).await?;
        let code = client.goodbye().await?;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "at {sidecar}");
        let after = scene.held(sidecar)?;
        assert!(after.bytes < before.bytes + (4 << 20), "{before:?} {after:?}");
        scene.until_cut(sidecar, "flood", 1).await?;
    }
    assert_eq!(scene.server.requests(), 0);
    scene.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_so_many_streams_and_they_hold_little() -> Result<()> {
    const STREAMS: u32 = 3_000;
    let mut scene = Scene::start(&["--max-streams", "200"]).await?;
    let outbound = scene.outbound;
    let before = scene.held("client")?;
    let requests = scene.server.requests();
    scene
        .under(async |scene| {
            let mut clients = JoinSet::new();
            for _ in 0..5 {
                let mut client = Client::connect(outbound, &[]).await?;
                clients.spawn(async move {
                    let mut refused = 0;
                    for number in 0..STREAMS {
                        if client.raw.send(&open(number * 2 + 1)).await.is_err() {
                            break;
                        }
                    }
                    // Those beyond the limit are refused, or all of them: never served.
                    while let Ok(Some(frame)) = client.next().await {
                        refused += u32::from(frame.kind == RST_STREAM && frame.code() == 7);
                    }
                    refused
                });
            }
            // Their bodies do not come either, so that each of those taken is answered in the end.
            while let Some(refused) = clients.join_next().await {
                assert!(refused? > 100);
            }
            let after = scene.held("client")?;
            assert!(after.bytes < before.bytes + (40 << 20), "{before:?} {after:?}");
            Ok(())
        })
        .await?;
    let taken = scene.server.requests() - requests;
    assert!(taken < 20_000, "{taken}");
    scene.check()
}
