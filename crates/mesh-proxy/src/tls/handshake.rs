//! A handshake, without a socket: bytes in, bytes out, by rustls's unbuffered interface, until both sides know each other.
//! Then the connection is a [`Records`].
//!
//! rustls is given one record after the other and never one that follows the handshake: what it has read it does not give
//! back, and from there on records are ours.

use std::sync::Arc;

use mesh_api::identity::Identity;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, InvalidMessage, ServerConfig};

use super::buffers::Outgoing;
use super::records::{self, Keys, Records};
use super::{Protocol, peer_identity};

/// How many bytes may wait for what makes them complete. A record has 16 KiB and 261 bytes at most (RFC 8446, §5.2), a
/// handshake message 16 MiB (§4), of which rustls takes 64 KiB.
const HELD: usize = 64 << 10;

/// One side of a handshake.
pub(super) struct Handshake {
    side: Side,
    /// How many bytes of what was left are records that rustls has read: it asks for the parts of a message again, decrypted
    /// where they stand.
    given: usize,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What came of a step.
enum Step {
    /// There may be more to do.
    Again,
    /// Nothing can be done without more from the peer.
    Waits,
}

/// What both sides have agreed on.
pub(super) struct Agreed {
    /// The protocol that will be spoken.
    pub(super) protocol: Option<Protocol>,
    /// Who the peer of a server proved to be; a client has chosen whom it talks to.
    pub(super) peer: Option<Identity>,
}

impl Handshake {
    /// The side that connects.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name).map(|side| Self::new(Side::Client(side)))
    }

    /// The side that accepts.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(|side| Self::new(Side::Server(side)))
    }

    fn new(side: Side) -> Self {
        Self { side, given: 0 }
    }

    /// Whether nothing is missing any more.
    pub(super) fn is_over(&self) -> bool {
        !self.common().is_handshaking() && !self.common().wants_write()
    }

    /// Takes what came from the peer, that which was left the last time included, and says how much of it is used up. What is
    /// to be sent in turn goes into `outgoing`, an alert if the peer made a mistake.
    ///
    /// # Errors
    /// When the handshake has failed.
    pub(super) fn receive(&mut self, records: &mut [u8], outgoing: &mut Outgoing) -> Result<usize, Error> {
        let (mut used, mut whole) = (0, self.given);
        let mut end = whole;
        while !self.is_over() {
            match self.step(&mut records[used..end], &mut used, outgoing) {
                Ok(Step::Again) => {}
                Ok(Step::Waits) if end == records.len() => break,
                Ok(Step::Waits) => {
                    end = records.len();
                    // What is not complete is shown too: rustls may say that it never will be.
                    if let Some(size) = records::size(&records[whole..])
                        && whole + size <= end
                    {
                        whole += size;
                        end = whole;
                    }
                }
                Err(error) => {
                    self.warn(outgoing);
                    return Err(error);
                }
            }
        }
        if !self.is_over() && records.len() - used > HELD {
            return Err(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        self.given = whole.saturating_sub(used);
        Ok(used)
    }

    /// What was agreed on, and the connection from here on.
    ///
    /// # Errors
    /// When the handshake is not over, or rustls does not give its keys away.
    pub(super) fn finish(self) -> Result<(Agreed, Records), Error> {
        let common = self.common();
        let agreed = Agreed {
            protocol: common.alpn_protocol().map(Protocol::of),
            peer: match &self.side {
                Side::Client(_) => None,
                Side::Server(side) => peer_identity(side),
            },
        };
        let (secrets, keys) = match self.side {
            Side::Client(side) => {
                let (secrets, kernel) = side.dangerous_into_kernel_connection()?;
                (secrets, Keys::Client(kernel))
            }
            Side::Server(side) => {
                let (secrets, kernel) = side.dangerous_into_kernel_connection()?;
                (secrets, Keys::Server(kernel))
            }
        };
        Ok((agreed, Records::new(secrets, keys)?))
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(side) => side,
            Side::Server(side) => side,
        }
    }

    /// The alert that tells the peer why the handshake has failed: rustls gives it away before it looks at any bytes.
    fn warn(&mut self, outgoing: &mut Outgoing) {
        while self.common().wants_write() {
            if self.step(&mut [], &mut 0, outgoing).is_err() {
                break;
            }
        }
    }

    /// One step over `records`; `used` grows by how many bytes were used up.
    fn step(&mut self, records: &mut [u8], used: &mut usize, outgoing: &mut Outgoing) -> Result<Step, Error> {
        let (discard, step) = match &mut self.side {
            Side::Client(side) => handle(side.process_tls_records(records), outgoing),
            Side::Server(side) => handle(side.process_tls_records(records), outgoing),
        };
        *used += discard;
        step
    }
}

/// Does what rustls says is to be done next, and says how many bytes are used up.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Outgoing,
) -> (usize, Result<Step, Error>) {
    let step = status.state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, outgoing).map(|()| Step::Again),
        ConnectionState::TransmitTlsData(data) => {
            // It is in `outgoing`, and leaves before all that comes later.
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Step::Waits),
        // Data before the end of the handshake, which no configuration here allows, or an end before it.
        _ => Err(Error::HandshakeNotComplete),
    });
    (status.discard, step)
}

/// Puts a record of the handshake, or an alert, into `outgoing`.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Outgoing) -> Result<(), Error> {
    let mut record = Vec::new();
    let mut encoded = data.encode(&mut record);
    if let Err(EncodeError::InsufficientSize(size)) = encoded {
        record.resize(size.required_size, 0);
        encoded = data.encode(&mut record);
    }
    encoded.map_err(|error| Error::General(error.to_string()))?;
    outgoing.push(record);
    Ok(())
}
