//! A bounded copy of a text that may be split over several chunks.

use super::{
    name::{MAX_NAME_BYTES, ModelName},
    refusal::Refusal,
};

/// Holds up to one byte more than a name may have, and remembers whether there was more: nothing is allocated, and a
/// text that is too long stays recognisable as such.
#[derive(Clone)]
pub(super) struct Capture {
    bytes: [u8; MAX_NAME_BYTES + 1],
    len: usize,
}

impl Capture {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; MAX_NAME_BYTES + 1],
            len: 0,
        }
    }

    pub(super) const fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds what still fits.
    pub(super) fn extend(&mut self, more: &[u8]) {
        let take = more.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + take].copy_from_slice(&more[..take]);
        self.len += take;
    }

    /// What was captured; one byte too long if the text is too long for a name.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The name; `None` if the text is empty, which servers take for no name.
    pub(super) fn name(&self) -> Result<Option<ModelName>, Refusal> {
        match self.as_bytes() {
            [] => Ok(None),
            bytes => ModelName::from_bytes(bytes).map(Some),
        }
    }
}
