//! Memory that TLS needs only for a moment: room that the connections of a thread share, and what a connection keeps until
//! it is used up. A connection that lies idle holds none of either.

use std::cell::Cell;
use std::thread::LocalKey;

/// The room of a thread to read records in.
pub(super) type Room = LocalKey<Cell<Vec<u8>>>;

/// How many bytes of room a thread keeps between two uses, at most.
const KEPT: usize = 80 << 10;

thread_local! {
    /// Where records are read and decrypted.
    pub(super) static RECEIVED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Where records to be sent are made.
    pub(super) static SEALED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Where pieces that make one record are brought together.
    pub(super) static GATHERED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends at least so many bytes of the thread's room, in which anything may stand. Who asks for a room that is lent already
/// gets another one.
pub(super) fn lend<R>(room: &'static Room, bytes: usize, to: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut lent = room.take();
    if lent.len() < bytes {
        lent.resize(bytes, 0);
    }
    let result = to(&mut lent);
    if lent.len() <= KEPT {
        room.set(lent);
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

    /// Adds so many zeros to what is left, to be written over.
    pub(super) fn push_room(&mut self, bytes: usize) -> &mut [u8] {
        let begin = self.bytes.len();
        self.bytes.resize(begin + bytes, 0);
        &mut self.bytes[begin..]
    }

    /// Takes that many bytes from the front.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used >= self.bytes.len() {
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
        backlog.push_room(2).copy_from_slice(b"22");
        backlog.advance(2);
        assert_eq!(backlog.left(), b"e22");
        backlog.advance(3);
        assert!(backlog.is_empty());
        assert_eq!(backlog.bytes.capacity(), 0);
    }

    #[test]
    fn room_that_is_lent_already_is_not_shared() {
        lend(&RECEIVED, 4, |outer| {
            outer.fill(1);
            lend(&RECEIVED, 4, |inner| inner.fill(2));
            assert_eq!(outer, &[1; 4]);
        });
        lend(&RECEIVED, KEPT + 1, |room| assert!(room.len() > KEPT));
        assert!(RECEIVED.take().len() <= KEPT);
    }
}
