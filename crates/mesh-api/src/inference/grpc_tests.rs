//! gRPC bodies: framing, streams, compression, and what must be held for a rewrite.

use std::io::Write;

use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::inference::tests::describe;

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flag];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes
}

fn infer(model: &str, tensor: usize) -> Vec<u8> {
    let mut message = vec![0x0a, model.len() as u8];
    message.extend(model.as_bytes());
    message.extend([0x3a, 0x80 | (tensor & 0x7f) as u8, (tensor >> 7) as u8]);
    message.resize(message.len() + tensor, 0xff);
    message
}

const UNARY: GrpcCall = GrpcCall {
    operation: Operation::Infer,
    layout: Layout::Strings,
    streaming: false,
};
const STREAM: GrpcCall = GrpcCall {
    streaming: true,
    ..UNARY
};

fn headers(encoding: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
    headers
}

fn scan<'a>(
    call: GrpcCall,
    headers: &HeaderMap,
    limit: u64,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<ModelRequest>, RefusalReason> {
    let mut scanner = GrpcScanner::new(call, headers, limit);
    let mut told = Vec::new();
    for chunk in chunks {
        let mut tell = |request| {
            told.push(request);
            Ok(())
        };
        scanner.push(chunk, &mut tell).map_err(|refusal| refusal.reason)?;
    }
    scanner.finish().map_err(|refusal| refusal.reason)?;
    Ok(told)
}

