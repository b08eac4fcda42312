//! HTTP/1.1 at both listeners: a client's bytes in pieces, and a server's answer to them. The connection ends, whatever
//! both say. The first byte says which way; behind it come, each with its length before it, the answer and the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_proxy::observe::Direction;
use mesh_proxy_fuzz::serve;

fuzz_target!(|data: &[u8]| {
    let [way, rest @ ..] = data else { return };
    let direction = if way & 1 == 0 { Direction::Outbound } else { Direction::Inbound };
    let mut parts = Vec::new();
    let mut rest = rest;
    while let [high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high & 0x0f, *low])).min(more.len());
        let (part, left) = more.split_at(length);
        parts.push(part);
        rest = left;
    }
    if let [answer, pieces @ ..] = parts.as_slice() {
        serve(direction, false, pieces, answer);
    }
});
