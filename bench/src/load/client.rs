//! One connection that sends requests, and checks what comes back.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Uri, Version,
    body::Incoming,
    client::conn::{http1, http2},
    header::{CONTENT_TYPE, HOST, HeaderValue, TE},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::spawn_local,
    time::timeout,
};

use super::{CONNECT, Plan};
use crate::{
    local::LocalExecutor,
    payload::{self, GRPC_HEADER},
    scenario::{Exchange, Protocol},
};

/// One request at a time of a connection.
pub(crate) struct Client {
    sender: Sender,
    request: Request<Full<Bytes>>,
    /// How many bytes the response must have.
    expected: usize,
    is_grpc: bool,
}

#[derive(Clone)]
enum Sender {
    Http1(std::rc::Rc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// Opens one connection, and gives a client for each request that may be in flight on it.
    pub(super) async fn connect(plan: &Plan) -> Result<Vec<Self>> {
        let stream = timeout(CONNECT, TcpStream::connect(plan.to))
            .await
            .with_context(|| format!("no connection to {} within 5 s", plan.to))?
            .with_context(|| format!("cannot connect to {}", plan.to))?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        Self::over(stream, plan).await
    }

    /// The same over a connection that is open.
    pub(super) async fn over<I>(io: I, plan: &Plan) -> Result<Vec<Self>>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let io = TokioIo::new(io);
        let sender = if plan.protocol == Protocol::Http1 {
            let (sender, connection) = http1::handshake(io).await.context("cannot speak HTTP/1.1")?;
            spawn_local(connection);
            Sender::Http1(std::rc::Rc::new(tokio::sync::Mutex::new(sender)))
        } else {
            let (sender, connection) = http2::handshake(LocalExecutor, io)
                .await
                .context("cannot speak HTTP/2")?;
            spawn_local(connection);
            Sender::Http2(sender)
        };
        let (request, expected) = request(plan)?;
        let client = || Self {
            sender: sender.clone(),
            request: request.clone(),
            expected,
            is_grpc: plan.protocol == Protocol::Grpc,
        };
        Ok((0..plan.streams).map(|_| client()).collect())
    }

    /// Sends one request, and gives the beginning of its response.
    pub(super) async fn send(&mut self) -> Result<Response<Incoming>> {
        let request = self.request.clone();
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.context("the connection is gone")?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.context("the connection is gone")?;
                sender.send_request(request).await
            }
        };
        let response = sent.context("the request broke off")?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "the response has status {status}");
        Ok(response)
    }

    /// Sends one request and reads its response to the end; anything but success and a body of the right size fails.
    pub(super) async fn call(&mut self) -> Result<()> {
        let (head, mut body) = self.send().await?.into_parts();
        let mut size = 0;
        // An error without a message has its status among the headers.
        let mut status = grpc_status(&head.headers);
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the response broke off")?;
            size += frame.data_ref().map_or(0, Bytes::len);
            status = frame.trailers_ref().map_or(status, grpc_status);
        }
        ensure!(
            !self.is_grpc || status == Some(0),
            "the response has grpc-status {status:?}"
        );
        ensure!(
            size == self.expected,
            "the response has {size} bytes instead of {}",
            self.expected
        );
        Ok(())
    }
}

/// The request of an exchange, and how many bytes its response has.
fn request(plan: &Plan) -> Result<(Request<Full<Bytes>>, usize)> {
    use Exchange::{Handshake, Infer, Infer8m, Infer64k, ModelFirst, ModelLast, Stream};
    let is_grpc = plan.protocol == Protocol::Grpc;
    let sized = |size: usize| (payload::HTTP_PATH, payload::http_request(size), size);
    let (path, body, expected) = match plan.exchange {
        Stream if is_grpc => (payload::GRPC_STREAM_PATH, payload::grpc_request(), 0),
        _ if is_grpc => (
            payload::GRPC_PATH,
            payload::grpc_request(),
            payload::SIZE + GRPC_HEADER,
        ),
        Infer | Handshake => sized(payload::SIZE),
        Infer64k => sized(64 << 10),
        Infer8m => sized(8 << 20),
        ModelFirst => (payload::CHAT_PATH, payload::chat_request(true), payload::SIZE),
        ModelLast => (payload::CHAT_PATH, payload::chat_request(false), payload::SIZE),
        Stream => (payload::CHAT_PATH, payload::stream_request(), 0),
    };
    let mut request = Request::post(path);
    if plan.protocol == Protocol::Http1 {
        request = request.header(HOST, &plan.authority);
    } else {
        let uri = Uri::builder()
            .scheme("http")
            .authority(plan.authority.as_str())
            .path_and_query(path)
            .build();
        let uri = uri.context("the authority does not make a URI")?;
        request = Request::post(uri).version(Version::HTTP_2);
    }
    let kind = if is_grpc {
        "application/grpc"
    } else {
        "application/json"
    };
    request = request.header(CONTENT_TYPE, HeaderValue::from_static(kind));
    if is_grpc {
        request = request.header(TE, HeaderValue::from_static("trailers"));
    }
    let request = request
        .body(Full::new(body))
        .context("cannot build the request")?;
    Ok((request, expected))
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
