//! What no peer may say, as tables.

use rustls::HandshakeType;

use super::*;

/// What a peer sends.
#[derive(Clone)]
pub(super) enum Sent {
    /// A record with this inside.
    Sealed(ContentType, Vec<u8>),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}
use Sent::{Bytes, Sealed};

pub(super) struct Case {
    pub(super) sent: Vec<Sent>,
    pub(super) error: Error,
    pub(super) alert: Option<AlertDescription>,
    /// Whether rustls says the same.
    pub(super) same: bool,
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

pub(super) fn data(content: &[u8]) -> Sent {
    Sealed(ContentType::ApplicationData, content.to_vec())
}

pub(super) fn messages(content: &[u8]) -> Sent {
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
pub(super) fn records() -> Vec<Case> {
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
pub(super) fn alerts() -> Vec<Case> {
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
pub(super) fn posts(ours: Ours) -> Vec<Case> {
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
