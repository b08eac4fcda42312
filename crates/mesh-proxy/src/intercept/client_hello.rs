//! The first message of TLS, as far as routing needs it: which server the client asks for, and which protocols it offers.
//!
//! A parser of our own over what may be many small records: it copies no more than it was given, believes no length that
//! it has not checked, and says nothing about what it does not need (RFC 8446, §4.1.2 and §5.1; RFC 6066, §3; RFC 7301).

use super::detect::MAX_PREFIX;

/// The content type of records that carry handshake messages.
pub const HANDSHAKE: u8 = 22;
/// The type of a `ClientHello` among handshake messages.
const CLIENT_HELLO: u8 = 1;
/// The bytes of a record before its payload, and of a handshake message before its body.
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// The most bytes of a record in plaintext.
const MAX_RECORD: usize = 1 << 14;
/// The most protocols that are kept of what a client offers.
const MAX_PROTOCOLS: usize = 16;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name, in lower case; none: the client gave none, or nothing that could be a host's name.
    pub server_name: Option<String>,
    /// The protocols it offers, in its order, at most 16.
    pub protocols: Vec<Vec<u8>>,
}

/// The bytes do not begin a `ClientHello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTls;

/// Reads a `ClientHello`; none: more bytes are needed. What follows it is not looked at.
///
/// # Errors
/// When no bytes could make it one any more, or it is longer than anybody looks at ([`MAX_PREFIX`]).
pub fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, NotTls> {
    let mut message = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        if let Some(length) = message_length(&message)?
            && let Some(body) = message.get(MESSAGE_HEADER..MESSAGE_HEADER + length)
        {
            return read(Reader(body)).map(Some).ok_or(NotTls);
        }
        let Some(length) = record_length(&rest[..rest.len().min(RECORD_HEADER)])? else {
            return Ok(None);
        };
        let payload = &rest[RECORD_HEADER..];
        message.extend_from_slice(&payload[..length.min(payload.len())]);
        // At the end of what there is, what was joined is looked at once more.
        rest = payload.get(length..).unwrap_or_default();
    }
}

/// The length of a record's payload, by its header or the part of it that is there; none: more is needed. Each byte is
/// checked as soon as it is there.
fn record_length(header: &[u8]) -> Result<Option<usize>, NotTls> {
    let wrong_kind = header.first().is_some_and(|kind| *kind != HANDSHAKE);
    // Every version up to 1.3 writes 3.0 to 3.4 here.
    let wrong_version =
        header.get(1).is_some_and(|major| *major != 3) || header.get(2).is_some_and(|minor| *minor > 4);
    if wrong_kind || wrong_version {
        return Err(NotTls);
    }
    let [_, _, _, high, low] = *header else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if (1..=MAX_RECORD).contains(&length) {
        Ok(Some(length))
    } else {
        Err(NotTls)
    }
}

/// The length of the handshake message's body; none: more is needed.
fn message_length(message: &[u8]) -> Result<Option<usize>, NotTls> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NotTls);
    }
    let [_, high, middle, low, ..] = *message else {
        return Ok(None);
    };
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if length <= MAX_PREFIX {
        Ok(Some(length))
    } else {
        Err(NotTls)
    }
}

/// Reads the message's body; none: its lengths contradict each other.
fn read(mut body: Reader<'_>) -> Option<ClientHello> {
    let mut hello = ClientHello::default();
    // legacy_version, random, legacy_session_id, cipher_suites, legacy_compression_methods
    body.take(2 + 32)?;
    body.vector::<1>()?;
    body.vector::<2>()?;
    body.vector::<1>()?;
    if body.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.vector::<2>()?);
    if !body.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = u16::try_from(extensions.number::<2>()?).ok()?;
        let mut data = Reader(extensions.vector::<2>()?);
        match kind {
            SERVER_NAME => hello.server_name = server_name(Reader(data.vector::<2>()?))?,
            ALPN => hello.protocols = protocols(Reader(data.vector::<2>()?))?,
            _ => {}
        }
    }
    Some(hello)
}

fn server_name(mut names: Reader<'_>) -> Option<Option<String>> {
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.number::<1>()?;
        let name = names.vector::<2>()?;
        if kind == usize::from(HOST_NAME) && found.is_none() {
            found = host(name);
        }
    }
    Some(found)
}

fn host(name: &[u8]) -> Option<String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(1..=253).contains(&name.len()) || !name.iter().all(plain) {
        return None;
    }
    String::from_utf8(name.to_ascii_lowercase()).ok()
}

fn protocols(mut names: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !names.0.is_empty() {
        let name = names.vector::<1>()?;
        if found.len() < MAX_PROTOCOLS {
            found.push(name.to_vec());
        }
    }
    Some(found)
}

/// Takes from the front of what is left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of so many bytes, one or two.
    fn number<const BYTES: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(BYTES)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    /// What a length of so many bytes stands before.
    fn vector<const BYTES: usize>(&mut self) -> Option<&'a [u8]> {
        let length = self.number::<BYTES>()?;
        self.take(length)
    }
}
