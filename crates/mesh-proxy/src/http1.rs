//! HTTP/1.1 as it is on the wire, to clients and to servers: heads, and where bodies begin and end (RFC 9112). Pure: no
//! sockets, no clock, no waiting. What a peer sends is anything, until it was read here.

use std::fmt;
use std::io;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};

use crate::body::BodyError;

mod answer;
mod asked;
mod chunks;
mod framing;
mod out;
mod request;
mod response;

pub use answer::{Known, Manner};
pub use asked::{Asked, Refused, RequestReader};
pub use chunks::Chunks;
pub use framing::{Framing, Piece};
pub use out::{Out, SLICES};
pub use request::{Encoder, Short, write_head};
pub use response::{Head, HeadLimits, HeadReader};

/// How many fields are read without asking for memory.
const ON_STACK: usize = 100;

/// Why a request has no answer, or an answer no end.
#[derive(Debug)]
pub enum Broken {
    /// What the server sent is not HTTP/1.1, for this reason.
    Unreadable(&'static str),
    /// The server closed the connection before its answer was over.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// The request can't be sent whole.
    Request(BodyError),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => f.write_str(why),
            Self::Closed => f.write_str("the connection was closed before the answer was over"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Request(error) => write!(f, "the request was not sent whole: {error}"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The length that a head announces, if it does (RFC 9110, §8.6).
///
/// # Errors
/// When it is no number, or there are several that differ.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Broken> {
    let mut known = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for item in value.as_bytes().split(|byte| *byte == b',') {
            let length = digits(item.trim_ascii()).ok_or(Broken::Unreadable("its length is no number"))?;
            if known.replace(length).is_some_and(|before| before != length) {
                return Err(Broken::Unreadable("it has lengths that differ"));
            }
        }
    }
    Ok(known)
}

/// Whether this word is in a list of them.
fn lists(list: &HeaderValue, word: &[u8]) -> bool {
    let mut items = list.as_bytes().split(|byte| *byte == b',');
    items.any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
}

/// The number that decimal digits, and nothing else, make.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether there is an empty line, which ends a head or trailers, among these bytes. Lines may end without a return.
fn has_empty_line(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .any(|(at, _)| matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_one_number() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&["0"][..], Ok(Some(0))),
            (&["18446744073709551615"], Ok(Some(u64::MAX))),
            (&["5", "5"], Ok(Some(5))),
            (&["5, 5"], Ok(Some(5))),
            (&["18446744073709551616"], Err(())),
            (&["5", "6"], Err(())),
            (&["5, 6"], Err(())),
            (&["5,"], Err(())),
            (&[""], Err(())),
            (&["-5"], Err(())),
            (&["+5"], Err(())),
            (&["0x5"], Err(())),
            (&["5 5"], Err(())),
        ] {
            let headers: HeaderMap = values
                .iter()
                .map(|value| (CONTENT_LENGTH, HeaderValue::from_static(value)))
                .collect();
            assert_eq!(content_length(&headers).map_err(drop), expected, "{values:?}");
        }
    }

    #[test]
    fn an_empty_line_is_seen() {
        for (bytes, expected) in [
            (&b""[..], false),
            (b"a\r\n", false),
            (b"a\r\n\r", false),
            (b"a\r\n\r\n", true),
            (b"a\n\n", true),
            (b"a\n\r\nb", true),
            (b"a\r\nb\r\n", false),
        ] {
            assert_eq!(has_empty_line(bytes), expected, "{bytes:?}");
        }
    }
}
