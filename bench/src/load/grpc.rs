//! One HTTP/2 connection that carries unary V2 inferences over gRPC, several at a time.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, StatusCode, Uri, Version,
    client::conn::http2::{SendRequest, handshake},
    header::{CONTENT_TYPE, HeaderValue, TE},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::spawn_local};

use crate::{local::LocalExecutor, payload};

#[derive(Clone)]
pub(super) struct Client {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
    body: Bytes,
}

impl Client {
    pub(super) async fn new(io: TokioIo<TcpStream>, authority: &str) -> Result<Self> {
        let (sender, connection) = handshake(LocalExecutor, io)
            .await
            .context("cannot speak HTTP/2")?;
        spawn_local(connection);
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(payload::GRPC_PATH)
            .build()
            .context("the authority does not make a URI")?;
        Ok(Self {
            sender,
            uri,
            body: payload::grpc_request(),
        })
    }

    /// Sends one request and reads its response to the trailers; anything but `grpc-status: 0` and a message of the
    /// right size fails.
    pub(super) async fn call(&mut self) -> Result<()> {
        self.sender.ready().await.context("the connection is gone")?;
        let request = Request::post(self.uri.clone())
            .version(Version::HTTP_2)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(TE, HeaderValue::from_static("trailers"))
            .body(Full::new(self.body.clone()))
            .context("cannot build the request")?;
        let response = self
            .sender
            .send_request(request)
            .await
            .context("the request broke off")?;
        let (head, mut body) = response.into_parts();
        let mut size = 0;
        // An error without a message has its status among the headers.
        let mut status = grpc_status(&head.headers);
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the response broke off")?;
            size += frame.data_ref().map_or(0, Bytes::len);
            status = frame.trailers_ref().map_or(status, grpc_status);
        }
        ensure!(
            head.status == StatusCode::OK,
            "the response has HTTP status {}",
            head.status
        );
        ensure!(status == Some(0), "the response has grpc-status {status:?}");
        let expected = payload::SIZE + payload::GRPC_HEADER;
        ensure!(
            size == expected,
            "the response has {size} bytes instead of {expected}"
        );
        Ok(())
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (value, expected) in [
            (None, None),
            (Some("0"), Some(0)),
            (Some("14"), Some(14)),
            (Some("x"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert("grpc-status", HeaderValue::from_static(value));
            }
            assert_eq!(grpc_status(&headers), expected, "{value:?}");
        }
    }
}
