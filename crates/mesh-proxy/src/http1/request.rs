//! Writes requests: the head, with the framing of the body, and what stands between the pieces of a body.

use std::fmt;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST,
    MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Out, content_length};

/// What a field takes in a head, about, in bytes.
pub(super) const FIELD: usize = 48;

/// Writes a head. Nothing in it can end a line: neither a method, nor a target, nor a field may have that in it.
pub fn write_head(method: &Method, target: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + target.len() + headers.len() * FIELD);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(&mut out, headers);
    out.extend_from_slice(b"\r\n");
    out
}

fn write_fields<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>) {
    for (name, value) in fields {
        write_field(out, name, value);
    }
}

/// Writes a field, and ends its line.
pub(super) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// How a body is framed that is sent (RFC 9112, §6).
#[derive(Debug, PartialEq, Eq)]
pub enum Encoder {
    /// As so many more bytes.
    Length(u64),
    /// In chunks, and with these trailers if they come.
    Chunked(Vec<HeaderName>),
    /// Until the connection closes.
    UntilClose,
}

/// A body is shorter than its head has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short;

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its body is shorter than its length")
    }
}

impl std::error::Error for Short {}

impl Encoder {
    /// Decides for a request, and says so in its head. A length that the head announces is kept; `over`: there is no body; `exact`: how
    /// long it is, if that is known.
    pub fn choose(method: &Method, headers: &mut HeaderMap, over: bool, exact: Option<u64>) -> Self {
        let chunked = headers.remove(TRANSFER_ENCODING).is_some();
        match content_length(headers) {
            Ok(Some(length)) if !chunked => return Self::Length(length),
            Ok(None) => {}
            _ => drop(headers.remove(CONTENT_LENGTH)),
        }
        if over {
            return Self::Length(0);
        }
        if let Some(length) = exact {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            return Self::Length(length);
        }
        // These hardly ever have a body, and servers do not expect one.
        if matches!(*method, Method::GET | Method::HEAD | Method::CONNECT) && !chunked {
            return Self::Length(0);
        }
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        Self::Chunked(declared(headers))
    }

    /// Whether nothing more may come.
    pub fn is_over(&self) -> bool {
        *self == Self::Length(0)
    }

    /// Puts a piece of the body that is not empty behind everything else, in its frame. A piece that is longer than what is
    /// left is cut. `last`: nothing comes after it.
    ///
    /// # Errors
    /// When it is the last, and the head has announced more.
    pub fn piece(&mut self, mut piece: Bytes, last: bool, out: &mut Out) -> Result<(), Short> {
        match self {
            Self::Length(left) => {
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= piece.len() as u64;
                if last && *left > 0 {
                    return Err(Short);
                }
                out.push(piece);
            }
            Self::UntilClose => out.push(piece),
            Self::Chunked(_) => {
                out.expect(piece.len());
                write_size(out.own(), piece.len());
                out.push(piece);
                let after: &[u8] = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                out.own().extend_from_slice(after);
            }
        }
        Ok(())
    }

