//! Records that go out.

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{AlertDescription, ContentType, Error, ProtocolVersion};

/// How an alert begins that ends one direction (RFC 8446, §6.1).
const WARNING: u8 = 1;
/// How an alert begins that ends the connection (§6.2).
const FATAL: u8 = 2;
/// "I use the next key from here on", and nothing is asked of the peer (§4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// One direction's key, and which record comes next.
pub(super) struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    pub(super) next: u64,
    /// How many records one key may encrypt, that which announces the next key included.
    pub(super) limit: u64,
}

impl Sealer {
    /// Begins with record number `next`.
    ///
    /// # Errors
    /// When the key can't be used.
    pub(super) fn new(encrypter: Box<dyn MessageEncrypter>, next: u64, limit: u64) -> Result<Self, Error> {
        let mut sealer = Self {
            encrypter,
            next: 0,
            limit,
        };
        if next > 0 {
            // AWS-LC's key takes the first number that it sees for 0, and from there on refuses those that are not larger.
            // Record 0, a ticket, has left; this one is thrown away where it is made.
            drop(sealer.seal(ContentType::ApplicationData, OutboundChunks::new_empty())?);
            sealer.next = next;
        }
        Ok(sealer)
    }

    /// Makes a record of no more than 16 KiB.
    ///
    /// # Errors
    /// When the key is used up, or refuses.
    pub(super) fn seal(&mut self, kind: ContentType, payload: OutboundChunks<'_>) -> Result<Vec<u8>, Error> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or(Error::EncryptError)?;
        let plain = OutboundPlainMessage {
            typ: kind,
            version: ProtocolVersion::TLSv1_2,
            payload,
        };
        Ok(self.encrypter.encrypt(plain, number)?.encode())
    }

    /// Makes a record that says why the connection ends.
    ///
    /// # Errors
    /// Those of [`Self::seal`].
    pub(super) fn alert(&mut self, why: AlertDescription) -> Result<Vec<u8>, Error> {
        let level = match why {
            AlertDescription::CloseNotify => WARNING,
            _ => FATAL,
        };
        self.seal(ContentType::Alert, OutboundChunks::Single(&[level, why.into()]))
    }

    /// Whether the key may encrypt one more record, which must be [`Self::rekey`]'s. One that has encrypted none yet does.
    pub(super) fn is_used_up(&self) -> bool {
        self.next > 0 && self.next.saturating_add(1) >= self.limit
    }

    /// Makes the record that announces the next key, and goes on with that.
    ///
    /// # Errors
    /// Those of [`Self::seal`].
    pub(super) fn rekey(&mut self, encrypter: Box<dyn MessageEncrypter>) -> Result<Vec<u8>, Error> {
        let announced = self.seal(ContentType::Handshake, OutboundChunks::Single(&KEY_UPDATE))?;
        self.encrypter = encrypter;
        self.next = 0;
        Ok(announced)
    }
}
