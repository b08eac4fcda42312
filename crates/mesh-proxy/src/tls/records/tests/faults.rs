//! What no peer may say: which error it is, and which alert it is told. As rustls has it, but for what is said of each.

use rustls::HandshakeType;

use super::*;

/// What a peer sends.
#[derive(Clone)]
enum Sent {
    /// A record with this inside.
    Sealed(ContentType, Vec<u8>),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}
use Sent::{Bytes, Sealed};

struct Case {
    sent: Vec<Sent>,
    error: Error,
    alert: Option<AlertDescription>,
    /// Whether rustls says the same.
    same: bool,
}

fn case(
    sent: Vec<Sent>,
    error: impl Into<Error>,
    alert: impl Into<Option<AlertDescription>>,
    same: bool,
) -> Case {
    Case {
        sent,
        error: error.into(),
        alert: alert.into(),
        same,
    }
}

fn data(content: &[u8]) -> Sent {
    Sealed(ContentType::ApplicationData, content.to_vec())
}

fn messages(content: &[u8]) -> Sent {
    Sealed(ContentType::Handshake, content.to_vec())
}

fn alert(content: &[u8]) -> Sent {
    Sealed(ContentType::Alert, content.to_vec())
}

fn header(kind: u8, version: u8, length: usize) -> Sent {
    let length = (length as u16).to_be_bytes();
    Bytes([&[kind, version, 3][..], &length].concat())
}

/// Records that can't be.
fn records() -> Vec<Case> {
    use AlertDescription as Alert;
    let no_data = |got_type| Error::InappropriateMessage {
        expect_types: vec![ContentType::ApplicationData],
        got_type,
    };
    let none = PeerMisbehaved::IllegalTlsInnerPlaintext;
    let empty = PeerMisbehaved::TooManyEmptyFragments;
    vec![
        case(
            vec![Bytes(b"GET / HTTP/1.1".to_vec())],
            InvalidMessage::InvalidContentType,
            Alert::DecodeError,
            true,
        ),
        case(
            vec![header(23, 2, 100)],
            InvalidMessage::UnknownProtocolVersion,
            Alert::DecodeError,
            true,
        ),
        case(
            vec![header(23, 3, 16_641)],
            Error::PeerSentOversizedRecord,
            Alert::RecordOverflow,
            false,
        ),
        case(
            vec![header(23, 3, 0xffff)],
            Error::PeerSentOversizedRecord,
            Alert::RecordOverflow,
            false,
        ),
        case(
            vec![header(23, 3, 0)],
            Error::DecryptError,
            Alert::BadRecordMac,
            true,
        ),
        case(
            vec![Bytes([&[23, 3, 3, 0, 16][..], &[0; 16]].concat())],
            Error::DecryptError,
            Alert::BadRecordMac,
            true,
        ),
        case(
            vec![Bytes([&[23, 3, 3, 0, 40][..], &[7; 40]].concat())],
            Error::DecryptError,
            Alert::BadRecordMac,
            true,
        ),
        // What is not encrypted says what it is.
        case(
            vec![Bytes(vec![21, 3, 3, 0, 2, 1, 0])],
            no_data(ContentType::Alert),
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![Bytes(vec![20, 3, 3, 0, 1, 1])],
            no_data(ContentType::ChangeCipherSpec),
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![header(22, 3, 100)],
            no_data(ContentType::Handshake),
            Alert::UnexpectedMessage,
            false,
        ),
        // What is encrypted and too long, or nothing but padding, or of no kind.
        case(
            vec![data(&[0; 16_385])],
            Error::PeerSentOversizedRecord,
            Alert::RecordOverflow,
            true,
        ),
        case(
            vec![Sealed(ContentType::Unknown(0), vec![0; 16_385])],
            Error::PeerSentOversizedRecord,
            Alert::RecordOverflow,
            true,
        ),
        case(
            vec![Sealed(ContentType::Unknown(0), vec![0; 9])],
            none.clone(),
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![Sealed(ContentType::Unknown(0), vec![])],
            none,
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![Sealed(ContentType::ChangeCipherSpec, vec![1])],
            PeerMisbehaved::IllegalMiddleboxChangeCipherSpec,
            Alert::UnexpectedMessage,
            true,
        ),
        case(
            vec![Sealed(ContentType::Heartbeat, vec![1])],
            InvalidMessage::InvalidContentType,
            Alert::DecodeError,
            true,
        ),
        case(
            vec![Sealed(ContentType::Unknown(99), vec![1])],
            InvalidMessage::InvalidContentType,
            Alert::DecodeError,
            true,
        ),
        // Nothing in it.
        case(
            vec![data(b""); 33],
            empty.clone(),
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![messages(b"")],
            empty.clone(),
            Alert::UnexpectedMessage,
            false,
        ),
        case(vec![alert(b"")], empty, Alert::UnexpectedMessage, false),
    ]
}

