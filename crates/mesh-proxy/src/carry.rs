//! HTTP/1.1 requests carried over HTTP/2 between two sidecars: those whose answers come as streams of small events, and
//! short ones while many are in flight.
//!
//! On a connection of its own each event of each stream, and each short request, is a TLS record, a write and a read; on a
//! shared connection many go together. A request that is alone costs least on a connection of its own
//! (docs/decisions/0013). The server's sidecar passes a carried request on in HTTP/1.1, as the client sent it.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version, response};
use hyper::ext::ReasonPhrase;

use crate::headers;

/// Says, between two sidecars, of a request that the client spoke HTTP/1.1, and of its answer which phrase the server's
/// status line has, if it is one of its own. Of what a client says under this name, and a server in a carried answer, nothing
/// is left.
pub const MESH_CARRIED: HeaderName = HeaderName::from_static("mesh-carried");
/// How long the body of a carried request may be, in bytes. Large ones are better off on a connection of their own, and
/// there a server that reads slowly holds up nobody else.
const MAX_BODY: u64 = 64 << 10;
/// How long a short body is at most, in bytes: it fits in one frame of HTTP/2 (RFC 9113, §4.2). Of 64 KiB each way a carried
/// request costs a third more than one on a connection of its own (docs/decisions/0015).
const SHORT: u64 = 16 << 10;
/// How many requests must be in flight for each worker, on average, until short ones are carried: from here on enough of
/// them go together (docs/decisions/0015).
const CROWD: u32 = 5;

/// What the answers of an endpoint are like, as the last one to a request that [may] be carried was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Answers {
    /// They are long, or nobody knows how long.
    #[default]
    Long,
    /// They fit in one frame.
    Short,
    /// They are streams of events.
    Events,
}

impl Answers {
    /// What an answer is like: server-sent events (WHATWG HTML, §9.2) and lines of JSON are streams.
    pub fn of(headers: &HeaderMap) -> Self {
        let events = headers.get(CONTENT_TYPE).is_some_and(|value| {
            [&b"text/event-stream"[..], b"application/x-ndjson"]
                .iter()
                .any(|kind| value.as_bytes().starts_with(kind))
        });
        match headers.get(CONTENT_LENGTH).and_then(number) {
            _ if events => Self::Events,
            Some(0..=SHORT) => Self::Short,
            _ => Self::Long,
        }
    }

    /// Whether a request with a body of `length` bytes, which [may] be carried, is better carried. `crowd`: how many are in
    /// flight for each worker, on average.
    pub fn suit(self, length: u64, crowd: u32) -> bool {
        match self {
            Self::Events => true,
            Self::Short => length <= SHORT && crowd >= CROWD,
            Self::Long => false,
        }
    }
}

