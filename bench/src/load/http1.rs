//! One HTTP/1.1 connection that sends V2 inferences, one after the other.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::spawn_local};

use crate::payload;

pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    authority: HeaderValue,
    body: Bytes,
}

impl Client {
    pub(super) async fn new(io: TokioIo<TcpStream>, authority: &str) -> Result<Self> {
        let (sender, connection) = handshake(io).await.context("cannot speak HTTP/1.1")?;
        spawn_local(connection);
        let authority = HeaderValue::from_str(authority).context("the authority is not a header value")?;
        Ok(Self {
            sender,
            authority,
            body: payload::http_request(),
        })
    }

    /// Sends one request and reads its response to the end; anything but 200 with a body of the right size fails.
    pub(super) async fn call(&mut self) -> Result<()> {
        self.sender.ready().await.context("the connection is gone")?;
        let request = Request::post(payload::HTTP_PATH)
            .header(HOST, self.authority.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(self.body.clone()))
            .context("cannot build the request")?;
        let response = self
            .sender
            .send_request(request)
            .await
            .context("the request broke off")?;
        let status = response.status();
        let mut body = response.into_body();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame
                .context("the response broke off")?
                .data_ref()
                .map_or(0, Bytes::len);
        }
        ensure!(status == StatusCode::OK, "the response has status {status}");
        ensure!(
            size == payload::SIZE,
            "the response has {size} bytes instead of {}",
            payload::SIZE
        );
        Ok(())
    }
}
