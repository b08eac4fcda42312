//! What is wrong with what a peer sent, and which alert tells it so (RFC 8446, §6.2).

use rustls::{AlertDescription, Error, InvalidMessage, PeerMisbehaved};

/// Why a connection ends.
#[derive(Debug)]
pub(super) struct Fault {
    /// What whoever uses the connection is told.
    pub(super) error: Error,
    /// What the peer is told; nothing if it was the one that ended the connection.
    pub(super) alert: Option<AlertDescription>,
}

impl Fault {
    /// An error that the peer told us of, in a way that it may not.
    pub(super) fn answered(error: Error, alert: AlertDescription) -> Self {
        let alert = Some(alert);
        Self { error, alert }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let alert = match &error {
            Error::AlertReceived(_) => None,
            Error::DecryptError => Some(AlertDescription::BadRecordMac),
            Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
            Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
                Some(AlertDescription::IllegalParameter)
            }
            Error::InvalidMessage(message) => Some((*message).into()),
            Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. } => Some(AlertDescription::UnexpectedMessage),
            _ => Some(AlertDescription::InternalError),
        };
        Self { error, alert }
    }
}

impl From<InvalidMessage> for Fault {
    fn from(message: InvalidMessage) -> Self {
        Error::from(message).into()
    }
}

impl From<PeerMisbehaved> for Fault {
    fn from(how: PeerMisbehaved) -> Self {
        Error::from(how).into()
    }
}
