//! Memory that TLS needs only for a moment: room that the connections of a thread share, and what a connection keeps until
//! it is used up. A connection that lies idle holds none of either.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;

/// How many bytes of room a thread keeps between two uses, at most.
const KEPT: usize = 80 << 10;

thread_local! {
    /// Where records are read and decrypted.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends at least so many bytes of the thread's room, in which anything may stand. Who asks for a room that is lent already
/// gets another one.
pub(super) fn lend<R>(bytes: usize, to: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut lent = ROOM.take();
    if lent.len() < bytes {
        lent.resize(bytes, 0);
    }
    let result = to(&mut lent);
    if lent.len() <= KEPT {
        ROOM.set(lent);
    }
    result
}

/// Bytes that are used from the front, and freed with the last one.
#[derive(Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    used: usize,
}

impl Backlog {
    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    pub(super) fn left(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Adds to what is left.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes that many bytes from the front.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// Records on their way out, each as it was made, used from the front and freed with its last byte.
#[derive(Default)]
pub(super) struct Outgoing {
    records: VecDeque<Vec<u8>>,
    /// How many bytes of the first one have left.
    sent: usize,
}

impl Outgoing {
    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a record, behind what is left.
    pub(super) fn push(&mut self, record: Vec<u8>) {
        self.push_rest(record, 0);
    }

    /// Adds a record of which so many bytes have left already, which is only so when it is the first.
    pub(super) fn push_rest(&mut self, record: Vec<u8>, sent: usize) {
        if sent < record.len() {
            self.records.push_back(record);
            self.sent += sent;
        }
    }

    /// What is left, in as many slices as there is place for; says how many they are.
    pub(super) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent;
        let mut filled = 0;
        for (slice, record) in into.iter_mut().zip(&self.records) {
            *slice = IoSlice::new(&record[skip..]);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// Takes that many bytes from the front.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        while let Some(first) = self.records.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            self.records.pop_front();
        }
        if self.records.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_is_freed() {
        let mut backlog = Backlog::default();
        backlog.push(b"one");
        backlog.push(b"22");
        backlog.advance(2);
        assert_eq!(backlog.left(), b"e22");
        backlog.advance(3);
        assert!(backlog.is_empty());
        assert_eq!(backlog.bytes.capacity(), 0);
    }

    #[test]
    fn records_leave_in_order_and_in_any_pieces() {
        for step in 1..=9 {
            let mut outgoing = Outgoing::default();
            for record in [&b"one"[..], b"", b"22", b"four"] {
                outgoing.push(record.to_vec());
            }
            let mut left = Vec::new();
            while !outgoing.is_empty() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = outgoing.slices(&mut slices);
                let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let sent = step.min(bytes.len());
                left.extend_from_slice(&bytes[..sent]);
                outgoing.advance(sent);
            }
            assert_eq!(left, b"one22four", "{step}");
            assert_eq!(outgoing.records.capacity(), 0);
        }
    }

    #[test]
    fn room_that_is_lent_already_is_not_shared() {
        lend(4, |outer| {
            outer.fill(1);
            lend(4, |inner| inner.fill(2));
            assert_eq!(outer[..4], [1; 4]);
        });
        lend(KEPT + 1, |room| assert!(room.len() > KEPT));
        assert!(ROOM.take().len() <= KEPT);
    }
}
