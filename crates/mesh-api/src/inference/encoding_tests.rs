//! Compressed bodies, and the body scanner as a whole.

use std::io::Write;

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use http::{HeaderValue, Method};
use proptest::prelude::*;

use crate::inference::{
    AppProtocol, BodyScanner, Head, Limits, ModelRequest, Place, Recognition, RefusalReason, Unreadable,
    recognise,
};

use super::*;

fn scanner(encodings: &[&'static str]) -> BodyScanner {
    let mut headers = HeaderMap::new();
    for encoding in encodings {
        headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    let head = Head {
        method: &Method::POST,
        target: "/v1/chat/completions",
        headers: &headers,
    };
    match recognise(AppProtocol::OpenAi, &head) {
        Ok(Recognition::Body(scanner)) => scanner,
        other => panic!("{other:?}"),
    }
}

fn read(encoding: &'static str, body: &[u8], size: usize) -> Result<ModelRequest, RefusalReason> {
    let mut scanner = scanner(&[encoding]);
    for chunk in body.chunks(size) {
        scanner.push(chunk).map_err(|refusal| refusal.reason)?;
    }
    scanner.finish().map_err(|refusal| refusal.reason)
}

fn name(encoding: &'static str, body: &[u8]) -> Result<String, RefusalReason> {
    let whole = read(encoding, body, usize::MAX);
    assert_eq!(whole, read(encoding, body, 1));
    whole.map(|request| {
        request
            .model
            .map_or_else(|| "-".to_owned(), |model| model.to_string())
    })
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn bare(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

const BODY: &[u8] = br#"{"stream":true,"model":"m","messages":[]}"#;

#[test]
fn trap_4_compressed_names_are_read() {
    for (encoding, body) in [
        ("gzip", gzip(BODY)),
        ("x-gzip", gzip(BODY)),
        ("GZip", gzip(BODY)),
        ("deflate", zlib(BODY)),
        ("deflate", bare(BODY)),
        ("identity", BODY.to_vec()),
        ("", BODY.to_vec()),
    ] {
        assert_eq!(name(encoding, &body).unwrap(), "m", "{encoding}");
    }
    let request = read("gzip", &gzip(BODY), 7).unwrap();
    assert_eq!(request.place, Place::Compressed);
    assert_eq!(name("gzip", b"").unwrap(), "-");
    assert_eq!(name("deflate", b"").unwrap(), "-");
    let mut scanner = scanner(&["gzip"]);
    scanner.push(&gzip(BODY)).unwrap();
    assert_eq!(scanner.stream(), Some(true));
}

#[test]
fn other_encodings_are_unreadable() {
    for encodings in [
        &["br"][..],
        &["zstd"],
        &["gzip, gzip"],
        &["gzip", "gzip"],
        &["identity", "gzip"],
        &["my_gzip"],
    ] {
        let mut scanner = scanner(encodings);
        assert_eq!(
            scanner.found().unwrap().unreadable,
            Some(Unreadable::ContentEncoding),
            "{encodings:?}"
        );
        scanner.push(b"\x00\x01").unwrap();
        let request = scanner.finish().unwrap();
        assert_eq!(
            (request.model, request.unreadable),
            (None, Some(Unreadable::ContentEncoding))
        );
    }
}

#[test]
fn bodies_that_are_not_what_their_encoding_says_are_refused() {
    let compressed = gzip(BODY);
    let mut flipped = compressed.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    for (encoding, body) in [
        ("gzip", BODY.to_vec()),
        ("gzip", compressed[..compressed.len() - 1].to_vec()),
        ("gzip", [&compressed[..], &compressed].concat()),
        ("gzip", [&compressed[..], b"x"].concat()),
        ("gzip", flipped),
        ("gzip", zlib(BODY)),
        ("deflate", compressed),
        ("deflate", b"x".to_vec()),
        ("deflate", [zlib(BODY), vec![0]].concat()),
        ("gzip", gzip(b"{")),
    ] {
        assert_eq!(
            name(encoding, &body),
            Err(RefusalReason::MalformedBody),
            "{encoding} {body:x?}"
        );
    }
    assert_eq!(
        name("gzip", &gzip(br#"{"model":"a","model":"b"}"#)),
        Err(RefusalReason::DuplicateModel)
    );
}

#[test]
fn bombs_are_bounded() {
    let mut text = br#"{"model":"m","x":""#.to_vec();
    text.resize(text.len() + (8 << 20), b'a');
    text.extend(br#""}"#);
    let bomb = gzip(&text);
    let read = |limit| {
        let mut scanner = scanner(&["gzip"]).with_limits(Limits {
            inflated_bytes: limit,
        });
        scanner.push(&bomb).map_err(|refusal| refusal.reason)?;
        scanner.finish().map_err(|refusal| refusal.reason)
    };
    assert_eq!(read(8 << 20), Err(RefusalReason::InflatesTooFar));
    assert!(read(9 << 20).is_ok());
}

proptest! {
    #[test]
    fn chunks_do_not_matter(text in "[ -~]{0,300}", size in 1_usize..40) {
        let text = serde_json::json!({"a": text, "model": "m"}).to_string();
        for (encoding, body) in [("gzip", gzip(text.as_bytes())), ("deflate", zlib(text.as_bytes())), ("deflate", bare(text.as_bytes()))] {
            let request = read(encoding, &body, size).unwrap();
            prop_assert_eq!(request.model.unwrap().to_string(), "m");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut body in proptest::collection::vec(any::<u8>(), 0..60), start in proptest::option::of(0_usize..60), size in 1_usize..9) {
        if let Some(start) = start {
            let mut valid = gzip(BODY);
            valid.truncate(start);
            valid.append(&mut body);
            body = valid;
        }
        for encoding in ["gzip", "deflate"] {
            prop_assert_eq!(read(encoding, &body, usize::MAX).is_ok(), read(encoding, &body, size).is_ok());
        }
    }
}
