//! HTTP/2 by hand (RFC 9113): frames that no client library sends, and what is answered to them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use mesh_e2e::wait::PATIENCE;
use tokio::io::AsyncReadExt as _;

use crate::scene::Raw;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Codes of RFC 9113, §7.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What a client begins with: the preface, and SETTINGS.
pub(crate) fn preface(settings: &[u8]) -> Vec<u8> {
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &frame(SETTINGS, 0, 0, settings),
    ]
    .concat()
}

/// The head of a request, packed without the dynamic table (RFC 7541, §6): method GET or POST, and more fields.
pub(crate) fn head(method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![if method == "GET" { 0x82 } else { 0x83 }, 0x86, 0x84];
    for (name, value) in std::iter::once(&(":authority", "web")).chain(fields) {
        block.push(0);
        for text in [name, value] {
            block.extend(number(text.len(), 7));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A number in RFC 7541's form, with a prefix of so many bits that are otherwise 0.
pub(crate) fn number(mut value: usize, bits: u32) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![value as u8];
    }
    let mut bytes = vec![most as u8];
    value -= most;
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Received {
    /// The code of a RST_STREAM or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let bytes = self
            .payload
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(u32::MAX, u32::from_be_bytes)
    }
}

/// An HTTP/2 connection.
pub(crate) struct Client {
    pub(crate) raw: Raw,
    /// The code of the GOAWAY that came.
    goaway: Option<u32>,
}

impl Client {
    /// Connects, and says what a client says first.
    pub(crate) async fn connect(address: SocketAddr, settings: &[u8]) -> Result<Self> {
        let mut raw = Raw::connect(address).await?;
        raw.send(&preface(settings)).await?;
        Ok(Self { raw, goaway: None })
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        self.raw.send(&frame(kind, flags, stream, payload)).await
    }

    /// The next frame; none: the connection is closed.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>> {
        let mut head = [0; 9];
        let read = tokio::time::timeout(PATIENCE / 2, self.raw.0.read_exact(&mut head));
        if read.await.context("neither a frame nor the end")?.is_err() {
            return Ok(None);
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if self.raw.0.read_exact(&mut payload).await.is_err() {
            return Ok(None);
        }
        let received = Received {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        };
        if kind == GOAWAY {
            self.goaway = Some(received.code());
        }
        Ok(Some(received))
    }

    /// The next frame of this kind.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Result<Received> {
        loop {
            let frame = self.next().await?.context("the connection was closed")?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// A round trip: all that was sent before has been read by then. None: the connection is closed.
    pub(crate) async fn ping(&mut self) -> Result<Option<()>> {
        if self.send(PING, 0, 0, b"roundtri").await.is_err() {
            return Ok(None);
        }
        while let Some(frame) = self.next().await? {
            if frame.kind == PING && frame.flags == 1 {
                return Ok(Some(()));
            }
        }
        Ok(None)
    }

    /// The code of the GOAWAY that the connection is closed with; none: it is closed without.
    pub(crate) async fn goodbye(&mut self) -> Result<Option<u32>> {
        while self.next().await?.is_some() {}
        Ok(self.goaway)
    }
}
