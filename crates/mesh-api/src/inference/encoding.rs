//! Looks into compressed bodies and messages, within a bound, without keeping what was inflated.

use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};

use super::refusal::{Refusal, RefusalReason};

/// How a body or a message is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not at all.
    Identity,
    Gzip,
    /// zlib's format as HTTP says, or the bare one that some clients send.
    Deflate,
    /// In a way that is not read, or in several.
    Foreign,
}

impl Coding {
    /// Of a whole body, by `content-encoding`.
    pub(super) fn of_body(headers: &HeaderMap) -> Self {
        Self::of(headers, header::CONTENT_ENCODING.as_str())
    }

    /// Of the messages that are flagged as compressed, by `grpc-encoding`.
    pub(super) fn of_messages(headers: &HeaderMap) -> Self {
        Self::of(headers, "grpc-encoding")
    }

    fn of(headers: &HeaderMap, name: &str) -> Self {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Self::Identity;
        };
        if values.next().is_some() {
            return Self::Foreign;
        }
        let value = value.as_bytes().trim_ascii();
        let known = [
            (&b""[..], Self::Identity),
            (b"identity", Self::Identity),
            (b"gzip", Self::Gzip),
            (b"x-gzip", Self::Gzip),
            (b"deflate", Self::Deflate),
        ];
        let found = known
            .into_iter()
            .find(|(word, _)| value.eq_ignore_ascii_case(word));
        found.map_or(Self::Foreign, |(_, coding)| coding)
    }
}

/// What reads inflated bytes.
pub(super) trait Inflated {
    /// Reads the next piece.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal>;
}

/// Inflates what it is given, straight into a scanner.
pub(super) struct Inflate<S: Inflated> {
    scanner: S,
    /// How many bytes may still come out.
    left: u64,
    stage: Stage,
    output: Box<[u8; OUTPUT_BYTES]>,
}

/// How much is inflated at a time.
const OUTPUT_BYTES: usize = 16 * 1024;

/// The widest window of deflate, as a power of two.
const WINDOW_BITS: u8 = 15;

enum Stage {
    /// Nothing was read.
    Empty,
    /// Of deflate, the first byte was read; two tell zlib's format from the bare one.
    Sniff(u8),
    Running(Decompress),
    Ended,
}

impl<S: Inflated> Inflate<S> {
    /// Inflates at most `limit` bytes into `scanner`.
    pub(super) fn new(coding: Coding, scanner: S, limit: u64) -> Self {
        let stage = match coding {
            Coding::Gzip => Stage::Running(Decompress::new_gzip(WINDOW_BITS)),
            Coding::Deflate | Coding::Identity | Coding::Foreign => Stage::Empty,
        };
        Self {
            scanner,
            left: limit,
            stage,
            output: Box::new([0; OUTPUT_BYTES]),
        }
    }

    /// Changes how many bytes may still come out.
    pub(super) const fn set_limit(&mut self, limit: u64) {
        self.left = limit;
    }

    /// The scanner.
    pub(super) const fn scanner(&self) -> &S {
        &self.scanner
    }

    /// The scanner, to finish it.
    pub(super) const fn scanner_mut(&mut self) -> &mut S {
        &mut self.scanner
    }

    /// Reads the next compressed piece.
    pub(super) fn push(&mut self, mut chunk: &[u8]) -> Result<(), Refusal> {
        while let [first, rest @ ..] = chunk {
            match self.stage {
                Stage::Empty => {
                    self.stage = Stage::Sniff(*first);
                    chunk = rest;
                }
                Stage::Sniff(before) => {
                    // RFC 1950: method 8, and both bytes together a multiple of 31.
                    let zlib = before & 0x0f == 8 && u16::from_be_bytes([before, *first]) % 31 == 0;
                    self.stage = Stage::Running(Decompress::new(zlib));
                    self.inflate(&[before])?;
                }
                Stage::Running(_) => return self.inflate(chunk),
                // Servers ignore what follows the end, or read it as a second stream.
                Stage::Ended => return Err(broken()),
            }
        }
        Ok(())
    }

    /// The compressed bytes are over: refuses a stream that breaks off.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match &self.stage {
            Stage::Empty | Stage::Ended => Ok(()),
            Stage::Running(inflater) if inflater.total_in() == 0 => Ok(()),
            Stage::Sniff(_) | Stage::Running(_) => Err(broken()),
        }
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<(), Refusal> {
        let Stage::Running(inflater) = &mut self.stage else {
            return Err(broken());
        };
        loop {
            let (read, written) = (inflater.total_in(), inflater.total_out());
            let status = inflater.decompress(input, &mut self.output[..], FlushDecompress::None);
            let read = usize::try_from(inflater.total_in() - read).unwrap_or(input.len());
            let written = usize::try_from(inflater.total_out() - written).unwrap_or(OUTPUT_BYTES);
            input = &input[read..];
            self.left = self.left.checked_sub(written as u64).ok_or_else(too_far)?;
            // Also what came before an error: so the answer does not depend on where chunks end.
            self.scanner.push(&self.output[..written])?;
            let status = status.map_err(|_| broken())?;
            match status {
                Status::StreamEnd if input.is_empty() => {
                    self.stage = Stage::Ended;
                    return Ok(());
                }
                Status::StreamEnd => return Err(broken()),
                // Output that filled the buffer may have more behind it.
                Status::Ok | Status::BufError if input.is_empty() && written < OUTPUT_BYTES => return Ok(()),
                Status::Ok | Status::BufError if read == 0 && written == 0 => return Err(broken()),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

#[cold]
fn too_far() -> Refusal {
    Refusal::new(
        RefusalReason::InflatesTooFar,
        "the compressed body inflates past its bound",
    )
}

#[cold]
fn broken() -> Refusal {
    Refusal::new(
        RefusalReason::MalformedBody,
        "the body is not compressed as its headers say",
    )
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
