//! Requests that ask for their connection, or their stream, to become something else: WebSocket most of all.
//!
//! A client asks in HTTP/1.1 (`Upgrade`, RFC 9110, §7.8) or in HTTP/2 (extended CONNECT, RFC 8441). Either way the next
//! hop, sidecar or server, is asked in HTTP/1.1 on a connection of its own: every WebSocket server understands that, and
//! a long-lived stream shares neither windows nor fate with other requests. What is routed, authorised and recorded is
//! the same GET in both forms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use h2::ext::Protocol;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use sha1::{Digest as _, Sha1};

use crate::body::{FromClient, InFlight, ResponseBody, ServerBody};
use crate::connections::Busy;
use crate::drain::Drain;
use crate::error::{Failure, Reason};
use crate::handover::Handover;
use crate::headers;
use crate::io::{Io, Prefixed};
use crate::observe::Record;
use crate::pipe::{Passed, Patience, pipe};

/// What a WebSocket server adds to the key before it hashes both (RFC 6455, §1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request asks to become.
pub struct Upgrade {
    /// The client's side, once it has its answer.
    client: Handover,
    to: HeaderValue,
    form: Form,
    busy: Busy,
}

/// How the client asked.
#[derive(Debug)]
enum Form {
    /// With `Upgrade` in HTTP/1.1.
    Http1,
    /// With an extended CONNECT; for WebSocket, what a server has to answer to the key that the mesh sends.
    Extended(Option<HeaderValue>),
}

impl Upgrade {
    /// What the request asks to become, if it does. An extended CONNECT is a GET in HTTP/1.1 from here on. `busy` is
    /// its connection; `random` gives numbers uniform over `u64`.
    pub fn take(
        parts: &mut Parts,
        body: &mut FromClient,
        busy: &Busy,
        random: impl FnMut() -> u64,
    ) -> Option<Self> {
        if parts.method == Method::CONNECT {
            return Self::extended(parts, body, busy, random);
        }
        let to = headers::upgrade(parts)?;
        let client = body.take_handover()?;
        Some(Self {
            client,
            to,
            form: Form::Http1,
            busy: busy.longer(),
        })
    }

    fn extended(
        parts: &mut Parts,
        body: &mut FromClient,
        busy: &Busy,
        mut random: impl FnMut() -> u64,
    ) -> Option<Self> {
        let protocol = parts.extensions.remove::<Protocol>()?;
        let to = HeaderValue::from_str(protocol.as_str()).ok()?;
        let client = body.take_handover()?;
        parts.method = Method::GET;
        parts.version = Version::HTTP_11;
        let mut accept = None;
        if protocol.as_str().eq_ignore_ascii_case("websocket") {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&random().to_ne_bytes());
            nonce[8..].copy_from_slice(&random().to_ne_bytes());
            let key = BASE64.encode(nonce);
            accept = HeaderValue::from_str(&accept_for(&key)).ok();
            if let Ok(key) = HeaderValue::from_str(&key) {
                parts.headers.insert(SEC_WEBSOCKET_KEY, key);
            }
        }
        Some(Self {
            client,
            to,
            form: Form::Extended(accept),
            busy: busy.longer(),
        })
    }

    /// Asks the next hop.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers::set_upgrade(headers, self.to.clone());
    }

    /// Checks what the server answers: whether it switches as it was asked to or, when it does not, that the client can
    /// tell (in HTTP/2, any success would mean that it did).
    ///
    /// # Errors
    /// When the client would be misled.
    pub fn check(&self, head: &http::response::Parts) -> Result<(), Failure> {
        let refused = |detail: String| Err(Failure::new(Reason::UpgradeRefused, detail));
        let Form::Extended(accept) = &self.form else {
            return Ok(());
        };
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if accept.is_some() && head.headers.get(SEC_WEBSOCKET_ACCEPT) != accept.as_ref() {
                let detail = "the server's Sec-WebSocket-Accept does not answer the key (RFC 6455, §4.2.2)";
                return refused(detail.to_owned());
            }
        } else if head.status.is_success() {
            return refused(format!(
                "the server answered {} and did not switch to {:?}",
                head.status, self.to
            ));
        }
        Ok(())
    }

    /// Answers the client that the server has switched, and lets them talk until both are done.
    pub fn switch(
        self,
        mut head: http::response::Parts,
        server: ServerBody,
        talk: Talk,
    ) -> Response<ResponseBody> {
        if let Form::Extended(_) = self.form {
            for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
                head.headers.remove(name);
            }
            head.status = StatusCode::OK;
        }
        if let ServerBody::Switched(Some(server)) = server {
            let busy = self.busy;
            tokio::task::spawn_local(async move {
                let _busy = busy;
                talk.run(self.client, server).await;
            });
        }
        Response::from_parts(head, ResponseBody::empty())
    }
}

/// A server that switches protocols although nobody has asked it to.
pub fn unasked() -> Failure {
    Failure::new(Reason::Reset, "the server switched protocols unasked")
}

fn accept_for(key: &str) -> String {
    let hash = Sha1::new()
        .chain_update(key)
        .chain_update(WEBSOCKET_GUID)
        .finalize();
    BASE64.encode(hash)
}

/// What lasts as long as client and server talk.
pub struct Talk {
    /// The record of the request; it closes at the end.
    pub record: Record,
    /// The endpoint's count of requests in flight.
    pub in_flight: InFlight,
    /// A proxy that is about to end waits for it.
    pub drain: Drain,
    /// How long it may take.
    pub patience: Patience,
}

impl Talk {
    async fn run(mut self, client: Handover, server: Prefixed<Io>) {
        let _open = self.drain.open();
        // The client may have left before it heard the answer; then there is nobody to talk to the server.
        let Some(client) = client.done().await else {
            return self.record.cancelled();
        };
        let passed = Passed::new();
        let ended = pipe(client, server, &passed, self.patience).await;
        self.record.request_bytes(passed.from_client.get());
        self.record.response_bytes(passed.to_client.get());
        if let Err(reason) = ended {
            self.record.fail(reason.as_str(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_standard_says() {
        // The example of RFC 6455, §1.3.
        assert_eq!(
            accept_for("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
