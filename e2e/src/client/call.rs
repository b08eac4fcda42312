//! A gRPC call whose messages go both ways.

use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{framed, next_piece, rest};

/// A stream of messages both ways, with a server that sends each one back.
#[derive(Debug)]
pub struct Call {
    messages: mpsc::UnboundedSender<Bytes>,
    body: Incoming,
    received: BytesMut,
}

impl Call {
    /// A stream that has begun; what is sent goes to `messages`.
    pub(super) fn new(messages: mpsc::UnboundedSender<Bytes>, body: Incoming) -> Self {
        Self {
            messages,
            body,
            received: BytesMut::new(),
        }
    }

    /// Sends a message, and waits until it comes back.
    ///
    /// # Errors
    /// When something else comes, or nothing.
    pub async fn exchange(&mut self, message: &[u8]) -> Result<()> {
        let frame = framed(message);
        self.messages
            .send(frame.clone())
            .ok()
            .context("the stream is over")?;
        self.receive(&frame).await
    }

    /// Waits until this message comes.
    pub(super) async fn receive(&mut self, frame: &Bytes) -> Result<()> {
        while self.received.len() < frame.len() {
            let data = next_piece(&mut self.body).await?.context("the stream is over")?;
            let data = data
                .into_data()
                .map_err(|end| anyhow::anyhow!("the stream ended: {end:?}"))?;
            self.received.put(data);
        }
        ensure!(
            self.received.split_to(frame.len()) == *frame,
            "another message came back"
        );
        Ok(())
    }

    /// Ends the stream, and waits for the trailers of a success.
    ///
    /// # Errors
    /// When they are others.
    pub async fn finish(self) -> Result<()> {
        drop(self.messages);
        let (_, trailers) = rest(self.body).await?;
        ensure!(
            trailers.get("grpc-status").is_some_and(|status| status == "0"),
            "the call ended with {trailers:?}"
        );
        Ok(())
    }
}
