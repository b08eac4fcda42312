//! Where a record begins and ends (RFC 8446, §5.1): kind, version and length in five bytes, then its body.

use rustls::{ContentType, Error, InvalidMessage};

use super::fault::Fault;

/// How many bytes stand before a record's body.
pub(super) const HEADER: usize = 5;
/// How many bytes the plaintext of a record may have (§5.1).
pub(super) const PLAIN: usize = 16 << 10;
/// How many bytes the body of an encrypted record may have (§5.2).
const BODY: usize = PLAIN + 256;
/// How many bytes a record has, at most.
pub(in crate::tls) const RECORD: usize = HEADER + BODY;

/// How many bytes the first record in `bytes` has, if its length is there.
pub(in crate::tls) fn size(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, _, high, low, ..] => Some(HEADER + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// How many bytes the first encrypted record in `bytes` has, if all of it is there.
///
/// # Errors
/// When it begins as no encrypted record does. A record that would be too long is refused before it comes; rustls still
/// takes those that TLS 1.2 allowed.
pub(super) fn complete(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let ([kind, major, ..], Some(size)) = (bytes, size(bytes)) else {
        return Ok(None);
    };
    match ContentType::from(*kind) {
        ContentType::ApplicationData => {}
        ContentType::Unknown(_) => return Err(InvalidMessage::InvalidContentType.into()),
        // What is encrypted says it is application data (§5.2), and everything is encrypted by now.
        got_type => {
            let expect_types = vec![ContentType::ApplicationData];
            return Err(Error::InappropriateMessage {
                expect_types,
                got_type,
            }
            .into());
        }
    }
    if *major != 3 {
        return Err(InvalidMessage::UnknownProtocolVersion.into());
    }
    if size > RECORD {
        return Err(Error::PeerSentOversizedRecord.into());
    }
    Ok((bytes.len() >= size).then_some(size))
}