/// Alerts that end a connection, and those that can't be.
fn alerts() -> Vec<Case> {
    use AlertDescription as Alert;
    let received = Error::AlertReceived;
    let warnings = PeerMisbehaved::TooManyWarningAlertsReceived;
    vec![
        case(
            vec![alert(&[2, 40])],
            received(Alert::HandshakeFailure),
            None,
            true,
        ),
        case(vec![alert(&[2, 90])], received(Alert::UserCanceled), None, true),
        case(
            vec![alert(&[1, 40])],
            received(Alert::HandshakeFailure),
            Alert::DecodeError,
            true,
        ),
        case(
            vec![alert(&[9, 40])],
            received(Alert::HandshakeFailure),
            Alert::IllegalParameter,
            true,
        ),
        case(
            vec![alert(&[9, 0])],
            received(Alert::CloseNotify),
            Alert::IllegalParameter,
            true,
        ),
        case(
            vec![alert(&[1, 90]); 5],
            warnings,
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![alert(&[2])],
            InvalidMessage::MissingData("AlertDescription"),
            Alert::DecodeError,
            true,
        ),
        case(
            vec![alert(&[1, 0, 1])],
            InvalidMessage::TrailingData("AlertMessagePayload"),
            Alert::DecodeError,
            true,
        ),
    ]
}

/// Messages after the handshake that can't be.
fn posts(ours: Ours) -> Vec<Case> {
    use AlertDescription as Alert;
    let expect_types = match ours {
        Ours::Client => vec![HandshakeType::NewSessionTicket, HandshakeType::KeyUpdate],
        Ours::Server => vec![HandshakeType::KeyUpdate],
    };
    let unexpected = |got_type| Error::InappropriateHandshakeMessage {
        expect_types: expect_types.clone(),
        got_type,
    };
    let interleaved = PeerMisbehaved::MessageInterleavedWithHandshakeMessage;
    let unaligned = PeerMisbehaved::KeyEpochWithPendingFragment;
    let update = [24, 0, 0, 1, 0];
    let mut cases = vec![
        case(
            vec![messages(&[24, 0, 0, 1, 2])],
            InvalidMessage::InvalidKeyUpdate,
            Alert::IllegalParameter,
            true,
        ),
        case(
            vec![messages(&[24, 0, 0, 0])],
            InvalidMessage::MissingData("KeyUpdateRequest"),
            Alert::DecodeError,
            true,
        ),
        case(
            vec![messages(&[24, 0, 0, 2, 0, 0])],
            InvalidMessage::TrailingData("HandshakeMessagePayload"),
            Alert::DecodeError,
            true,
        ),
        case(
            vec![messages(&[&update[..], &update].concat())],
            unaligned.clone(),
            Alert::UnexpectedMessage,
            true,
        ),
        case(
            vec![messages(&[&update[..], &[24]].concat())],
            unaligned,
            Alert::UnexpectedMessage,
            true,
        ),
        case(
            vec![messages(&update[..3]), data(b"x")],
            interleaved.clone(),
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![messages(&update[..1]), alert(&[1, 0])],
            interleaved,
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![messages(&[24, 1, 0, 0])],
            InvalidMessage::HandshakePayloadTooLarge,
            Alert::DecodeError,
            false,
        ),
        case(
            vec![messages(&[1, 0, 0, 0])],
            unexpected(HandshakeType::ClientHello),
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![messages(&[13, 0xff, 0xff, 0xff])],
            unexpected(HandshakeType::CertificateRequest),
            Alert::UnexpectedMessage,
            false,
        ),
        case(
            vec![messages(&[20, 0, 0, 1, 1])],
            unexpected(HandshakeType::Finished),
            Alert::UnexpectedMessage,
            true,
        ),
        case(
            vec![messages(&[99, 0, 0, 0])],
            unexpected(HandshakeType::Unknown(99)),
            Alert::UnexpectedMessage,
            true,
        ),
    ];
    cases.push(match ours {
        Ours::Client => case(
            vec![messages(&[4, 0, 0, 1, 1])],
            InvalidMessage::MissingData("u32"),
            Alert::DecodeError,
            true,
        ),
        Ours::Server => case(
            vec![messages(&[4, 0, 0, 0])],
            unexpected(HandshakeType::NewSessionTicket),
            Alert::UnexpectedMessage,
            false,
        ),
    });
    cases
}

fn all(far: &mut Near, sent: &[Sent]) -> Vec<u8> {
    let mut all = Vec::new();
    for sent in sent {
        match sent {
            Sealed(kind, content) => all.extend(far.seal(*kind, content)),
            Bytes(bytes) => all.extend(bytes),
        }
    }
    all
}

