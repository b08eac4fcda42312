//! A server that answers with whatever bytes it is given, as soon as a head is there, and closes.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(Default)]
struct Told {
    /// None: it never answers.
    answer: Mutex<Option<Vec<u8>>>,
    asked: Notify,
}

/// It runs as long as the test does.
pub(crate) struct Stub {
    port: u16,
    told: Arc<Told>,
}

impl Stub {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stub = Self {
            port: listener.local_addr()?.port(),
            told: Arc::default(),
        };
        let told = Arc::clone(&stub.told);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&told)));
            }
        });
        Ok(stub)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it answers this.
    pub(crate) fn answers(&self, bytes: &[u8]) {
        *self.told.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.to_vec());
    }

    /// From now on it does not answer.
    pub(crate) fn answers_never(&self) {
        *self.told.answer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until it is asked.
    pub(crate) async fn asked(&self) {
        self.told.asked.notified().await;
    }
}

async fn serve(mut stream: TcpStream, told: Arc<Told>) {
    let mut head = Vec::new();
    let mut piece = [0; 4_096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => head.extend_from_slice(&piece[..length]),
        }
    }
    let answer = told.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match answer {
        Some(answer) => drop(stream.write_all(&answer).await),
        None => {
            told.asked.notify_one();
            // Until the other side leaves.
            while matches!(stream.read(&mut piece).await, Ok(1..)) {}
        }
    }
}
