//! Compressed JSON: arbitrary bytes, and valid streams that are cut or changed in one byte.
#![no_main]

use std::io::Write;

use flate2::{Compression, write::DeflateEncoder, write::GzEncoder, write::ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use mesh_api::inference::AppProtocol;
use mesh_api_fuzz::Ask;

fuzz_target!(|data: &[u8]| {
    let [size, flags, at, text @ ..] = data else {
        return;
    };
    let encoding = if flags & 1 == 0 { "gzip" } else { "deflate" };
    let ask = Ask::new(
        AppProtocol::OpenAi,
        "/v1/embeddings",
        Some(("content-encoding", encoding)),
    );
    let plain = Ask::new(AppProtocol::OpenAi, "/v1/embeddings", None);
    let mut body = match flags >> 1 & 3 {
        0 => text.to_vec(),
        _ => compress(encoding, flags & 8 == 0, text),
    };
    let untouched = flags >> 1 & 3 != 0 && flags & 16 == 0;
    if flags & 16 != 0 && !body.is_empty() {
        let at = usize::from(*at) % body.len();
        if flags & 32 == 0 {
            body.truncate(at);
        } else {
            body[at] ^= flags | 1;
        }
    }
    let whole = ask.read(&body, usize::MAX);
    let pieces = ask.read(&body, usize::from(*size % 16) + 1);
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok());
    if untouched {
        let model =
            |answer: Result<(_, mesh_api::inference::ModelRequest), _>| answer.map(|(_, last)| last.model);
        assert_eq!(model(whole), model(plain.read(text, usize::MAX)));
    }
});

fn compress(encoding: &str, zlib: bool, text: &[u8]) -> Vec<u8> {
    if encoding == "gzip" {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    } else if zlib {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }
}
