//! Tickets, with which a client resumes a session: in parts, and several at once.

use rustls::HandshakeKind;

use super::*;

/// A ticket that holds for two hours, and what it is for; as a server would send it.
fn ticket(content: &[u8]) -> Vec<u8> {
    let body = [
        &[0, 0, 0x1c, 0x20, 1, 2, 3, 4, 1, 9][..],
        &(content.len() as u16).to_be_bytes(),
        content,
        &[0, 0],
    ]
    .concat();
    [&[4, 0], &(body.len() as u16).to_be_bytes()[..], &body].concat()
}

#[test]
fn tickets_may_come_in_any_parts() {
    let configs = Configs::new();
    let (mut near, mut far) = configs.raw(Ours::Client);
    let two = [ticket(b"one"), ticket(b"another")].concat();
    for cut in 1..two.len() {
        let (one, rest) = two.split_at(cut);
        near.hear(&far.seal(ContentType::Handshake, one));
        near.hear(&far.seal(ContentType::Handshake, rest));
        near.hear(&far.say(b"."));
        assert_eq!(near.end(), "open", "{cut}");
        assert!(near.records.parts.is_empty());
    }
    for byte in &two {
        near.hear(&far.seal(ContentType::Handshake, &[*byte]));
    }
    near.hear(&far.say(b"."));
    assert_eq!((near.plain.len(), near.end()), (two.len(), "open".into()));
    assert!(near.outgoing.is_empty());
}

/// What would not fit into the next handshake must not get there.
#[test]
fn the_largest_ticket_passes_and_is_not_kept() {
    let configs = Configs::new();
    for (content, passes) in [(0xffff - 14, true), (0xffff - 13, false)] {
        let (mut near, mut far) = configs.raw(Ours::Client);
        let mut all = ticket(&bytes(content));
        // Its length does not fit into two bytes any more.
        let length = (all.len() - 4) as u32;
        all[..4].copy_from_slice(&[&[4], &length.to_be_bytes()[1..]].concat());
        for part in all.chunks(16_000) {
            near.hear(&far.seal(ContentType::Handshake, part));
        }
        near.hear(&far.say(b"behind it"));
        let end = if passes {
            "open"
        } else {
            "InvalidMessage(HandshakePayloadTooLarge)"
        };
        assert_eq!(near.end(), end);
        assert_eq!(near.plain == b"behind it", passes);
    }
    // One that is kept; the server does not know it.
    let (mut near, mut far) = configs.raw(Ours::Client);
    for part in ticket(&bytes(32_000)).chunks(16_000) {
        near.hear(&far.seal(ContentType::Handshake, part));
    }
    assert_eq!(near.end(), "open");
    let (_, far) = configs.pair(Ours::Client);
    assert_eq!(far.handshake_kind(), Some(HandshakeKind::Full));
}

#[test]
fn sessions_are_resumed_with_tickets_however_they_came() {
    for fragment in [None, Some(32), Some(33), Some(64), Some(150)] {
        let mut configs = Configs::new();
        let mut server = ServerConfig::clone(&configs.server);
        server.max_fragment_size = fragment;
        configs.server = Arc::new(server);
        for kind in [
            HandshakeKind::Full,
            HandshakeKind::Resumed,
            HandshakeKind::Resumed,
        ] {
            let (mut near, mut far) = configs.pair(Ours::Client);
            assert_eq!(far.handshake_kind(), Some(kind), "{fragment:?}");
            near.hear(&write(&mut far, b"x"));
            assert_eq!((near.plain.as_slice(), near.end()), (&b"x"[..], "open".into()));
        }
    }
}
