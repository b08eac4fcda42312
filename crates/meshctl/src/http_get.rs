//! The smallest HTTP client there is: one request to a local port, a bounded answer, in bounded time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The most of an answer that is read, in bytes.
const MOST: u64 = 64 << 20;

/// An answer's status and body.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status, 100 to 599.
    pub(crate) status: u16,
    /// The body, as it came.
    pub(crate) body: Vec<u8>,
}

/// Asks a local server; HTTP/1.0, so that the answer ends with the connection.
pub(crate) async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    within: Duration,
) -> io::Result<Answer> {
    let asking = async { over(TcpStream::connect(address).await?, method, path).await };
    tokio::time::timeout(within, asking).await?
}

/// Asks the server at the other end of a stream.
pub(crate) async fn over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
) -> io::Result<Answer> {
    let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MOST).read_to_end(&mut bytes).await?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: bytes[end + 4..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed_or_refused() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"body"[..]));
        for bad in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 x\r\n\r\n"] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
