//! TLS records of a peer that has done its handshake: sealed with its real keys, whatever is in them, or bytes that are
//! none. Reading ends, with no more plaintext than was said. The first byte says which side the proxy is, and in which
//! pieces it all comes; behind it come records: what they are and how long, in a byte each, and what is in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_proxy_fuzz::tls::{Peer, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// More than is ever answered.
const ROOM: usize = 2 << 20;

fuzz_target!(|data: &[u8]| {
    let [way, rest @ ..] = data else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (near, mut far) = duplex(ROOM);
        let (mut near, mut peer) = pair(way & 1 == 0, near, &mut far).await;
        let (bytes, said) = records(&mut peer, rest);
        let piece = match usize::from(way >> 1) {
            0 => ROOM,
            few => few * few,
        };
        let writing = async {
            for piece in bytes.chunks(piece) {
                far.write_all(piece).await.expect("there is room");
                tokio::task::yield_now().await;
            }
            far.shutdown().await.expect("it ends");
            std::future::pending::<()>().await
        };
        let reading = async {
            let (mut room, mut all) = ([0; 5_000], 0);
            while let Ok(read @ 1..) = near.read(&mut room).await {
                all += read;
                // An answer, which takes the next key along if it was asked for.
                let _ = near.write_all(&room[..read.min(100)]).await;
            }
            assert!(all <= said, "{all} of {said}");
            let _ = near.shutdown().await;
        };
        tokio::select! {
            () = writing => {}
            () = reading => {}
        }
    });
});

/// What the peer says, and how much of it may be plaintext.
fn records(peer: &mut Peer, mut rest: &[u8]) -> (Vec<u8>, usize) {
    let (mut bytes, mut said) = (Vec::new(), 0);
    while let [what, length, more @ ..] = rest {
        let (payload, left) = more.split_at(usize::from(*length).min(more.len()));
        rest = left;
        let mut data = |peer: &mut Peer, data: &[u8]| {
            said += data.len();
            peer.seal(23, data)
        };
        bytes.extend(match what % 16 {
            0 => payload.to_vec(),
            1 | 2 => data(peer, payload),
            3 => data(peer, &[payload, &vec![7; usize::from(*length) * 70]].concat()),
            // Padded, with its kind wherever the last byte is that is not zero.
            4 => data(peer, &[payload, &[0; 300]].concat()),
            5 => {
                said += payload.len() + 300;
                peer.seal(0, &[payload, &[0; 300]].concat())
            }
            6..=8 => peer.seal(22, payload),
            9 => peer.seal(21, payload),
            10 => {
                said += payload.len();
                peer.seal(*length, payload)
            }
            11 | 12 => {
                let update = peer.seal(22, &[24, 0, 0, 1, what >> 4 & 1]);
                peer.rekey();
                update
            }
            13 => {
                peer.rekey();
                Vec::new()
            }
            // A ticket, to a client.
            14 => peer.seal(22, &[&[4, 0, 0, *length][..], payload].concat()),
            // Touched on its way.
            _ => {
                let mut record = data(peer, payload);
                let at = usize::from(what >> 4) % record.len();
                record[at] ^= 1;
                record
            }
        });
    }
    (bytes, said)
}
