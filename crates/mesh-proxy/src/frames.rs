//! The frames that an HTTP/2 peer sends, counted by what they are worth, so that one that only makes work is told to go.
//!
//! What HTTP/2's implementation bounds itself is left to it: bytes and number of a head's frames, streams, resets of
//! streams it has not handed on, tiny DATA frames. It answers each PING and SETTINGS, though, and takes any number of
//! resets that come one by one; and it takes no more than a hundred empty DATA frames in the life of a connection, which
//! honest peers send in days: those are named, to be left out. Only the nine bytes before each frame are looked at
//! (RFC 9113, §4.1).

use crate::cut::Cut;

/// What a client sends before its first frame (RFC 9113, §3.4).
const PREFACE: usize = 24;
/// The bytes before a frame's payload.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a SETTINGS frame costs: it is answered, and may touch the window of every stream.
const SETTINGS_COST: u32 = 10;
/// How many frames beyond the allowance are let go because their heads come in pieces.
const TORN: u32 = 100;
/// What a frame that carries something earns.
const USEFUL: u32 = 4;

/// A peer's frames.
#[derive(Debug)]
pub struct Frames {
    /// Bytes still to come of the preface or a payload.
    skip: usize,
    head: [u8; HEAD],
    /// How many bytes of a frame's head are there.
    have: usize,
    /// The stream whose head is not whole.
    block: Option<u32>,
    empty: Allowance,
    resets: Allowance,
    server: bool,
    /// How many WINDOW_UPDATEs what was written may still be answered with.
    answers: u32,
    /// Frames beyond the allowance that were let go.
    torn: u32,
    /// Where in the bytes read last the frames stand that say nothing.
    idle: Vec<usize>,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// They go on; whether they end in the middle of a head.
    Fine(bool),
    /// The peer is to go. Only so many bytes go on: up to the end of a frame.
    Enough(Cut, usize),
    /// The peer is to go, and cuts its frames so that there is no place to tell it.
    Torn(Cut),
}

/// What may be spent: regained by a tenth each second, and by what is earned.
#[derive(Debug)]
struct Allowance {
    most: u32,
    left: u32,
    second: u32,
}

impl Allowance {
    const fn new(most: u32, now: u32) -> Self {
        Self {
            most,
            left: most,
            second: now,
        }
    }

    fn earn(&mut self, more: u32) {
        self.left = (self.left + more).min(self.most);
    }

    /// False: there is nothing left.
    fn spend(&mut self, cost: u32, now: u32) -> bool {
        if self.left < cost {
            let passed = now.saturating_sub(self.second);
            self.second = now;
            let regained = u64::from(passed) * u64::from(self.most.div_ceil(10));
            let left = u64::from(self.left) + regained;
            self.left = u32::try_from(left).unwrap_or(u32::MAX).min(self.most);
        }
        let enough = self.left >= cost;
        self.left = self.left.saturating_sub(cost);
        enough
    }
}