    /// Ends the body: puts what ends it behind everything else.
    ///
    /// # Errors
    /// When the head has announced more.
    pub fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Out) -> Result<(), Short> {
        match self {
            Self::Length(0) | Self::UntilClose => {}
            Self::Length(_) => return Err(Short),
            Self::Chunked(declared) => {
                let out = out.own();
                out.extend_from_slice(b"0\r\n");
                let allowed = |name: &HeaderName| declared.contains(name) && may_trail(name);
                let trailers = trailers.into_iter().flatten();
                write_fields(out, trailers.filter(|(name, _)| allowed(name)));
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

/// The trailers that a head announces (RFC 9110, §6.6.2).
pub(super) fn declared(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(TRAILER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}

/// Whether a field may be a trailer: framing, routing and what says how to read a body may not (RFC 9110, §6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    ![
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        HOST,
        MAX_FORWARDS,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
    ]
    .contains(name)
}

/// Writes the line before a chunk (RFC 9112, §7.1).
fn write_size(out: &mut Vec<u8>, size: usize) {
    let nibbles = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for nibble in (0..nibbles).rev() {
        out.push(b"0123456789ABCDEF"[(size >> (4 * nibble)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::http1::SLICES;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_head_is_written_as_it_is() {
        for (method, target, fields, expected) in [
            (Method::GET, "/a?b", &[][..], "GET /a?b HTTP/1.1\r\n\r\n"),
            (
                Method::OPTIONS,
                "*",
                &[("host", "x"), ("x-tag", "1"), ("x-tag", "2"), ("x-empty", "")],
                "OPTIONS * HTTP/1.1\r\nhost: x\r\nx-tag: 1\r\nx-tag: 2\r\nx-empty: \r\n\r\n",
            ),
        ] {
            let out = write_head(&method, target, &headers(fields));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_body_is_framed_by_what_is_known_of_it() {
        const CL: &str = "content-length";
        const TE: &str = "transfer-encoding";
        let chunked = Encoder::Chunked(Vec::new());
        for (method, given, over, exact, expected, left) in [
            (Method::GET, &[][..], true, Some(0), Encoder::Length(0), &[][..]),
            (Method::POST, &[], true, Some(0), Encoder::Length(0), &[]),
            (
                Method::POST,
                &[(CL, "0")],
                true,
                Some(0),
                Encoder::Length(0),
                &[(CL, "0")],
            ),
            (
                Method::POST,
                &[(CL, "5")],
                false,
                Some(5),
                Encoder::Length(5),
                &[(CL, "5")],
            ),
            (
                Method::POST,
                &[(CL, "5")],
                false,
                None,
                Encoder::Length(5),
                &[(CL, "5")],
            ),
            (
                Method::POST,
                &[],
                false,
                Some(7),
                Encoder::Length(7),
                &[(CL, "7")],
            ),
            (Method::GET, &[], false, Some(7), Encoder::Length(7), &[(CL, "7")]),
            (Method::GET, &[], false, None, Encoder::Length(0), &[]),
            (
                Method::DELETE,
                &[],
                false,
                None,
                Encoder::Chunked(Vec::new()),
                &[(TE, "chunked")],
            ),
            // No length beside chunks, and none that is no number.
            (
                Method::POST,
                &[(TE, "gzip, chunked"), (CL, "5")],
                false,
                None,
                Encoder::Chunked(Vec::new()),
                &[(TE, "chunked")],
            ),
            (
                Method::POST,
                &[(CL, "5"), (CL, "6")],
                false,
                None,
                chunked,
                &[(TE, "chunked")],
            ),
            (
                Method::POST,
                &[("trailer", "X-Sum, host"), ("trailer", "x-b")],
                false,
                None,
                Encoder::Chunked(vec![
                    HeaderName::from_static("x-sum"),
                    HOST,
                    HeaderName::from_static("x-b"),
                ]),
                &[("trailer", "X-Sum, host"), ("trailer", "x-b"), (TE, "chunked")],
            ),
        ] {
            let mut map = headers(given);
            let encoder = Encoder::choose(&method, &mut map, over, exact);
            assert_eq!(
                (encoder, map),
                (expected, headers(left)),
                "{method} {given:?} {over} {exact:?}"
            );
        }
    }

    /// What the pieces come to on the wire, and the trailers; none: an error.
    fn written(mut encoder: Encoder, pieces: &[(usize, bool)], end: Option<HeaderMap>) -> Option<Vec<u8>> {
        let mut out = Out::default();
        for (length, last) in pieces {
            encoder
                .piece(Bytes::from(vec![b'x'; *length]), *last, &mut out)
                .ok()?;
        }
        if let Some(trailers) = end {
            encoder.end(Some(&trailers), &mut out).ok()?;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = out.slices(&mut slices);
        Some(slices[..count].iter().flat_map(|slice| slice.to_vec()).collect())
    }

    #[test]
    fn pieces_go_in_their_frames() {
        let x = |count: usize| "x".repeat(count);
        let declared = || Encoder::Chunked(vec![HeaderName::from_static("x-sum"), HOST]);
        let trailers = || headers(&[("x-sum", "7"), ("x-other", "8"), ("host", "y")]);
        for (encoder, pieces, end, expected) in [
            (Encoder::Length(5), &[(3, false), (2, true)][..], None, Some(x(5))),
            (Encoder::Length(5), &[(3, false), (9, true)], None, Some(x(5))),
            (Encoder::Length(5), &[(3, false), (1, true)], None, None),
            (Encoder::Length(5), &[(3, false)], Some(HeaderMap::new()), None),
            (
                Encoder::Length(3),
                &[(3, false)],
                Some(HeaderMap::new()),
                Some(x(3)),
            ),
            (
                Encoder::Chunked(Vec::new()),
                &[(3, false), (16, true)],
                None,
                Some(format!("3\r\nxxx\r\n10\r\n{}\r\n0\r\n\r\n", x(16))),
            ),
            (
                Encoder::Chunked(Vec::new()),
                &[(171, false)],
                Some(trailers()),
                Some(format!("AB\r\n{}\r\n0\r\n\r\n", x(171))),
            ),
            (
                declared(),
                &[],
                Some(trailers()),
                Some("0\r\nx-sum: 7\r\n\r\n".to_owned()),
            ),
        ] {
            let name = format!("{encoder:?} {pieces:?}");
            let out = written(encoder, pieces, end).map(|out| String::from_utf8(out).unwrap());
            assert_eq!(out, expected, "{name}");
        }
    }

    #[test]
    fn sizes_are_hexadecimal() {
        for (size, expected) in [
            (0, "0\r\n"),
            (9, "9\r\n"),
            (15, "F\r\n"),
            (16, "10\r\n"),
            (65_536, "10000\r\n"),
            (usize::MAX, "FFFFFFFFFFFFFFFF\r\n"),
        ] {
            let mut out = Vec::new();
            write_size(&mut out, size);
            assert_eq!(out, expected.as_bytes());
        }
    }
}
