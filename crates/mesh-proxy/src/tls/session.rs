//! One side of a TLS connection, without a socket: bytes in, plaintext out, and the other way round, over rustls's unbuffered
//! interface.
//!
//! What rustls can't use yet is the beginning of a record or parts of a handshake message, and stays here between two calls:
//! it asks for the same bytes again, some decrypted where they stand. Everything else is used at once, so that nothing that is
//! complete waits: rustls lets nobody write before all that it could read is taken.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, InvalidMessage, ServerConfig};
use tokio::io::ReadBuf;

use super::buffers::Backlog;

/// How many bytes may wait for what makes them complete. A record has 16 KiB and 261 bytes at most (RFC 8446, §5.2), a
/// handshake message 16 MiB (§4), of which rustls takes 64 KiB.
const HELD: usize = 64 << 10;

/// How what the peer sends has ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It said so.
    Closed,
    /// The connection ended without a word: something may be missing.
    CutOff,
    /// It sent what can't be, or was refused, or refused us.
    Failed(Error),
}

/// One side of a TLS connection.
pub(super) struct Session {
    side: Side,
    held: Vec<u8>,
    /// Plaintext for which there was no room.
    pub(super) plain: Backlog,
    /// Records for which there was no room.
    pub(super) outgoing: Backlog,
    end: Option<End>,
    said_goodbye: bool,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What is asked of rustls, once it has nothing to say by itself.
enum Wish<'a> {
    Nothing,
    Seal(&'a [u8], &'a mut Vec<u8>),
    SayGoodbye,
}

/// What came of one step.
enum Step {
    /// There may be more to do.
    Again,
    /// The peer will send no more.
    PeerClosed,
    /// Nothing can be done without more from the peer.
    Waits,
    /// The wish is fulfilled, in so many bytes.
    Fulfilled(usize),
}

impl Session {
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
        Self {
            side,
            held: Vec::new(),
            plain: Backlog::default(),
            outgoing: Backlog::default(),
            end: None,
            said_goodbye: false,
        }
    }

    /// What was agreed on, and who the peer is.
    pub(super) fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(side) => side,
            Side::Server(side) => side,
        }
    }

    /// How what the peer sends has ended, if it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// What came before and is not complete: it stands before what comes next.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes what came from the peer, [`Self::held`] included. Plaintext goes into `into`, and what does not fit into
    /// [`Self::plain`]; what must be sent in turn goes into [`Self::outgoing`], an alert if the peer made a mistake.
    pub(super) fn receive(&mut self, records: &mut [u8], into: &mut ReadBuf<'_>) {
        let mut used = 0;
        while self.end.is_none() {
            match self.step(records, &mut used, into, &mut Wish::Nothing) {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.end = Some(End::Closed),
                Ok(Step::Waits | Step::Fulfilled(_)) => break,
                Err(error) => self.fail(error, &mut records[used..]),
            }
        }
        let left = &records[used..];
        if left.len() > HELD && self.end.is_none() {
            self.end = Some(End::Failed(InvalidMessage::HandshakePayloadTooLarge.into()));
        }
        if left.is_empty() || self.end.is_some() {
            // Not cleared: what a connection has used up, it does not keep.
            self.held = Vec::new();
        } else {
            self.held.clear();
            self.held.extend_from_slice(left);
        }
    }

    /// Takes note that the peer sends no more, whether it said so or not.
    pub(super) fn receive_end(&mut self) {
        self.end.get_or_insert(End::CutOff);
    }

    /// Makes records of `plain` in `room`, which grows as needed, and says how many bytes they have.
    ///
    /// # Errors
    /// When the connection has failed, or no more may be encrypted with its keys.
    pub(super) fn seal(&mut self, plain: &[u8], room: &mut Vec<u8>) -> Result<usize, Error> {
        self.fulfil(Wish::Seal(plain, room))
    }

    /// Puts the word that this side will send no more into [`Self::outgoing`], once.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(super) fn say_goodbye(&mut self) -> Result<(), Error> {
        if self.said_goodbye || self.has_failed() {
            return Ok(());
        }
        self.said_goodbye = true;
        match self.fulfil(Wish::SayGoodbye) {
            // rustls has said so already.
            Err(Error::HandshakeNotComplete) => Ok(()),
            said => said.map(|_| ()),
        }
    }

    /// Whether this side has said that it will send no more.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.said_goodbye
    }

    fn has_failed(&self) -> bool {
        matches!(self.end, Some(End::Failed(_)))
    }

    /// Goes on until the wish is fulfilled.
    fn fulfil(&mut self, mut wish: Wish<'_>) -> Result<usize, Error> {
        if let Some(End::Failed(error)) = &self.end {
            return Err(error.clone());
        }
        // What is held goes along: rustls remembers where the parts of a handshake message stand in it.
        let mut held = std::mem::take(&mut self.held);
        let mut used = 0;
        let result = loop {
            match self.step(&mut held, &mut used, &mut ReadBuf::new(&mut []), &mut wish) {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.end = Some(End::Closed),
                Ok(Step::Waits) => break Err(Error::HandshakeNotComplete),
                Ok(Step::Fulfilled(bytes)) => break Ok(bytes),
                Err(error) => {
                    self.fail(error.clone(), &mut held[used..]);
                    return Err(error);
                }
            }
        };
        if used < held.len() {
            held.drain(..used);
            self.held = held;
        }
        result
    }

    /// Ends the connection for this error. The alert that tells the peer why is to be sent still, and rustls gives it away
    /// before it looks at any bytes again.
    fn fail(&mut self, error: Error, records: &mut [u8]) {
        let nowhere = &mut ReadBuf::new(&mut []);
        while self.common().wants_write() {
            if self.step(records, &mut 0, nowhere, &mut Wish::Nothing).is_err() {
                break;
            }
        }
        self.end = Some(End::Failed(error));
    }

    /// One step over `records`, of which `used` bytes were used before.
    fn step(
        &mut self,
        records: &mut [u8],
        used: &mut usize,
        into: &mut ReadBuf<'_>,
        wish: &mut Wish<'_>,
    ) -> Result<Step, Error> {
        let records = &mut records[*used..];
        let (plain, outgoing) = (&mut self.plain, &mut self.outgoing);
        match &mut self.side {
            Side::Client(side) => handle(
                side.process_tls_records(records),
                used,
                into,
                plain,
                outgoing,
                wish,
            ),
            Side::Server(side) => handle(
                side.process_tls_records(records),
                used,
                into,
                plain,
                outgoing,
                wish,
            ),
        }
    }
}

