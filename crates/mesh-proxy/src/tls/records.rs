//! A connection after its handshake, without a socket: TLS 1.3's records (RFC 8446, §5), and what may still be said in them
//! beside data (§4.6, §6). Bytes in, plaintext out, and the other way round.
//!
//! The cryptography is rustls's: its keys, its ciphers, its secrets, its tickets. Ours is where records begin and end, which
//! number they have, and which key is in use. Why: docs/decisions/0016.

use rustls::crypto::cipher::{InboundPlainMessage, OutboundChunks};
use rustls::{AlertDescription, ContentType, Error, ExtractedSecrets, InvalidMessage, PeerMisbehaved};
use tokio::io::ReadBuf;

use super::buffers::{Backlog, Outgoing};
use fault::Fault;
use messages::{Message, Parts};
use open::Opener;
use seal::Sealer;

mod fault;
mod frame;
mod keys;
mod messages;
mod open;
mod seal;

pub(super) use frame::{RECORD, size};
pub(super) use keys::Keys;

/// How many records are made at once.
pub(super) const AT_ONCE: usize = 4;
/// How many times a peer may change its key without saying anything, and how often it may say that its user changed their
/// mind (RFC 8446, §6.1). As rustls has it.
const KEY_UPDATES: u8 = 32;
const WARNINGS: u8 = 4;

/// How what the peer sends has ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It said so.
    Closed,
    /// The connection ended without a word: something may be missing.
    CutOff,
    /// It sent what can't be, or refused us.
    Failed(Box<Error>),
}

/// One side of a connection.
pub(super) struct Records {
    keys: Keys,
    opener: Opener,
    sealer: Sealer,
    /// Plaintext for which there was no room.
    pub(super) plain: Backlog,
    parts: Parts,
    end: Option<End>,
    said_goodbye: bool,
    /// Whether the peer has asked for our next key.
    owes_key: bool,
    key_updates: u8,
    warnings: u8,
}

impl Records {
    /// Goes on where rustls has left off.
    ///
    /// # Errors
    /// When the cipher suite is not one of TLS 1.3.
    pub(super) fn new(secrets: ExtractedSecrets, keys: Keys) -> Result<Self, Error> {
        let suite = keys.suite()?;
        let (sent, to_seal) = secrets.tx;
        let (received, to_open) = secrets.rx;
        let limit = suite.common.confidentiality_limit;
        Ok(Self {
            opener: Opener::new(keys::decrypter(suite, to_open)?, received),
            sealer: Sealer::new(keys::encrypter(suite, to_seal)?, sent, limit)?,
            keys,
            plain: Backlog::default(),
            parts: Parts::default(),
            end: None,
            said_goodbye: false,
            owes_key: false,
            key_updates: 0,
            warnings: 0,
        })
    }

    /// How what the peer sends has ended, if it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Takes note that the peer sends no more, whether it said so or not.
    pub(super) fn receive_end(&mut self) {
        self.end.get_or_insert(End::CutOff);
    }

