//! A client or a server that speaks bytes, so that a test says exactly what is on the wire, and when.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// What takes longer than this hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a connection.
pub(crate) struct Peer {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            heard: Vec::new(),
        }
    }

    pub(crate) async fn connect(port: u16) -> Self {
        Self::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap())
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything up to and with this text.
    pub(crate) async fn hear(&mut self, until: &str) -> String {
        loop {
            if let Some(at) = find(&self.heard, until.as_bytes()) {
                return self.take(at + until.len());
            }
            if self.read().await == 0 {
                panic!(
                    "the connection ended without {until:?}: {:?}",
                    String::from_utf8_lossy(&self.heard)
                );
            }
        }
    }

    /// The head of a message, in lower case.
    pub(crate) async fn hear_head(&mut self) -> String {
        self.hear("\r\n\r\n").await.to_lowercase()
    }

    /// Everything until the other side has nothing more to say, or breaks off.
    pub(crate) async fn hear_all(&mut self) -> String {
        while self.read().await > 0 {}
        self.take(self.heard.len())
    }

    /// Says that nothing more comes, and goes on listening.
    pub(crate) async fn done(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    fn take(&mut self, bytes: usize) -> String {
        let rest = self.heard.split_off(bytes);
        String::from_utf8(std::mem::replace(&mut self.heard, rest)).unwrap()
    }

    async fn read(&mut self) -> usize {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await {
            Ok(read) => read.unwrap_or(0),
            Err(_) => panic!(
                "nothing more came after {:?}",
                String::from_utf8_lossy(&self.heard)
            ),
        }
    }
}

/// A server whose every byte the test says.
pub(crate) struct Scripted(TcpListener);

impl Scripted {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Peer {
        let accepted = timeout(PATIENCE, self.0.accept()).await;
        Peer::new(accepted.unwrap_or_else(|_| panic!("nobody connects")).unwrap().0)
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let mut places = 0..=bytes.len().checked_sub(text.len())?;
    places.find(|at| bytes[*at..].starts_with(text))
}
