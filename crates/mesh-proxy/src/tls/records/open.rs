//! Records that come in, decrypted where they stand.

use rustls::crypto::cipher::{InboundOpaqueMessage, InboundPlainMessage, MessageDecrypter};
use rustls::{ContentType, Error, PeerMisbehaved, ProtocolVersion};

use super::fault::Fault;
use super::frame::HEADER;

/// How many records with nothing in them may come in a row. As many as rustls takes.
const EMPTY: u8 = 32;

/// One direction's key, and which record comes next.
pub(super) struct Opener {
    decrypter: Box<dyn MessageDecrypter>,
    pub(super) next: u64,
    empty: u8,
}

impl Opener {
    /// Begins with record number `next`.
    pub(super) fn new(decrypter: Box<dyn MessageDecrypter>, next: u64) -> Self {
        Self {
            decrypter,
            next,
            empty: 0,
        }
    }

    /// Goes on with another key.
    pub(super) fn rekey(&mut self, decrypter: Box<dyn MessageDecrypter>) {
        self.decrypter = decrypter;
        self.next = 0;
    }

    /// Decrypts a whole record.
    ///
    /// # Errors
    /// When it was not encrypted with this key and number, is too long, is of no kind, or one too many with nothing in it.
    pub(super) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<InboundPlainMessage<'a>, Fault> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or(Error::DecryptError)?;
        let body = record.get_mut(HEADER..).unwrap_or_default();
        let opaque = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, body);
        let plain = self.decrypter.decrypt(opaque, number)?;
        if !plain.payload.is_empty() {
            self.empty = 0;
        } else if plain.typ == ContentType::ApplicationData && self.empty < EMPTY {
            self.empty += 1;
        } else {
            // Only application data may be empty at all (RFC 8446, §5.4).
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        Ok(plain)
    }
}