/// Does what rustls says is to be done next.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    used: &mut usize,
    into: &mut ReadBuf<'_>,
    plain: &mut Backlog,
    outgoing: &mut Backlog,
    wish: &mut Wish<'_>,
) -> Result<Step, Error> {
    *used += status.discard;
    match status.state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                *used += record.discard;
                let fits = if plain.is_empty() {
                    into.remaining().min(record.payload.len())
                } else {
                    0
                };
                let (now, later) = record.payload.split_at(fits);
                into.put_slice(now);
                plain.push(later);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, outgoing).map(|()| Step::Again),
        ConnectionState::TransmitTlsData(data) => {
            // It is in `outgoing`, and leaves before all that comes later.
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::WriteTraffic(traffic) => write(traffic, outgoing, wish),
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Step::Waits),
        // Early data, which no configuration here allows.
        _ => Err(Error::General(
            "the connection is in a state that it can't be in".into(),
        )),
    }
}

/// Puts a record of the handshake, or an alert, into `outgoing`.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Backlog) -> Result<(), Error> {
    let encoded = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => data.encode(outgoing.push_room(size.required_size)),
        encoded => encoded,
    };
    encoded
        .map(|_| ())
        .map_err(|error| Error::General(error.to_string()))
}

/// Fulfils the wish, now that it can be.
fn write<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    outgoing: &mut Backlog,
    wish: &mut Wish<'_>,
) -> Result<Step, Error> {
    let written = match wish {
        Wish::Nothing => return Ok(Step::Waits),
        Wish::Seal(plain, room) => match traffic.encrypt(plain, room) {
            Err(EncryptError::InsufficientSize(size)) => {
                room.resize(size.required_size, 0);
                traffic.encrypt(plain, room)
            }
            written => written,
        },
        Wish::SayGoodbye => match traffic.queue_close_notify(&mut []) {
            Err(EncryptError::InsufficientSize(size)) => {
                traffic.queue_close_notify(outgoing.push_room(size.required_size))
            }
            written => written,
        },
    };
    match written {
        Ok(bytes) => Ok(Step::Fulfilled(bytes)),
        Err(EncryptError::EncryptExhausted) => Err(Error::EncryptError),
        Err(error) => Err(Error::General(error.to_string())),
    }
}