#[test]
fn each_fault_has_its_error_and_its_alert() {
    let configs = Configs::new();
    for ours in BOTH {
        for case in records().into_iter().chain(alerts()).chain(posts(ours)) {
            let (mut near, mut far) = configs.raw(ours);
            near.hear(&all(&mut far, &[data(b"before")]));
            near.hear(&all(&mut far, &case.sent));
            let what = format!("{ours:?} {:?}", case.error);
            assert_eq!(near.end(), format!("{:?}", case.error), "{what}");
            assert_eq!(near.plain, b"before", "{what}");
            let mut told = left(&mut near.outgoing);
            match case.alert {
                Some(alert) => {
                    let expected = (ContentType::Alert, vec![2, alert.into()]);
                    assert_eq!(far.open(&mut told), expected, "{what}");
                }
                None => assert!(told.is_empty(), "{what}"),
            }
            // It is over: nothing more is read, written, or kept.
            near.hear(&all(&mut far, &[data(b"more")]));
            assert_eq!(
                near.records.seal(&OutboundChunks::Single(b"x")).unwrap_err(),
                case.error
            );
            near.records.say_goodbye(&mut near.outgoing).unwrap();
            assert!(near.held.is_empty() && near.outgoing.is_empty() && near.records.parts.is_empty());
            assert_eq!(near.plain, b"before", "{what}");
        }
    }
}

#[test]
fn rustls_says_the_same_but_where_it_is_written_otherwise() {
    let configs = Configs::new();
    for ours in BOTH {
        for case in records().into_iter().chain(alerts()).chain(posts(ours)) {
            // Here rustls is the one that is told, and the peer is ours.
            let theirs = if ours == Ours::Client {
                Ours::Server
            } else {
                Ours::Client
            };
            let (mut far, mut rustls) = configs.pair(theirs);
            read(&mut rustls, &all(&mut far, &[data(b"before")])).unwrap();
            let error = read(&mut rustls, &all(&mut far, &case.sent)).err();
            let alert = match written(&mut rustls) {
                told if told.is_empty() => None,
                mut told => Some(far.open(&mut told).1[1].into()),
            };
            let is_same = error.as_ref() == Some(&case.error) && alert == case.alert;
            assert_eq!(
                is_same, case.same,
                "{ours:?} {:?}: {error:?} {alert:?}",
                case.error
            );
        }
    }
}

#[test]
fn what_may_be_said_some_times_may_not_be_said_for_ever() {
    let configs = Configs::new();
    for ours in BOTH {
        // Between two of them that say something, as many as are allowed; and again.
        let (mut near, mut far) = configs.raw(ours);
        for _ in 0..3 {
            for _ in 0..32 {
                near.hear(&far.seal(ContentType::ApplicationData, b""));
            }
            for _ in 0..KEY_UPDATES {
                let next = far.records.keys.next_to_seal().unwrap();
                near.hear(&far.records.sealer.rekey(next).unwrap());
            }
            near.hear(&far.say(b"."));
        }
        assert_eq!((near.plain.as_slice(), near.end()), (&b"..."[..], "open".into()));
        // Empty data says nothing.
        for _ in 0..=KEY_UPDATES {
            assert_eq!(near.end(), "open");
            near.hear(&far.seal(ContentType::ApplicationData, b""));
            let next = far.records.keys.next_to_seal().unwrap();
            near.hear(&far.records.sealer.rekey(next).unwrap());
        }
        assert_eq!(near.end(), "PeerMisbehaved(TooManyKeyUpdateRequests)");
    }
}

#[test]
fn who_has_said_goodbye_does_not_complain() {
    let configs = Configs::new();
    let (mut near, mut far) = configs.raw(Ours::Server);
    near.records.say_goodbye(&mut near.outgoing).unwrap();
    left(&mut near.outgoing);
    near.hear(&all(&mut far, &[messages(b"bad")]));
    near.hear(&all(&mut far, &[data(b"bad")]));
    assert!(near.outgoing.is_empty());
    assert!(near.end().contains("Interleaved"));
}

#[test]
fn a_record_that_was_touched_or_came_twice_is_refused() {
    let configs = Configs::new();
    let mut touched = 0;
    for at in 0..5 + 9 + 17 {
        let (mut near, mut far) = configs.raw(Ours::Client);
        let mut record = far.say(b"something");
        record[at] ^= 1;
        near.hear(&record);
        near.hear(&[0; 400]);
        // The minor version means nothing (RFC 8446, §5.1).
        if at == 2 {
            assert_eq!(near.plain, b"something");
            continue;
        }
        touched += 1;
        assert!(near.plain.is_empty() && near.end() != "open", "{at}");
    }
    assert_eq!(touched, 5 + 9 + 17 - 1);
    let (mut near, mut far) = configs.raw(Ours::Client);
    let record = far.say(b"once");
    near.hear(&record);
    near.hear(&record);
    assert_eq!(
        (near.plain.as_slice(), near.end()),
        (&b"once"[..], "DecryptError".into())
    );
}
