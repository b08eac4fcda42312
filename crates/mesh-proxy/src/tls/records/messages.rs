//! Messages that come after the handshake (RFC 8446, §4.6), whole or in parts, several of them in one record.

use rustls::{HandshakeType, InvalidMessage};

use super::fault::Fault;

/// How many bytes the body of a message may have. As many as rustls takes.
const BODY: usize = 0xffff;

/// A message.
pub(super) enum Message<'a> {
    /// With which the session can be resumed.
    Ticket(&'a [u8]),
    /// The peer uses its next key from here on; it asks for the same if this is true.
    KeyUpdate(bool),
    /// One that nobody sends after the handshake.
    Other(HandshakeType),
}

/// The first message in `bytes`, a kind and a length in three bytes before its body, and what comes behind it; none if it is not complete.
///
/// # Errors
/// When it is too long, or no message.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Message<'_>, &[u8])>, Fault> {
    let [kind, a, b, c, rest @ ..] = bytes else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    let kind = HandshakeType::from(*kind);
    // What is refused need not be there.
    if !matches!(kind, HandshakeType::NewSessionTicket | HandshakeType::KeyUpdate) {
        return Ok(Some((Message::Other(kind), rest)));
    }
    if length > BODY {
        return Err(InvalidMessage::HandshakePayloadTooLarge.into());
    }
    let Some((body, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    let message = match kind {
        HandshakeType::KeyUpdate => Message::KeyUpdate(asks_for_key(body)?),
        _ => Message::Ticket(body),
    };
    Ok(Some((message, rest)))
}

fn asks_for_key(body: &[u8]) -> Result<bool, Fault> {
    match body {
        [0] => Ok(false),
        [1] => Ok(true),
        [_] => Err(InvalidMessage::InvalidKeyUpdate.into()),
        [] => Err(InvalidMessage::MissingData("KeyUpdateRequest").into()),
        _ => Err(InvalidMessage::TrailingData("HandshakeMessagePayload").into()),
    }
}

/// The beginning of a message, until the rest of it comes.
#[derive(Default)]
pub(super) struct Parts(Vec<u8>);

impl Parts {
    /// Whether a message has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts what came behind what was kept. Parts are kept one behind the other, not moved for each that comes.
    pub(super) fn join(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut joined = std::mem::take(&mut self.0);
        joined.extend_from_slice(payload);
        joined
    }

    /// Keeps what is left once so many bytes were used up.
    pub(super) fn keep(&mut self, mut joined: Vec<u8>, used: usize) {
        if used < joined.len() {
            joined.drain(..used);
            self.0 = joined;
        }
    }
}
