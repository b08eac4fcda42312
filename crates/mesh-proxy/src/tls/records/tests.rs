//! Against rustls's own connections, and against a peer that says what no implementation does.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::*;
use crate::testing::{Authority, identity};
use crate::tls::handshake::Handshake;
use crate::tls::{Alpn, Credentials};

mod faults;
mod keys;
mod passing;
mod tickets;

const WEB: &str = "spiffe://mesh.local/ns/ml/sa/web";
const TRITON: &str = "spiffe://mesh.local/ns/ml/sa/triton";

/// Which side is ours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ours {
    Client,
    Server,
}

const BOTH: [Ours; 2] = [Ours::Client, Ours::Server];

struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    _credentials: (Credentials, Credentials),
}

impl Configs {
    fn new() -> Self {
        let authority = Authority::new();
        let (web, triton) = (authority.credentials(WEB), authority.credentials(TRITON));
        Self {
            client: web.client_config(&identity(TRITON), Alpn::Any),
            server: triton.server_config(),
            _credentials: (web, triton),
        }
    }

    fn handshake(&self, side: Ours) -> Handshake {
        match side {
            Ours::Client => Handshake::client(Arc::clone(&self.client), name()).unwrap(),
            Ours::Server => Handshake::server(Arc::clone(&self.server)).unwrap(),
        }
    }

    /// Our side, and another implementation's.
    fn pair(&self, ours: Ours) -> (Near, Connection) {
        let mut far: Connection = match ours {
            Ours::Client => ServerConnection::new(Arc::clone(&self.server)).unwrap().into(),
            Ours::Server => ClientConnection::new(Arc::clone(&self.client), name())
                .unwrap()
                .into(),
        };
        let near = shake(self.handshake(ours), |bytes| {
            read(&mut far, bytes).unwrap();
            written(&mut far)
        });
        (near, far)
    }

    /// Our side, and a peer of which everything is at hand.
    fn raw(&self, ours: Ours) -> (Near, Near) {
        let theirs = if ours == Ours::Client {
            Ours::Server
        } else {
            Ours::Client
        };
        let (mut far, mut held) = (self.handshake(theirs), Vec::new());
        let near = shake(self.handshake(ours), |bytes| step(&mut far, &mut held, bytes));
        (near, Near::new(far, &held))
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("unused").unwrap()
}

/// Gives a handshake what came, and takes what it says.
fn step(handshake: &mut Handshake, held: &mut Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let mut outgoing = Outgoing::default();
    held.extend_from_slice(bytes);
    let used = handshake.receive(held, &mut outgoing).unwrap();
    held.drain(..used);
    left(&mut outgoing)
}

/// Lets a handshake happen, with a peer that answers what it is told.
fn shake(mut near: Handshake, mut far: impl FnMut(&[u8]) -> Vec<u8>) -> Near {
    let (mut held, mut heard) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        heard = far(&step(&mut near, &mut held, &heard));
    }
    held.extend_from_slice(&heard);
    Near::new(near, &held)
}

/// Takes everything that is to be sent.
fn left(outgoing: &mut Outgoing) -> Vec<u8> {
    let mut all = Vec::new();
    while !outgoing.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[])];
        outgoing.slices(&mut slices);
        let first = slices[0].to_vec();
        outgoing.advance(first.len());
        all.extend(first);
    }
    all
}

fn written(far: &mut Connection) -> Vec<u8> {
    let mut all = Vec::new();
    while far.wants_write() {
        far.write_tls(&mut all).unwrap();
    }
    all
}

/// What another implementation reads of `bytes`, however often it must be told.
fn read(far: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        far.read_tls(&mut bytes).unwrap();
        let result = far.process_new_packets();
        let mut plain = vec![0; 1 << 20];
        while let Ok(read @ 1..) = far.reader().read(&mut plain) {
            all.extend_from_slice(&plain[..read]);
        }
        result?;
    }
    Ok(all)
}

/// What another implementation makes of `data`.
fn write(far: &mut Connection, mut data: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !data.is_empty() {
        let sent = far.writer().write(data).unwrap();
        data = &data[sent..];
        all.extend(written(far));
    }
    all
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// A side of ours, and what a stream would keep beside it.
struct Near {
    records: Records,
    outgoing: Outgoing,
    held: Vec<u8>,
    /// What it has read.
    plain: Vec<u8>,
}

impl Near {
    fn new(handshake: Handshake, held: &[u8]) -> Self {
        let (_, records) = handshake.finish().unwrap();
        let mut near = Self {
            records,
            outgoing: Outgoing::default(),
            held: Vec::new(),
            plain: Vec::new(),
        };
        near.hear(held);
        near
    }

    /// Takes what came, into little room.
    fn hear(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let mut room = [0; 1000];
        let mut into = ReadBuf::new(&mut room);
        let used = self
            .records
            .receive(&mut self.held, &mut into, &mut self.outgoing);
        self.held.drain(..used);
        self.plain.extend_from_slice(into.filled());
        let backlog = &mut self.records.plain;
        self.plain.extend_from_slice(backlog.left());
        backlog.advance(backlog.left().len());
        assert!(self.held.len() < RECORD);
    }

    /// The records of all of `data`.
    fn say(&mut self, data: &[u8]) -> Vec<u8> {
        let mut left = OutboundChunks::Single(data);
        let mut all = Vec::new();
        while !left.is_empty() {
            all.extend(self.records.seal(&left).unwrap().concat());
            left = left.split_at(AT_ONCE * frame::PLAIN).1;
        }
        all
    }

    /// A record of any kind and content.
    fn seal(&mut self, kind: ContentType, payload: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(payload);
        self.records.sealer.seal(kind, payload).unwrap()
    }

    /// The kind and content of the first record in `bytes`.
    fn open(&mut self, bytes: &mut [u8]) -> (ContentType, Vec<u8>) {
        let plain = self.records.opener.open(bytes).unwrap();
        (plain.typ, plain.payload.to_vec())
    }

    /// How it has ended, in words.
    fn end(&self) -> String {
        match self.records.end() {
            None => "open".into(),
            Some(End::Failed(error)) => format!("{error:?}"),
            Some(end) => format!("{end:?}"),
        }
    }
}

/// How long the records in `bytes` are, without their headers.
fn lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut all = Vec::new();
    while let Some(size) = size(bytes) {
        all.push(size - frame::HEADER);
        bytes = &bytes[size..];
    }
    all
}