impl Frames {
    /// Of a client that connects in second `now`.
    pub fn of_client(max_empty_frames: u32, max_resets: u32, now: u32) -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            block: None,
            empty: Allowance::new(max_empty_frames, now),
            // In halves: a stream earns one, a reset costs two.
            resets: Allowance::new(max_resets.saturating_mul(2), now),
            server: false,
            answers: 0,
            torn: 0,
            idle: Vec::new(),
        }
    }

    /// Of a server. It may refuse as many streams as it likes.
    pub fn of_server(max_empty_frames: u32, now: u32) -> Self {
        Self {
            skip: 0,
            server: true,
            ..Self::of_client(max_empty_frames, 0, now)
        }
    }

    /// So many bytes were written to the peer. A reader answers a frame with two WINDOW_UPDATEs at most, one for its
    /// stream and one for the connection, and answers many frames at once: as many are free as frames' heads fit in there.
    pub fn wrote(&mut self, bytes: usize) {
        let more = u32::try_from(bytes / HEAD).unwrap_or(u32::MAX);
        self.answers = self.answers.saturating_add(more).min(self.empty.most);
    }

    /// The stream whose head is not whole.
    pub fn block(&self) -> Option<u32> {
        self.block
    }

    /// Leaves the frames that say nothing out of the bytes read last, and says how many bytes are left.
    pub fn leave_out(&mut self, bytes: &mut [u8]) -> usize {
        let Some(&first) = self.idle.first() else {
            return bytes.len();
        };
        let mut kept = first;
        for (number, at) in self.idle.iter().enumerate() {
            let next = self.idle.get(number + 1).copied().unwrap_or(bytes.len());
            bytes.copy_within(at + HEAD..next, kept);
            kept += next - (at + HEAD);
        }
        self.idle.clear();
        kept
    }

    /// Takes in what was read, in second `now`.
    pub fn read(&mut self, bytes: &[u8], now: u32) -> Seen {
        self.idle.clear();
        let mut at = 0;
        while at < bytes.len() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len() - at);
                self.skip -= skipped;
                at += skipped;
                continue;
            }
            let more = (HEAD - self.have).min(bytes.len() - at);
            self.head[self.have..self.have + more].copy_from_slice(&bytes[at..at + more]);
            self.have += more;
            at += more;
            if self.have < HEAD {
                break;
            }
            self.have = 0;
            if let Some(cut) = self.frame(now) {
                if more == HEAD {
                    return Seen::Enough(cut, at - HEAD);
                }
                // It has been handed on in part already: the next one will do.
                self.torn += 1;
                if self.torn > TORN {
                    return Seen::Torn(cut);
                }
            } else if self.says_nothing() && more == HEAD {
                self.idle.push(at - HEAD);
            }
        }
        let whole = self.block.is_none() && self.have == 0;
        let in_headers = self.skip > 0 && matches!(self.head[3], HEADERS | CONTINUATION);
        Seen::Fine(!whole || in_headers)
    }

    /// Whether the frame that begins is a DATA frame without data that ends nothing.
    fn says_nothing(&self) -> bool {
        let [a, b, c, kind, flags, ..] = self.head;
        kind == DATA && [a, b, c] == [0; 3] && flags & END_STREAM == 0
    }

    /// A frame's head is there.
    fn frame(&mut self, now: u32) -> Option<Cut> {
        let [a, b, c, kind, flags, d, e, f, g] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length as usize;
        let fine = match kind {
            DATA if self.says_nothing() => self.empty.spend(1, now),
            DATA => {
                if length > 0 {
                    self.empty.earn(USEFUL);
                }
                true
            }
            HEADERS => {
                self.empty.earn(USEFUL);
                self.resets.earn(1);
                self.open_block(flags, u32::from_be_bytes([d & 0x7f, e, f, g]));
                true
            }
            CONTINUATION => {
                self.open_block(flags, u32::from_be_bytes([d & 0x7f, e, f, g]));
                self.empty.spend(1, now)
            }
            RST_STREAM if self.server => true,
            RST_STREAM if !self.resets.spend(2, now) => return Some(Cut::Resets),
            RST_STREAM => true,
            WINDOW_UPDATE if self.answers > 0 => {
                self.answers -= 1;
                true
            }
            SETTINGS => self.empty.spend(SETTINGS_COST, now),
            _ => self.empty.spend(1, now),
        };
        match (fine, self.server) {
            (true, _) => None,
            (false, false) => Some(Cut::EmptyFrames),
            (false, true) => Some(Cut::ServerFlood),
        }
    }

    fn open_block(&mut self, flags: u8, stream: u32) {
        self.block = (flags & END_HEADERS == 0).then_some(stream);
    }
}

/// The frames that make HTTP/2's implementation end a connection with ENHANCE_YOUR_CALM, for which it has no call: a
/// head in endless empty frames, which it takes only so many of.
#[derive(Debug)]
pub struct Calm {
    stream: [u8; 4],
    /// Whether the head has begun.
    begun: bool,
    at: usize,
}

