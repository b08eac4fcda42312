//! What is to be written next on a connection: heads and framing, and pieces of bodies between them.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Up to how many bytes small pieces are brought together with what stands around them. The system takes one piece with less
/// work than several, by more than such a copy costs.
const LITTLE: usize = 4 << 10;
/// How many bytes frame a small piece in chunks (RFC 9112, §7.1): up to four digits, and the ends of two lines.
const FRAMING: usize = 8;
/// How many slices are written at once: so many pieces, and what stands before and behind them.
pub const SLICES: usize = 17;

/// Bytes on their way out. Pieces of bodies are not copied, but for small ones.
#[derive(Debug, Default)]
pub struct Out {
    own: Vec<u8>,
    /// How many of its own bytes are written.
    written: usize,
    /// Pieces, each with how many of the own bytes go before it.
    pieces: VecDeque<(usize, Bytes)>,
    /// How many bytes they have.
    of_pieces: usize,
}

impl Out {
    /// With a head, written already.
    pub fn new(head: Vec<u8>) -> Self {
        Self {
            own: head,
            ..Self::default()
        }
    }

    /// The bytes of its own, to write a head or framing behind everything else.
    pub fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Makes room for a piece of a body of so many bytes and its framing, if it is one of the small ones.
    pub(super) fn expect(&mut self, piece: usize) {
        if piece <= LITTLE {
            self.own.reserve(piece + FRAMING);
        }
    }

    /// Puts a piece of a body behind everything else.
    pub fn push(&mut self, piece: Bytes) {
        if self.own.len() + piece.len() <= LITTLE {
            self.own.extend_from_slice(&piece);
        } else {
            self.of_pieces += piece.len();
            self.pieces.push_back((self.own.len(), piece));
        }
    }

    /// How many bytes are to be written.
    pub fn len(&self) -> usize {
        self.own.len() - self.written + self.of_pieces
    }

    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.written == self.own.len() && self.pieces.is_empty()
    }

    /// Whether it is worth writing before anything is put behind it.
    pub fn is_full(&self) -> bool {
        self.pieces.len() >= SLICES / 2
    }

    /// What is to be written, from its beginning, as far as there are slices for it. Returns how many there are.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut count = 0;
        let mut from = self.written;
        let mut put = |bytes: &'a [u8]| {
            if !bytes.is_empty() && count < SLICES {
                slices[count] = IoSlice::new(bytes);
                count += 1;
            }
        };
        for (at, piece) in &self.pieces {
            put(&self.own[from..*at]);
            put(piece);
            from = *at;
        }
        put(&self.own[from..]);
        count
    }

    /// So many bytes are written.
    pub fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let until = self.pieces.front().map_or(self.own.len(), |(at, _)| *at);
            let own = bytes.min(until - self.written);
            self.written += own;
            bytes -= own;
            let Some((_, piece)) = self.pieces.front_mut() else {
                break;
            };
            let of_piece = bytes.min(piece.len());
            piece.advance(of_piece);
            self.of_pieces -= of_piece;
            bytes -= of_piece;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        if self.is_empty() {
            // The next piece may be long in coming. It gets memory then that another stream has just used, and the cache knows.
            self.own = Vec::new();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written, so many bytes at a time.
    fn written(out: &mut Out, at_once: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = out.slices(&mut slices);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            let now = at_once.min(bytes.len());
            assert!(now > 0 && bytes.len() <= out.len());
            all.extend_from_slice(&bytes[..now]);
            out.advance(now);
        }
        assert_eq!(out.len(), 0);
        all
    }

    #[test]
    fn everything_is_written_in_its_order() {
        for sizes in [
            &[][..],
            &[1],
            &[LITTLE - 3],
            &[LITTLE - 2],
            &[5, LITTLE, 5, 5, 2 * LITTLE, 1],
            &[LITTLE; 20],
        ] {
            for at_once in [999, LITTLE + 1, usize::MAX] {
                let mut out = Out::default();
                let mut expected = Vec::new();
                for round in 0..2 {
                    for (number, size) in sizes.iter().enumerate() {
                        let piece = vec![b'a' + number as u8; *size];
                        out.own().extend_from_slice(b"<");
                        out.push(piece.clone().into());
                        out.own().extend_from_slice(b">");
                        expected.extend([&b"<"[..], &piece, b">"].concat());
                    }
                    let all = written(&mut out, at_once);
                    assert!(all == expected, "{sizes:?}, {at_once} at once, round {round}");
                    expected.clear();
                }
            }
        }
    }
}
