//! The first bytes of a connection: read, within a bound and a time, until they say what it speaks; and given back.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use super::detect::{MAX_PREFIX, Spoken, detect, head_end};

/// How much is read at a time: most of what clients begin with fits.
const PIECE: usize = 2_048;

/// What a connection began with.
#[derive(Debug)]
pub struct FirstBytes {
    /// What it speaks. Clients that say nothing in time, or not enough, speak opaque bytes.
    pub spoken: Spoken,
    /// What was read; whoever reads on must be given them first.
    pub bytes: Bytes,
    /// Whether the client has said nothing at all: it may be waiting for the server.
    pub silent: bool,
}

impl FirstBytes {
    /// Of a connection of which nothing needs to be read.
    pub fn unread() -> Self {
        Self {
            spoken: Spoken::Opaque,
            bytes: Bytes::new(),
            silent: true,
        }
    }
}

/// How much is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It is known what is spoken.
    Spoken,
    /// If it is HTTP/1, the first request's head is there.
    Head,
}

/// Reads first bytes for no longer than `wait`. A client that leaves, and errors, are for the next reader to find.
pub async fn read(io: &mut (impl AsyncRead + Unpin), wait: Duration, until: Until) -> FirstBytes {
    let deadline = Instant::now() + wait;
    let mut bytes = BytesMut::new();
    let mut spoken = None;
    loop {
        if spoken.is_none() {
            spoken = detect(&bytes);
        }
        let enough = match (&spoken, until) {
            (None, _) => false,
            (Some(Spoken::Http1), Until::Head) => head_end(&bytes).is_some() || bytes.len() >= MAX_PREFIX,
            (Some(_), _) => true,
        };
        if enough {
            break;
        }
        bytes.reserve(PIECE);
        let mut piece = (&mut bytes).limit(PIECE);
        match tokio::time::timeout_at(deadline, io.read_buf(&mut piece)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(_) => break,
        }
    }
    FirstBytes {
        spoken: spoken.unwrap_or(Spoken::Opaque),
        silent: bytes.is_empty(),
        bytes: bytes.freeze(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const WAIT: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn clients_that_wait_are_waited_for_no_longer_than_said() {
        for (sent, spoken) in [
            (&b""[..], Spoken::Opaque),
            (b"GE", Spoken::Opaque),
            (b"GET /", Spoken::Http1),
        ] {
            let (mut client, mut server) = tokio::io::duplex(64);
            client.write_all(sent).await.unwrap();
            let began = Instant::now();
            let first = read(&mut server, WAIT, Until::Head).await;
            assert_eq!((began.elapsed(), first.silent), (WAIT, sent.is_empty()));
            assert_eq!((first.spoken, &first.bytes[..]), (spoken, sent));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_once_it_is_known() {
        for (sent, until) in [
            (&b"GET / HTTP/1.1\r\n"[..], Until::Spoken),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\nbody", Until::Head),
            (b"*1\r\n", Until::Head),
        ] {
            let (mut client, mut server) = tokio::io::duplex(64);
            let began = Instant::now();
            let (first, ()) = tokio::join!(read(&mut server, WAIT, until), async {
                for byte in sent {
                    client.write_all(&[*byte]).await.unwrap();
                }
            });
            assert_eq!(began.elapsed(), Duration::ZERO);
            assert!(sent.starts_with(&first.bytes), "what is read is what was sent");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_ends_the_wait_and_memory_is_bounded() {
        let (client, mut server) = tokio::io::duplex(64);
        drop(client);
        let began = Instant::now();
        assert!(read(&mut server, WAIT, Until::Spoken).await.silent);
        assert_eq!(began.elapsed(), Duration::ZERO);

        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        client.write_all(&[b'x'; 1]).await.unwrap();
        client
            .write_all(format!("LOOK {}", "x".repeat(1 << 19)).as_bytes())
            .await
            .unwrap();
        let first = read(&mut server, WAIT, Until::Head).await;
        assert_eq!(first.spoken, Spoken::Opaque);
        assert!(first.bytes.len() <= MAX_PREFIX + PIECE, "{}", first.bytes.len());
    }
}
