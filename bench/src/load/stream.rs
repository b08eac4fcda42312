//! Reads a stream of chunks, each of which says when it was sent.

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};
use tokio::time::Instant;

use super::tally::Tally;
use crate::{payload, scenario::Protocol};

/// Reads a stream, asked for at `asked`, to its end.
pub(super) async fn read(
    response: Response<Incoming>,
    protocol: Protocol,
    asked: Instant,
    tally: &Tally,
) -> Result<()> {
    let mut body = response.into_body();
    let mut pending = BytesMut::new();
    let mut last: Option<Instant> = None;
    let mut chunks = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the stream broke off")?;
        let Some(data) = frame.data_ref() else { continue };
        pending.extend_from_slice(data);
        let now = Instant::now();
        while pending.len() >= payload::CHUNK {
            let delay = payload::age_of_chunk(&pending[..payload::CHUNK], protocol)?;
            pending.advance(payload::CHUNK);
            tally.chunk(now, delay, last.map(|last| now - last), asked);
            last = Some(now);
            chunks += 1;
        }
    }
    ensure!(
        chunks == payload::CHUNKS && pending.is_empty(),
        "the stream ended after {chunks} chunks and {} bytes instead of {} chunks",
        pending.len(),
        payload::CHUNKS
    );
    Ok(())
}
