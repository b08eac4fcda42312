//! Tables of first bytes, and the property that cutting them into pieces changes nothing.

use proptest::prelude::*;

use super::super::testing::{hello, records};
use super::*;

/// What the bytes say in the end, and after how many of them.
fn decided(bytes: &[u8]) -> Option<(Spoken, usize)> {
    (0..=bytes.len()).find_map(|length| detect(&bytes[..length]).map(|spoken| (spoken, length)))
}

#[test]
fn protocols_are_told_apart_by_their_first_bytes() {
    let tls = |name: Option<&str>, protocols: &[&str]| {
        Spoken::Tls(ClientHello {
            server_name: name.map(str::to_owned),
            protocols: protocols.iter().map(|name| name.as_bytes().to_vec()).collect(),
        })
    };
    let long_target = format!("http://fraud.ml/{} HTTP/1.1\r\n", "x".repeat(4_000));
    let cases: Vec<(Vec<u8>, Option<Spoken>)> = vec![
        // HTTP/1
        (b"GET / HTTP/1.1\r\n".into(), Some(Spoken::Http1)),
        (
            b"POST /v2/models/fraud/infer HTTP/1.0\r\n".into(),
            Some(Spoken::Http1),
        ),
        (b"OPTIONS * HTTP/1.1\r\n".into(), Some(Spoken::Http1)),
        (b"CONNECT fraud.ml:80 HTTP/1.1\r\n".into(), Some(Spoken::Http1)),
        (b"GET http://fraud.ml/ HTTP/1.1\r\n".into(), Some(Spoken::Http1)),
        (b"PROPFIND / HTTP/1.1\r\n".into(), Some(Spoken::Http1)),
        (b"get / HTTP/1.1\r\n".into(), Some(Spoken::Http1)),
        ([b"GET ", long_target.as_bytes()].concat(), Some(Spoken::Http1)),
        // Not decided yet
        (b"".into(), None),
        (b"G".into(), None),
        (b"GET".into(), None),
        (b"GET ".into(), None),
        (b"PROPFIND /a HTTP/1".into(), None),
        (b"PRI * HTTP/2.0\r\n".into(), None),
        (b"\x16\x03\x01".into(), None),
        // HTTP/2
        (HTTP2_PREFACE.to_vec(), Some(Spoken::Http2)),
        ([&HTTP2_PREFACE[..], &[0; 9]].concat(), Some(Spoken::Http2)),
        (b"PRI * HTTP/2.0\r\n\r\nXX".into(), Some(Spoken::Opaque)),
        // TLS
        (
            records(&hello(Some("Fraud.ML"), &["h2"]), 16_384),
            Some(tls(Some("fraud.ml"), &["h2"])),
        ),
        (
            records(&hello(None, &["h2", "http/1.1"]), 7),
            Some(tls(None, &["h2", "http/1.1"])),
        ),
        (
            records(&hello(Some("10.0.0.1"), &[]), 1),
            Some(tls(Some("10.0.0.1"), &[])),
        ),
        (records(&hello(Some("bad name"), &[]), 100), Some(tls(None, &[]))),
        (b"\x16\x02\x01\x00\x05".into(), Some(Spoken::Opaque)),
        (b"\x16\x03\x05\x00\x05".into(), Some(Spoken::Opaque)),
        (b"\x16\x03\x01\x00\x00".into(), Some(Spoken::Opaque)),
        (b"\x16\x03\x01\x40\x01".into(), Some(Spoken::Opaque)),
        // A ServerHello, and a ClientHello that is longer than anybody looks at.
        (b"\x16\x03\x01\x00\x05\x02".into(), Some(Spoken::Opaque)),
        (
            b"\x16\x03\x01\x00\x05\x01\x01\x00\x00".into(),
            Some(Spoken::Opaque),
        ),
        // An alert in the middle of the message.
        (
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x40\x00\x15".into(),
            Some(Spoken::Opaque),
        ),
        // Others: PostgreSQL's SSLRequest and StartupMessage, Redis' arrays and inline commands, memcached, SMTP, SSH, MySQL
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f".into(), Some(Spoken::Opaque)),
        (
            b"\x00\x00\x00\x29\x00\x03\x00\x00user".into(),
            Some(Spoken::Opaque),
        ),
        (b"*1\r\n$4\r\nPING\r\n".into(), Some(Spoken::Opaque)),
        (b"PING\r\n".into(), Some(Spoken::Opaque)),
        (b"GET key\r\n".into(), Some(Spoken::Opaque)),
        (b"SET a b HTTP/1.1".into(), Some(Spoken::Opaque)),
        (b"set k 0 0 5\r\n".into(), Some(Spoken::Opaque)),
        (b"EHLO mail.example\r\n".into(), Some(Spoken::Opaque)),
        (b"SSH-2.0-OpenSSH_9.2\r\n".into(), Some(Spoken::Opaque)),
        (b" GET / HTTP/1.1\r\n".into(), Some(Spoken::Opaque)),
        (b"GET  HTTP/1.1\r\n".into(), Some(Spoken::Opaque)),
        (
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1".into(),
            Some(Spoken::Opaque),
        ),
        (
            [b"LOOK ".to_vec(), vec![b'x'; MAX_PREFIX]].concat(),
            Some(Spoken::Opaque),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(detect(&bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_answer_comes_as_early_as_it_can() {
    for (bytes, needed) in [
        (&b"GET / HTTP/1.1\r\n"[..], 5),
        (b"*1\r\n", 3),
        (b"\x00\x00", 1),
        (b"SET a b", 7),
        (b"\x16\x04", 2),
    ] {
        assert_eq!(
            decided(bytes).map(|(_, length)| length),
            Some(needed),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn hosts_are_read_from_whole_heads_only() {
    for (head, authority) in [
        ("GET / HTTP/1.1\r\nHost: fraud.ml:80\r\n\r\n", Some("fraud.ml:80")),
        ("GET / HTTP/1.1\r\nX: 1\r\nHOST:fraud\r\n\r\nbody", Some("fraud")),
        ("GET http://a.b/c?d HTTP/1.1\r\nHost: fraud\r\n\r\n", None),
        ("CONNECT a.b:80 HTTP/1.1\r\nHost: a.b:80\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: fraud.ml", None),
        ("GET / HTTP/1.1\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", None),
        ("GET\r\n\r\n", None),
        ("", None),
    ] {
        assert_eq!(http1_host(head.as_bytes()), authority, "{head:?}");
    }
}

/// Bytes that begin like something, and go on anyhow.
fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let known = prop_oneof![
        Just(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        Just(b"BREW coffee:80 HTTP/1.1\r\n".to_vec()),
        Just(HTTP2_PREFACE.to_vec()),
        (1..50_usize).prop_map(|size| records(&hello(Some("fraud.ml"), &["h2"]), size)),
        Just(vec![]),
    ];
    (
        known,
        any::<prop::sample::Index>(),
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(mut bytes, cut, more)| {
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes.extend(more);
            bytes
        })
}

proptest! {
    #[test]
    fn pieces_say_what_the_whole_says(bytes in beginnings(), cuts in prop::collection::vec(0..200_usize, 0..6)) {
        let whole = decided(&bytes).map(|(spoken, _)| spoken);
        prop_assert_eq!(detect(&bytes), whole.clone());
        // Whoever reads in pieces asks after each, and stops at the first answer.
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let pieces = cuts.into_iter().find_map(|cut| detect(&bytes[..cut]));
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn hellos_are_read_however_they_are_cut(name in "[a-z]{1,20}\\.[a-z]{1,20}", size in 1..400_usize, more in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = records(&hello(Some(&name), &["h2"]), size);
        bytes.extend(more);
        let Some(Spoken::Tls(hello)) = detect(&bytes) else { return Err(TestCaseError::fail("no TLS")) };
        prop_assert_eq!(hello.server_name, Some(name));
    }
}