/// Scans a body whole and byte by byte, and describes every message.
fn read(call: GrpcCall, headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, RefusalReason> {
    let whole = scan(call, headers, 1 << 20, [body]);
    assert_eq!(whole, scan(call, headers, 1 << 20, body.chunks(1)));
    Ok(whole?.iter().map(describe).collect())
}

#[test]
fn trap_6_every_message_of_a_stream_names_its_model() {
    let body = [
        frame(0, &infer("a", 300)),
        frame(0, &infer("b", 0)),
        frame(0, &[]),
        frame(0, &infer("a", 1)),
    ]
    .concat();
    assert_eq!(
        read(STREAM, &HeaderMap::new(), &body).unwrap(),
        ["infer a", "infer b", "infer", "infer a"]
    );
    assert_eq!(read(STREAM, &HeaderMap::new(), &[]).unwrap(), [""; 0]);
}

#[test]
fn a_unary_call_has_one_message() {
    let body = [frame(0, &infer("a", 3)), frame(0, &infer("b", 3))].concat();
    assert_eq!(
        read(UNARY, &HeaderMap::new(), &body),
        Err(RefusalReason::MalformedBody)
    );
    assert_eq!(
        read(UNARY, &HeaderMap::new(), &frame(0, &infer("a", 3))).unwrap(),
        ["infer a"]
    );
}

#[test]
fn what_must_be_held_for_a_rewrite() {
    let body = [frame(0, &infer("a", 20)), frame(0, &infer("b", 20))].concat();
    let mut scanner = GrpcScanner::new(STREAM, &HeaderMap::new(), 0);
    let mut held = Vec::new();
    for byte in body.chunks(1) {
        scanner.push(byte, &mut |_| Ok(())).unwrap();
        held.push(scanner.hold_from());
    }
    let second = body.len() as u64 / 2;
    // The prefix (5), the name (3), and the tag of the field behind it.
    let expected: Vec<_> = (0..body.len() as u64)
        .map(|at| match at {
            0..8 => Some(0),
            _ if (second..second + 8).contains(&at) => Some(second),
            _ => None,
        })
        .collect();
    assert_eq!(held, expected);
    assert_eq!(
        GrpcScanner::new(STREAM, &HeaderMap::new(), 0).hold_from(),
        Some(0)
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn trap_7_messages_may_be_compressed_one_by_one() {
    let mixed = [
        frame(1, &gzip(&infer("a", 300))),
        frame(0, &infer("b", 3)),
        frame(1, &gzip(&infer("c", 0))),
    ]
    .concat();
    assert_eq!(
        read(STREAM, &headers("gzip"), &mixed).unwrap(),
        ["infer a", "infer b", "infer c"]
    );
    assert_eq!(
        read(UNARY, &headers("deflate"), &frame(1, &zlib(&infer("a", 9)))).unwrap(),
        ["infer a"]
    );
    let foreign = [frame(1, b"whatever"), frame(0, &infer("b", 3))].concat();
    let told = scan(STREAM, &headers("snappy"), 0, [&foreign[..]]).unwrap();
    assert_eq!(told[0].unreadable, Some(Unreadable::MessageEncoding));
    assert_eq!(describe(&told[1]), "infer b");
    assert_eq!(
        read(UNARY, &HeaderMap::new(), &frame(1, &gzip(&infer("a", 9)))),
        Err(RefusalReason::MalformedBody)
    );
    assert_eq!(
        read(UNARY, &headers("gzip"), &frame(1, &infer("a", 9))),
        Err(RefusalReason::MalformedBody)
    );
    let trailing = [gzip(&infer("a", 9)), gzip(&infer("b", 9))].concat();
    assert_eq!(
        read(UNARY, &headers("gzip"), &frame(1, &trailing)),
        Err(RefusalReason::MalformedBody)
    );
}

#[test]
fn bombs_are_bounded() {
    let bomb = frame(1, &gzip(&vec![0; 4 << 20]));
    let mut message = infer("a", 9);
    message.extend([0x3a, 0x80, 0x80, 0x80, 0x02]);
    message.resize(message.len() + (4 << 20), 0);
    let named = frame(1, &gzip(&message));
    assert_eq!(
        scan(UNARY, &headers("gzip"), 1 << 20, [&named[..]]),
        Err(RefusalReason::InflatesTooFar)
    );
    assert_eq!(
        scan(UNARY, &headers("gzip"), 8 << 20, [&named[..]])
            .unwrap()
            .len(),
        1
    );
    assert!(scan(UNARY, &headers("gzip"), 1 << 20, [&bomb[..]]).is_err());
}

#[test]
fn malformed_frames_are_refused() {
    for bad in [
        &b"\x02\x00\x00\x00\x00"[..],
        b"\x00\x00\x00\x00\x05ab",
        b"\x00\x00",
        b"\x80\x00\x00\x00\x00",
    ] {
        assert_eq!(
            read(STREAM, &HeaderMap::new(), bad),
            Err(RefusalReason::MalformedBody),
            "{bad:x?}"
        );
    }
    let admin = GrpcCall {
        operation: Operation::Admin,
        layout: Layout::Unnamed,
        streaming: false,
    };
    assert_eq!(
        read(admin, &HeaderMap::new(), &frame(0, b"\xff\xff")).unwrap(),
        ["admin"]
    );
}

proptest! {
    #[test]
    fn chunks_do_not_matter(models in proptest::collection::vec(("[a-z]{0,9}", 0_usize..300, any::<bool>()), 0..5), size in 1_usize..64) {
        let mut body = Vec::new();
        for (model, tensor, compress) in &models {
            let message = infer(model, *tensor);
            body.extend(if *compress { frame(1, &gzip(&message)) } else { frame(0, &message) });
        }
        let told = scan(STREAM, &headers("gzip"), 1 << 20, body.chunks(size)).unwrap();
        let names: Vec<_> = told.iter().map(|request| request.model.as_ref().map_or("", |model| model.as_str())).collect();
        let expected: Vec<_> = models.iter().map(|(model, ..)| model.as_str()).collect();
        prop_assert_eq!(names, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut body in proptest::collection::vec(any::<u8>(), 0..80), size in 1_usize..9) {
        for flag in [0, 1] {
            if body.len() > 5 {
                let length = (body.len() - 5) as u8;
                body[..5].copy_from_slice(&[flag, 0, 0, 0, length]);
            }
            for encoding in ["gzip", "deflate", "br"] {
                prop_assert_eq!(scan(STREAM, &headers(encoding), 999, [&body[..]]), scan(STREAM, &headers(encoding), 999, body.chunks(size)));
            }
        }
    }
}
