//! HTTP/1.1 requests carried over HTTP/2 between two sidecars: those whose answers come as streams of small events.
//!
//! On a connection of its own each event of each stream is a TLS record, a write and a read; on a shared connection the
//! events of many streams go together. Single answers stay on connections of their own, where they cost least
//! (docs/decisions/0013). The server's sidecar passes a carried request on in HTTP/1.1, as the client sent it.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use crate::headers;

/// Says, between two sidecars, that the client spoke HTTP/1.1. What comes from elsewhere under this name is removed.
pub const MESH_CARRIED: HeaderName = HeaderName::from_static("mesh-carried");
/// How long the body of a carried request may be, in bytes. Large ones are better off on a connection of their own, and
/// there a server that reads slowly holds up nobody else.
const MAX_BODY: u64 = 64 << 10;

/// Whether the request, as it came from the client, may be carried if its host can be an authority of HTTP/2: it is
/// HTTP/1.1, and its body is known to be small.
pub fn may(head: &Parts) -> bool {
    let length = match head.headers.get(CONTENT_LENGTH).map(|value| value.to_str()) {
        None => Some(0),
        Some(Ok(length)) => length.parse().ok(),
        Some(Err(_)) => None,
    };
    head.version == Version::HTTP_11
        && matches!(head.method, Method::GET | Method::POST)
        && !head.headers.contains_key(TRANSFER_ENCODING)
        && length.is_some_and(|length| length <= MAX_BODY)
}

/// Whether an answer is a stream of events: server-sent events (WHATWG HTML, §9.2), or lines of JSON.
pub fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        [&b"text/event-stream"[..], b"application/x-ndjson"]
            .iter()
            .any(|kind| value.as_bytes().starts_with(kind))
    })
}

/// Makes an HTTP/1.1 head one that is carried.
pub fn wrap(head: &mut Parts) {
    head.version = Version::HTTP_2;
    headers::set_target(head, None);
    head.headers.insert(MESH_CARRIED, HeaderValue::from_static("1.1"));
}

/// Makes a carried head what the client sent. From whom no sidecar vouches for, nothing is carried.
pub fn unwrap(head: &mut Parts, from_sidecar: bool) {
    let carried = head.headers.remove(MESH_CARRIED).is_some();
    if carried && from_sidecar && head.version == Version::HTTP_2 {
        head.version = Version::HTTP_11;
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
                may(&head) && headers::authority(&head).is_some(),
                expected,
                "{line} {field:?} {version:?}"
            );
        }
    }

    #[test]
    fn a_stream_is_told_by_its_type() {
        for (kind, expected) in [
            (Some("text/event-stream"), true),
            (Some("text/event-stream; charset=utf-8"), true),
            (Some("application/x-ndjson"), true),
            (Some("application/json"), false),
            (None, false),
        ] {
            let fields = kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind)));
            assert_eq!(is_stream(&fields.into_iter().collect()), expected, "{kind:?}");
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
            unwrap(&mut carried, true);
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
        unwrap(&mut forged, false);
        assert_eq!(forged.version, Version::HTTP_2);
        assert!(!forged.headers.contains_key(MESH_CARRIED));
    }
}
