//! HTTP/2 at both listeners: a client's frames, good and bad, and bytes that are none. The connection ends, whatever
//! they say. The first byte says which way, and whether the preface is sent; behind it come frames: kind, flags, stream
//! and length in a byte each, and the payload. A kind beyond the known ones stands for a request, or for plain bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_proxy::observe::Direction;
use mesh_proxy_fuzz::serve;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// POST http://web/v1/chat/completions, by the static table and literals (RFC 7541).
const HEAD: &[u8] = b"\x83\x86\x41\x03web\x44\x14/v1/chat/completions";

fuzz_target!(|data: &[u8]| {
    let [way, rest @ ..] = data else { return };
    let direction = if way & 1 == 0 { Direction::Outbound } else { Direction::Inbound };
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    if way & 2 == 0 {
        pieces.push(PREFACE.to_vec());
    }
    let mut rest = rest;
    while let [kind, flags, stream, length, more @ ..] = rest {
        let (payload, left) = more.split_at(usize::from(*length).min(more.len()));
        rest = left;
        pieces.push(match kind % 16 {
            kind @ 0..=10 => frame(kind, *flags, *stream, payload),
            11..=13 => frame(1, flags & 1 | 4, stream | 1, &[HEAD, payload].concat()),
            // A length that is not the payload's.
            14 => {
                let mut bytes = frame(kind / 16, *flags, *stream, payload);
                bytes[..3].copy_from_slice(&[flags & 1, *stream, *length]);
                bytes
            }
            _ => payload.to_vec(),
        });
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    serve(direction, true, &pieces, b"");
});

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, stream]);
    bytes.extend(payload);
    bytes
}
