//! What a connection speaks, told by its first bytes alone.
//!
//! Pure: the answer depends on the bytes seen so far and on nothing else. Once there is one, no further byte changes it, so
//! that it does not matter how the bytes were cut into pieces.

use super::client_hello::{self, ClientHello};

/// The most bytes that are looked at. A `ClientHello` with post-quantum keys and a session ticket has about 2 KiB, a
/// request line that names its target absolutely seldom more.
pub const MAX_PREFIX: usize = 16 << 10;

/// With what a client begins that knows that the server speaks HTTP/2 (RFC 9113, §3.4).
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS, and what the client asks for in it.
    Tls(ClientHello),
    /// Anything else.
    Opaque,
}

/// Methods that begin a request wherever a target follows them; others need the whole request line to be believed.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];
/// The longest method that is believed; WebDAV's longest has 16.
const MAX_METHOD: usize = 24;

/// What the bytes say; none: more of them are needed. `MAX_PREFIX` bytes always have an answer.
pub fn detect(bytes: &[u8]) -> Option<Spoken> {
    let bytes = &bytes[..bytes.len().min(MAX_PREFIX)];
    let spoken = match bytes {
        [] => None,
        [client_hello::HANDSHAKE, ..] => tls(bytes),
        _ if bytes.starts_with(HTTP2_PREFACE) => Some(Spoken::Http2),
        _ if HTTP2_PREFACE.starts_with(bytes) => None,
        _ => http1(bytes).map(|is| if is { Spoken::Http1 } else { Spoken::Opaque }),
    };
    spoken.or_else(|| (bytes.len() == MAX_PREFIX).then_some(Spoken::Opaque))
}

fn tls(bytes: &[u8]) -> Option<Spoken> {
    match client_hello::parse(bytes) {
        Ok(hello) => hello.map(Spoken::Tls),
        Err(client_hello::NotTls) => Some(Spoken::Opaque),
    }
}

/// Whether the bytes begin an HTTP/1 request: `METHOD SP target SP HTTP/1.` (RFC 9112, §3). With a method that everybody
/// knows, the first byte of a target in origin or asterisk form is enough.
fn http1(bytes: &[u8]) -> Option<bool> {
    let Some(end) = bytes.iter().position(|byte| !is_token(*byte)) else {
        return (bytes.len() > MAX_METHOD).then_some(false);
    };
    let (method, rest) = bytes.split_at(end);
    if rest[0] != b' ' || !(1..=MAX_METHOD).contains(&end) {
        return Some(false);
    }
    let target = &rest[1..];
    if METHODS.contains(&method) && matches!(target, [b'/' | b'*', ..]) {
        return Some(true);
    }
    let end = target.iter().position(|byte| !byte.is_ascii_graphic())?;
    const VERSION: &[u8] = b" HTTP/1.";
    let after = &target[end..];
    if end == 0 {
        Some(false)
    } else if after.len() >= VERSION.len() {
        Some(after.starts_with(VERSION))
    } else {
        (!VERSION.starts_with(after)).then_some(false)
    }
}

/// Whether a byte may stand in a method (RFC 9110, §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The `Host` of an HTTP/1 request with a target in origin form, if its whole head has been seen and names exactly one. It
/// is a hint of where to route, never what a request is judged by. Whoever sends another form speaks to a proxy, and may
/// ask it for anybody on the same connection.
pub fn http1_host(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(&bytes[..head_end(bytes)?]).ok()?;
    let mut lines = text.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?;
    if !target.starts_with('/') {
        return None;
    }
    let mut hosts = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then_some(value.trim())
    });
    let host = hosts.next().filter(|host| !host.is_empty())?;
    hosts.next().is_none().then_some(host)
}

/// Where the head of an HTTP/1 request ends; none: it has not yet.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n")
}

#[cfg(test)]
mod tests;
