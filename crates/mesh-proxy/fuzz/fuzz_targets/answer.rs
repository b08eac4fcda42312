//! A server's answer as the proxy reads it, head and body: however its bytes are cut into pieces, they mean the same. The
//! first byte says whether a HEAD was asked, and how long the pieces are.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mesh_proxy::http1::{HeadLimits, HeadReader, Piece};

const LIMITS: HeadLimits = HeadLimits { bytes: 1_000, fields: 20 };

/// What an answer came to.
#[derive(Debug, PartialEq)]
struct Answer {
    /// Status, fields, and whether the connection stays.
    head: Option<(u16, String, bool)>,
    data: Vec<u8>,
    trailers: String,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    /// More bytes are needed, or the connection ends it.
    Open,
    /// So many bytes were not of it.
    Over(usize),
    Refused,
}

fn read(bytes: &[u8], piece: usize, to_head: bool) -> Answer {
    let mut answer = Answer { head: None, data: Vec::new(), trailers: String::new(), end: End::Open };
    let mut reader = HeadReader::new(LIMITS, to_head);
    let mut framing = None;
    let mut buf = BytesMut::new();
    let mut pieces = bytes.chunks(piece);
    loop {
        let Some(framed) = &mut framing else {
            match reader.read(&mut buf) {
                Ok(Some(head)) => {
                    answer.head = Some((head.status.as_u16(), format!("{:?}", head.headers), head.keeps));
                    framing = Some(head.framing);
                }
                Ok(None) => match pieces.next() {
                    Some(piece) => buf.extend_from_slice(piece),
                    None => return answer,
                },
                Err(_) => {
                    answer.end = End::Refused;
                    return answer;
                }
            }
            continue;
        };
        match framed.next(&mut buf) {
            Ok(Piece::Data(data)) => {
                assert!(!data.is_empty());
                answer.data.extend_from_slice(&data);
            }
            Ok(Piece::Trailers(trailers)) => answer.trailers = format!("{trailers:?}"),
            Ok(Piece::Over) => {
                answer.end = End::Over(buf.len() + pieces.map(<[u8]>::len).sum::<usize>());
                return answer;
            }
            Ok(Piece::More) => match pieces.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None => return answer,
            },
            Err(_) => {
                answer.end = End::Refused;
                return answer;
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    let (to_head, piece) = (how & 1 == 1, usize::from(how >> 1).max(1));
    let whole = read(bytes, bytes.len().max(1), to_head);
    let cut = read(bytes, piece, to_head);
    // What can't become a head may be found out later when it comes in pieces.
    let late = whole.head.is_none() && whole.end == End::Refused && cut.head.is_none() && cut.end == End::Open;
    assert!(whole == cut || late, "{whole:?} {cut:?}");
});
