//! Replaces ranges of a body that passes through, without copying the rest.

use std::{collections::VecDeque, ops::Range};

use bytes::{Buf, Bytes};

/// A range of a body and what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// Which bytes of the body, as it came in, are left out. An empty range inserts.
    pub range: Range<u64>,
    /// What is sent instead of them.
    pub with: Bytes,
}

impl Splice {
    /// By how many bytes the body grows (or shrinks).
    pub fn growth(&self) -> i64 {
        let removed = self.range.end.saturating_sub(self.range.start);
        (self.with.len() as u64)
            .cast_signed()
            .wrapping_sub(removed.cast_signed())
    }
}

/// Applies splices to a body that passes through in chunks. Chunks are sliced, not copied.
///
/// Splices may be added while the body passes, as long as the bytes they stand for have not
/// ([`BodyScanner::hold_from`](crate::inference::BodyScanner::hold_from) says what to hold back).
#[derive(Debug, Default)]
pub struct Splicer {
    splices: VecDeque<Splice>,
    /// Of the next byte of the body as it came in.
    offset: u64,
}

impl Splicer {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds splices behind those that were added before.
    pub fn add(&mut self, splices: impl IntoIterator<Item = Splice>) {
        self.splices.extend(splices);
    }

    /// Takes the next chunk of the body, and gives what is sent for it, piece by piece.
    pub fn push(&mut self, mut chunk: Bytes, mut send: impl FnMut(Bytes)) {
        while let Some(next) = self.splices.front() {
            let end = self.offset + chunk.len() as u64;
            // An insertion at the very end of the chunk waits for more: it may be part of a replaced range.
            if next.range.start >= end {
                break;
            }
            let before = length(next.range.start.saturating_sub(self.offset), &chunk);
            self.forward(&mut chunk, before, &mut send);
            let Some(next) = self.splices.front_mut() else {
                break;
            };
            let with = std::mem::take(&mut next.with);
            let removed = length(next.range.end.saturating_sub(self.offset), &chunk);
            self.offset += removed as u64;
            chunk.advance(removed);
            if !with.is_empty() {
                send(with);
            }
            if self.offset < next.range.end {
                // The range goes on in the next chunk; its replacement was sent.
                next.range.start = self.offset;
                return;
            }
            self.splices.pop_front();
        }
        let rest = chunk.len();
        self.forward(&mut chunk, rest, &mut send);
    }

    /// The body is over: gives what is inserted at its end.
    pub fn finish(&mut self, mut send: impl FnMut(Bytes)) {
        for splice in self.splices.drain(..) {
            if !splice.with.is_empty() {
                send(splice.with);
            }
        }
    }

    fn forward(&mut self, chunk: &mut Bytes, length: usize, send: &mut impl FnMut(Bytes)) {
        let piece = chunk.split_to(length);
        self.offset += length as u64;
        if !piece.is_empty() {
            send(piece);
        }
    }
}

/// So many bytes, or all of the chunk.
fn length(bytes: u64, chunk: &Bytes) -> usize {
    usize::try_from(bytes).map_or(chunk.len(), |bytes| bytes.min(chunk.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(body: &[u8], splices: &[Splice], size: usize) -> Vec<u8> {
        let mut splicer = Splicer::new();
        splicer.add(splices.iter().cloned());
        let mut out = Vec::new();
        for chunk in body.chunks(size) {
            splicer.push(Bytes::copy_from_slice(chunk), |piece| out.extend(piece));
        }
        splicer.finish(|piece| out.extend(piece));
        out
    }

    fn splice(range: Range<u64>, with: &'static str) -> Splice {
        Splice {
            range,
            with: Bytes::from_static(with.as_bytes()),
        }
    }

    #[test]
    fn replaces_inserts_and_removes() {
        let splices = [
            splice(0..0, "<"),
            splice(2..4, "XYZ"),
            splice(4..4, "+"),
            splice(5..6, ""),
            splice(8..8, ">"),
        ];
        for size in 1..9 {
            assert_eq!(
                String::from_utf8(apply(b"01234567", &splices, size)).unwrap(),
                "<01XYZ+467>",
                "{size}"
            );
        }
        assert_eq!(splices.iter().map(Splice::growth).sum::<i64>(), 3);
        assert_eq!(apply(b"", &splices[..1], 1), b"<");
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(body in proptest::collection::vec(any::<u8>(), 0..60), cuts in proptest::collection::btree_set(0_u64..60, 0..8), size in 1_usize..20) {
            let cuts: Vec<u64> = cuts.into_iter().filter(|cut| *cut <= body.len() as u64).collect();
            let splices: Vec<Splice> = cuts.chunks_exact(2).map(|pair| splice(pair[0]..pair[1], "new")).collect();
            let mut expected = body.clone();
            for splice in splices.iter().rev() {
                expected.splice(splice.range.start as usize..splice.range.end as usize, splice.with.iter().copied());
            }
            prop_assert_eq!(apply(&body, &splices, size), expected);
        }
    }
}
