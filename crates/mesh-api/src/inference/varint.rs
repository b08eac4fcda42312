//! Protobuf's variable-length integers, byte by byte.

use super::refusal::{Refusal, RefusalReason};

/// A varint that is being read.
#[derive(Clone, Copy, Default)]
pub(super) struct Varint {
    pub(super) value: u64,
    pub(super) bytes: u8,
}

impl Varint {
    /// Adds a byte; gives the value with the last one. At most `limit` bytes, and 64 bits.
    pub(super) fn push(&mut self, byte: u8, limit: u8) -> Result<Option<u64>, Refusal> {
        let bits = u64::from(byte & 0x7f);
        if self.bytes == limit || (self.bytes == 9 && bits > 1) {
            return Err(Refusal::new(
                RefusalReason::MalformedBody,
                "a protobuf varint is too long",
            ));
        }
        self.value |= bits << (7 * u32::from(self.bytes));
        self.bytes += 1;
        Ok((byte < 0x80).then_some(self.value))
    }
}