/// The length of the body in bytes, if the request, as it came from the client, may be carried: it is HTTP/1.1, and its
/// body is known to be small. Its host must besides be one that can be an authority of HTTP/2.
pub fn may(head: &Parts) -> Option<u64> {
    let length = head.headers.get(CONTENT_LENGTH).map_or(Some(0), number)?;
    let may = head.version == Version::HTTP_11
        && matches!(head.method, Method::GET | Method::POST)
        && !head.headers.contains_key(TRANSFER_ENCODING)
        && length <= MAX_BODY;
    may.then_some(length)
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

/// Makes an HTTP/1.1 head one that is carried.
pub fn wrap(head: &mut Parts) {
    head.version = Version::HTTP_2;
    headers::set_target(head, None);
    head.headers.insert(MESH_CARRIED, HeaderValue::from_static("1.1"));
}

/// Makes a carried head what the client sent, and says whether it was carried. From whom no sidecar vouches for, nothing is.
pub fn unwrap(head: &mut Parts, from_sidecar: bool) -> bool {
    let marked = head.headers.remove(MESH_CARRIED).is_some();
    let carried = marked && from_sidecar && head.version == Version::HTTP_2;
    if carried {
        head.version = Version::HTTP_11;
    }
    carried
}

/// Makes the answer to a carried request one that is carried.
pub fn wrap_answer<B>(answer: &mut Response<B>) {
    let phrase = answer.extensions_mut().remove::<ReasonPhrase>();
    let headers = answer.headers_mut();
    headers.remove(MESH_CARRIED);
    if let Some(phrase) = phrase.and_then(|phrase| HeaderValue::from_bytes(phrase.as_bytes()).ok()) {
        headers.insert(MESH_CARRIED, phrase);
    }
}

/// Makes a carried answer what the server sent.
pub fn unwrap_answer(head: &mut response::Parts) {
    head.version = Version::HTTP_11;
    let phrase = head.headers.remove(MESH_CARRIED);
    if let Some(phrase) = phrase.and_then(|phrase| ReasonPhrase::try_from(phrase.as_bytes()).ok()) {
        head.extensions.insert(phrase);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(line: &str, fields: &[(&str, &str)], version: Version) -> Parts {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_small_requests_of_http1_are_carried() {
        for (line, field, version, expected) in [
            ("GET /", ("host", "llm"), Version::HTTP_11, true),
            ("GET /", ("host", "a b"), Version::HTTP_11, false),
            ("GET /", ("x-host", "llm"), Version::HTTP_11, false),
            (
                "POST http://llm/",
                ("content-length", "65536"),
                Version::HTTP_11,
                true,
            ),
            (
                "POST http://llm/",
                ("content-length", "65537"),
                Version::HTTP_11,
                false,
            ),
            (
                "POST http://llm/",
                ("content-length", "many"),
                Version::HTTP_11,
                false,
            ),
            (
                "POST http://llm/",
                ("content-length", "\u{e9}"),
                Version::HTTP_11,
                false,
            ),
            (
                "POST http://llm/",
                ("transfer-encoding", "chunked"),
                Version::HTTP_11,
                false,
            ),
            (
                "PUT http://llm/",
                ("content-length", "5"),
                Version::HTTP_11,
                false,
            ),
            ("GET http://llm/", ("x-tag", "1"), Version::HTTP_10, false),
            ("GET http://llm/", ("x-tag", "1"), Version::HTTP_2, false),
        ] {
            let head = head(line, &[field], version);
            assert_eq!(
                may(&head).is_some() && headers::authority(&head).is_some(),
                expected,
                "{line} {field:?} {version:?}"
            );
        }
    }

    #[test]
    fn what_answers_are_like_is_told_by_their_heads() {
        for (fields, expected) in [
            (&[("content-type", "text/event-stream")][..], Answers::Events),
            (
                &[
                    ("content-type", "text/event-stream; charset=utf-8"),
                    ("content-length", "5"),
                ],
                Answers::Events,
            ),
            (&[("content-type", "application/x-ndjson")], Answers::Events),
            (
                &[("content-type", "application/json"), ("content-length", "16384")],
                Answers::Short,
            ),
            (&[("content-length", "0")], Answers::Short),
            (&[("content-length", "16385")], Answers::Long),
            (&[("content-length", "many")], Answers::Long),
            (&[("content-type", "application/json")], Answers::Long),
            (&[], Answers::Long),
        ] {
            let headers = fields
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(Answers::of(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn events_are_carried_always_and_short_ones_in_a_crowd() {
        for (answers, length, crowd, expected) in [
            (Answers::Events, MAX_BODY, 1, true),
            (Answers::Short, SHORT, CROWD, true),
            (Answers::Short, SHORT, CROWD - 1, false),
            (Answers::Short, SHORT + 1, CROWD, false),
            (Answers::Long, 0, CROWD, false),
        ] {
            assert_eq!(
                answers.suit(length, crowd),
                expected,
                "{answers:?} {length} {crowd}"
            );
        }
    }

    #[test]
    fn a_head_comes_out_as_it_went_in() {
        for (line, fields) in [
            ("GET /a?b=c", &[("host", "llm.ml:8000")][..]),
            (
                "POST http://llm.ml/a",
                &[("host", "llm.ml"), ("content-length", "2")],
            ),
            (
                "POST /a",
                &[
                    ("host", "llm"),
                    ("te", "trailers"),
                    ("x-tag", "1"),
                    ("x-tag", "2"),
                ],
            ),
        ] {
            let mut sent = head(line, fields, Version::HTTP_11);
            let mut carried = head(line, fields, Version::HTTP_11);
            wrap(&mut carried);
            assert!(carried.uri.scheme().is_some() && carried.uri.authority().is_some());
            assert!(unwrap(&mut carried, true));
            headers::set_target(&mut sent, None);
            headers::set_target(&mut carried, None);
            assert_eq!(carried.version, sent.version, "{line}");
            assert_eq!(carried.uri, sent.uri, "{line}");
            assert_eq!(carried.headers, sent.headers, "{line}");
        }
    }

    #[test]
    fn nobody_else_can_say_that_a_request_is_carried() {
        let mut forged = head("GET http://llm/", &[("mesh-carried", "1.1")], Version::HTTP_2);
        assert!(!unwrap(&mut forged, false));
        assert_eq!(forged.version, Version::HTTP_2);
        assert!(!forged.headers.contains_key(MESH_CARRIED));
    }

    #[test]
    fn a_phrase_comes_out_as_it_went_in() {
        for phrase in [None, Some("Quite Fine")] {
            let mut answer = Response::new(());
            // A server can't put words into the mouth of its sidecar.
            let forged = HeaderValue::from_static("Forged");
            answer.headers_mut().insert(MESH_CARRIED, forged);
            if let Some(phrase) = phrase {
                let phrase = ReasonPhrase::try_from(phrase.as_bytes()).unwrap();
                answer.extensions_mut().insert(phrase);
            }
            wrap_answer(&mut answer);
            assert!(answer.extensions().is_empty());
            let mut head = answer.into_parts().0;
            unwrap_answer(&mut head);
            let came = head.extensions.get::<ReasonPhrase>();
            assert_eq!(came.map(ReasonPhrase::as_bytes), phrase.map(str::as_bytes));
            assert!(head.headers.is_empty(), "{head:?}");
        }
    }
}