impl Calm {
    /// To be read behind the last frame that goes on. `block`: the stream whose head is not whole.
    pub fn new(block: Option<u32>) -> Self {
        Self {
            stream: block.unwrap_or(0x7fff_ffff).to_be_bytes(),
            begun: block.is_some(),
            at: 0,
        }
    }

    /// Fills the room there is.
    pub fn fill(&mut self, room: &mut [u8]) {
        for byte in room {
            *byte = match self.at {
                3 if self.begun => CONTINUATION,
                3 => HEADERS,
                5..HEAD => self.stream[self.at - 5],
                _ => 0,
            };
            self.at += 1;
            if self.at == HEAD {
                self.at = 0;
                self.begun = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    const PING: u8 = 6;

    /// A client with its preface sent, an allowance of 100 empty frames and 10 resets.
    fn client() -> Frames {
        let mut frames = Frames::of_client(100, 10, 0);
        assert_eq!(frames.read(&[b'x'; PREFACE], 0), Seen::Fine(false));
        frames
    }

    /// How many of these frames pass.
    fn passes(frames: &mut Frames, bytes: &[u8], now: u32) -> usize {
        (0..100_000)
            .take_while(|_| matches!(frames.read(bytes, now), Seen::Fine(_)))
            .count()
    }

    #[test]
    fn empty_frames_pass_as_long_as_there_is_an_allowance() {
        for (kind, payload, count) in [
            (PING, 8, 100),
            (SETTINGS, 6, 10),
            (2, 5, 100),
            (WINDOW_UPDATE, 4, 100),
            (0x20, 0, 100),
        ] {
            let bytes = frame(kind, 0, 0, &vec![0; payload]);
            assert_eq!(passes(&mut client(), &bytes, 0), count, "{kind}");
            for (second, more) in [(1, count / 10), (1_000, count)] {
                let mut frames = client();
                for _ in 0..count {
                    assert_eq!(frames.read(&bytes, 0), Seen::Fine(false));
                }
                assert_eq!(
                    passes(&mut frames, &bytes, second),
                    more,
                    "{kind}, second {second}"
                );
            }
        }
    }

    #[test]
    fn frames_of_use_pay_for_others() {
        let mut frames = client();
        let pair = [frame(DATA, 0, 1, b"x"), frame(PING, 0, 0, &[0; 8])].concat();
        assert_eq!(passes(&mut frames, &pair, 0), 100_000);
        let mut frames = client();
        let updates = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).repeat(2);
        for _ in 0..1_000 {
            frames.wrote(HEAD * 2);
            assert_eq!(
                frames.read(&updates, 0),
                Seen::Fine(false),
                "what answers what was sent is free"
            );
        }
    }

    #[test]
    fn what_was_written_is_answered_late_and_not_more_often_than_it_can_be() {
        for (writes, bytes, answers) in [
            (10, HEAD, 10),
            (1, HEAD * 10, 10),
            (1, HEAD - 1, 0),
            (1, 1 << 30, 100),
        ] {
            let mut frames = client();
            for _ in 0..writes {
                frames.wrote(bytes);
            }
            let update = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
            let paid = 100;
            assert_eq!(
                passes(&mut frames, &update, 0),
                answers + paid,
                "{writes} of {bytes}"
            );
        }
    }

    #[test]
    fn resets_pass_while_more_streams_live_than_die() {
        let open = |stream| frame(HEADERS, END_HEADERS, stream, b"\x82");
        let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        let mut frames = client();
        let rapid = [open(1), reset(1)].concat();
        assert_eq!(
            passes(&mut frames, &rapid, 0),
            19,
            "each costs one more than it earns"
        );
        let mut frames = client();
        let half = [open(1), open(3), reset(1)].concat();
        assert_eq!(passes(&mut frames, &half, 0), 100_000);
        let mut server = Frames::of_server(100, 0);
        assert_eq!(
            passes(&mut server, &reset(1), 0),
            100_000,
            "a server refuses what it likes"
        );
    }

    #[test]
    fn however_frames_are_cut_they_are_counted_the_same() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        let all: Vec<u8> = std::iter::repeat_n(ping, 300).flatten().collect();
        for piece in [1, 2, 7, 9, 16, 17, 100, 5_100] {
            let mut frames = client();
            let mut passed = 0;
            let mut cut = None;
            for bytes in all.chunks(piece) {
                match frames.read(bytes, 0) {
                    Seen::Fine(_) => passed += bytes.len(),
                    Seen::Enough(why, before) => {
                        passed += before;
                        cut = Some(why);
                        assert!(passed % 17 == 0, "cut between frames: {piece}");
                        break;
                    }
                    Seen::Torn(why) => {
                        cut = Some(why);
                        break;
                    }
                }
            }
            assert_eq!(cut, Some(Cut::EmptyFrames), "{piece}");
            assert!((100 * 17..=201 * 17).contains(&passed), "{piece}: {passed}");
        }
    }

    #[test]
    fn frames_that_say_nothing_are_left_out() {
        let nothing = frame(DATA, 0, 1, b"");
        let end = frame(DATA, END_STREAM, 1, b"");
        let data = frame(DATA, 0, 3, b"hello");
        let ping = frame(PING, 0, 0, &[0; 8]);
        for frames in [
            vec![&nothing],
            vec![&data, &nothing, &nothing, &end],
            vec![&nothing, &data, &nothing, &ping],
            vec![&end, &data, &ping],
            vec![&ping, &nothing],
        ] {
            let mut bytes = frames.iter().copied().flatten().copied().collect::<Vec<u8>>();
            let useful = frames.iter().filter(|frame| ***frame != nothing);
            let expected = useful.copied().flatten().copied().collect::<Vec<u8>>();
            let mut frames = client();
            assert_eq!(frames.read(&bytes, 0), Seen::Fine(false));
            let kept = frames.leave_out(&mut bytes);
            assert_eq!(bytes[..kept], expected);
            assert_eq!(frames.leave_out(&mut bytes[..kept]), kept, "only once");
        }
        // What came in part has been handed on already.
        let mut frames = client();
        frames.read(&nothing[..4], 0);
        frames.read(&nothing[4..], 0);
        assert_eq!(frames.leave_out(&mut [0; 5]), 5);
        assert_eq!(passes(&mut client(), &nothing, 0), 100, "they are counted");
    }

    #[test]
    fn half_a_head_is_told() {
        let mut frames = client();
        let whole = frame(HEADERS, END_HEADERS, 1, b"\x82\x84");
        assert_eq!(frames.read(&whole[..4], 0), Seen::Fine(true));
        assert_eq!(frames.read(&whole[4..10], 0), Seen::Fine(true));
        assert_eq!(frames.read(&whole[10..], 0), Seen::Fine(false));
        assert_eq!(frames.read(&frame(HEADERS, 0, 3, b"\x82"), 0), Seen::Fine(true));
        assert_eq!(frames.block(), Some(3));
        assert_eq!(
            frames.read(&frame(CONTINUATION, END_HEADERS, 3, b"\x84"), 0),
            Seen::Fine(false)
        );
        let data = frame(DATA, 0, 1, &[0; 100]);
        assert_eq!(
            frames.read(&data[..50], 0),
            Seen::Fine(false),
            "a body may take its time"
        );
    }

    #[test]
    fn calm_is_a_head_without_end() {
        let mut bytes = [0; HEAD * 3];
        Calm::new(None).fill(&mut bytes);
        assert_eq!(bytes[..HEAD], frame(HEADERS, 0, 0x7fff_ffff, b""));
        assert_eq!(bytes[HEAD..HEAD * 2], frame(CONTINUATION, 0, 0x7fff_ffff, b""));
        Calm::new(Some(5)).fill(&mut bytes);
        assert_eq!(bytes[..HEAD], frame(CONTINUATION, 0, 5, b""));
    }
}