    /// Takes what came from the peer, that which was left the last time included, and says how much of it is used up: all but
    /// the beginning of a record. Plaintext goes into `into`, and what does not fit into [`Self::plain`]; an alert goes into
    /// `outgoing` if the peer made a mistake.
    pub(super) fn receive(
        &mut self,
        bytes: &mut [u8],
        into: &mut ReadBuf<'_>,
        outgoing: &mut Outgoing,
    ) -> usize {
        let mut used = 0;
        while self.end.is_none() {
            let taken = match frame::complete(&bytes[used..]) {
                Ok(None) => return used,
                Ok(Some(size)) => {
                    let record = &mut bytes[used..used + size];
                    used += size;
                    self.take(record, into)
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = taken {
                self.fail(fault, outgoing);
            }
        }
        // What comes behind the end is not looked at (§6.1).
        bytes.len()
    }

    /// Makes up to [`AT_ONCE`] records of the front of `plain`, each of them with what must be said before it.
    ///
    /// # Errors
    /// When the connection has failed, or does now.
    pub(super) fn seal(&mut self, plain: &OutboundChunks<'_>) -> Result<[Vec<u8>; AT_ONCE], Error> {
        if let Some(End::Failed(error)) = &self.end {
            return Err(Error::clone(error));
        }
        let mut left = plain.clone();
        let mut sealed = [const { Vec::new() }; AT_ONCE];
        for record in &mut sealed {
            if left.is_empty() {
                break;
            }
            let (now, later) = left.split_at(frame::PLAIN);
            left = later;
            *record = self.seal_one(now).inspect_err(|error| {
                self.end = Some(End::Failed(Box::new(error.clone())));
            })?;
        }
        Ok(sealed)
    }

    /// Puts the word that this side will send no more into `outgoing`, once.
    ///
    /// # Errors
    /// When it can't be encrypted.
    pub(super) fn say_goodbye(&mut self, outgoing: &mut Outgoing) -> Result<(), Error> {
        if self.said_goodbye || matches!(self.end, Some(End::Failed(_))) {
            return Ok(());
        }
        self.said_goodbye = true;
        outgoing.push(self.sealer.alert(AlertDescription::CloseNotify)?);
        Ok(())
    }

    /// Whether this side has said that it will send no more.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.said_goodbye
    }

    fn seal_one(&mut self, plain: OutboundChunks<'_>) -> Result<Vec<u8>, Error> {
        if !self.owes_key && !self.sealer.is_used_up() {
            return self.sealer.seal(ContentType::ApplicationData, plain);
        }
        self.owes_key = false;
        let next = self.keys.next_to_seal()?;
        let mut record = self.sealer.rekey(next)?;
        record.append(&mut self.sealer.seal(ContentType::ApplicationData, plain)?);
        Ok(record)
    }

    /// Ends the connection, and says why.
    fn fail(&mut self, fault: Fault, outgoing: &mut Outgoing) {
        if let Some(alert) = fault.alert
            && !self.said_goodbye
            && let Ok(alert) = self.sealer.alert(alert)
        {
            outgoing.push(alert);
        }
        self.parts = Parts::default();
        self.end = Some(End::Failed(Box::new(fault.error)));
    }

    /// Takes one record.
    fn take(&mut self, record: &mut [u8], into: &mut ReadBuf<'_>) -> Result<(), Fault> {
        let InboundPlainMessage { typ, payload, .. } = self.opener.open(record)?;
        if typ != ContentType::Handshake && !self.parts.is_empty() {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        match typ {
            ContentType::ApplicationData => {
                self.take_data(payload, into);
                Ok(())
            }
            ContentType::Handshake => self.take_messages(payload),
            ContentType::Alert => self.take_alert(payload),
            _ => Err(InvalidMessage::InvalidContentType.into()),
        }
    }

    fn take_data(&mut self, data: &[u8], into: &mut ReadBuf<'_>) {
        if data.is_empty() {
            return;
        }
        self.key_updates = 0;
        let fits = if self.plain.is_empty() {
            into.remaining().min(data.len())
        } else {
            0
        };
        let (now, later) = data.split_at(fits);
        into.put_slice(now);
        self.plain.push(later);
    }

    /// Takes messages, or parts of them, behind those that came before.
    fn take_messages(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let joined = self.parts.join(payload);
        let mut left = joined.as_slice();
        while let Some((message, rest)) = messages::first(left)? {
            left = rest;
            match message {
                Message::Ticket(ticket) => self.keys.keep_ticket(ticket)?,
                Message::KeyUpdate(asks) => self.take_key(asks, left.is_empty())?,
                Message::Other(kind) => return Err(self.keys.unexpected(kind)),
            }
        }
        let used = joined.len() - left.len();
        self.parts.keep(joined, used);
        Ok(())
    }

    /// Uses the peer's next key from here on. `last`: nothing follows in this record, which would be of both keys (§5.1).
    fn take_key(&mut self, asks: bool, last: bool) -> Result<(), Fault> {
        if !last {
            return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
        }
        if self.key_updates == KEY_UPDATES {
            return Err(PeerMisbehaved::TooManyKeyUpdateRequests.into());
        }
        self.key_updates += 1;
        self.opener.rekey(self.keys.next_to_open()?);
        // Said with what is written next, once for all that was asked before (§4.6.3).
        self.owes_key |= asks;
        Ok(())
    }

    fn take_alert(&mut self, alert: &[u8]) -> Result<(), Fault> {
        let (level, why) = match alert {
            [level, why] => (*level, AlertDescription::from(*why)),
            [] | [_] => return Err(InvalidMessage::MissingData("AlertDescription").into()),
            _ => return Err(InvalidMessage::TrailingData("AlertMessagePayload").into()),
        };
        let error = Error::AlertReceived(why);
        match (level, why) {
            (1 | 2, AlertDescription::CloseNotify) => self.end = Some(End::Closed),
            (1, AlertDescription::UserCanceled) if self.warnings < WARNINGS => self.warnings += 1,
            (1, AlertDescription::UserCanceled) => {
                return Err(PeerMisbehaved::TooManyWarningAlertsReceived.into());
            }
            (2, _) => return Err(error.into()),
            // TLS 1.3 has no other warnings, and no other levels.
            (1, _) => return Err(Fault::answered(error, AlertDescription::DecodeError)),
            _ => return Err(Fault::answered(error, AlertDescription::IllegalParameter)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
