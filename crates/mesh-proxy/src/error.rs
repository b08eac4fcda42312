//! Every answer the mesh itself makes: one list of reasons, each with its status and whether trying again is safe.
//!
//! The answer says what happened and to which object: in the header `mesh-error`, in the body, in the access log.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use mesh_api::inference::{AppProtocol, RefusalReason};

use crate::body::ResponseBody;

/// The header that says which reason an answer has. It never passes from a server to a client: only proxies write it.
pub const MESH_ERROR: HeaderName = HeaderName::from_static("mesh-error");

/// Why the mesh answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The authority names no service that this proxy knows.
    NoSuchService,
    /// The control plane did not say in time whether the authority names a service.
    Unresolved,
    /// Too many services are used on demand, or asked for, to ask for another one.
    TooManyServices,
    /// No rule takes the request, and the service has no endpoints of its own.
    NoRule,
    /// The backend's service, or its port, is not there.
    NoSuchBackend,
    /// The service has no endpoint, or none that was not tried yet.
    NoEndpoints,
    /// No endpoint could be connected to.
    ConnectFailed,
    /// The workload's own process could not be connected to. The server did not see the request.
    LocalUnreachable,
    /// The endpoint did not prove to be who it must be.
    PeerRefused,
    /// This proxy has no certificate yet.
    NoCredentials,
    /// The endpoint refused the stream before it did anything with it.
    StreamRefused,
    /// The endpoint went away, or broke the protocol, before the response's head.
    Reset,
    /// The endpoint went away in the middle of the response.
    ResetMidway,
    /// The server does not switch to the protocol that the client asked for.
    UpgradeRefused,
    /// The rule that takes the request has no backend for it.
    NoBackend,
    /// The response's head did not come in time.
    FirstByteTimeout,
    /// Nothing moved for too long.
    IdleTimeout,
    /// The whole took too long.
    TotalTimeout,
    /// One try took too long.
    TryTimeout,
    /// The client's deadline passed.
    DeadlineExceeded,
    /// The request has no single meaning.
    Refused(RefusalReason),
    /// The model's name does not stand within the bytes that are held to look for it.
    BeyondReadAhead,
    /// The model's name is in an encoding that is not read.
    Unreadable,
    /// The backend asks for another model or version, and it can't be written into the request.
    CannotRewrite,
    /// The request is not HTTP as it should be.
    BadRequest,
    /// The request's head has too many bytes or fields.
    HeadTooLarge,
    /// The client sent nothing of its body for too long.
    SlowBody,
    /// The endpoint's answer is not HTTP as it should be, or its head is too large.
    BadResponse,
    /// This process has no descriptor or port left for a connection to an endpoint.
    Exhausted,
    /// This process holds as much memory as it may.
    Overloaded,
    /// The client's body broke off.
    ClientAborted,
    /// The caller may not do this.
    Denied,
    /// The listener it came in by is no longer configured.
    ListenerGone,
    /// It was sent to a port that takes intercepted connections only.
    NotIntercepted,
}

impl Reason {
    /// The stable word for headers, labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSuchService => "no-such-service",
            Self::Unresolved => "unresolved",
            Self::TooManyServices => "too-many-services",
            Self::NoRule => "no-rule",
            Self::NoSuchBackend => "no-such-backend",
            Self::NoEndpoints => "no-endpoints",
            Self::ConnectFailed => "connect-failed",
            Self::LocalUnreachable => "local-unreachable",
            Self::PeerRefused => "peer-refused",
            Self::NoCredentials => "no-credentials",
            Self::StreamRefused => "stream-refused",
            Self::Reset => "reset",
            Self::ResetMidway => "reset-midway",
            Self::UpgradeRefused => "upgrade-refused",
            Self::NoBackend => "no-backend",
            Self::FirstByteTimeout => "first-byte-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::TotalTimeout => "total-timeout",
            Self::TryTimeout => "try-timeout",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Refused(reason) => reason.as_str(),
            Self::BeyondReadAhead => "beyond-read-ahead",
            Self::Unreadable => "unreadable",
            Self::CannotRewrite => "cannot-rewrite",
            Self::BadRequest => "bad-request",
            Self::HeadTooLarge => "head-too-large",
            Self::SlowBody => "slow-body",
            Self::BadResponse => "bad-response",
            Self::Exhausted => "exhausted",
            Self::Overloaded => "overloaded",
            Self::ClientAborted => "client-aborted",
            Self::Denied => "denied",
            Self::ListenerGone => "listener-gone",
            Self::NotIntercepted => "not-intercepted",
        }
    }

    /// The reason that a sidecar behind this one gave; none: one that this one does not know.
    pub fn of_word(word: &[u8]) -> Option<Self> {
        const FROM_SIDECARS: [Reason; 16] = [
            Reason::LocalUnreachable,
            Reason::Reset,
            Reason::ResetMidway,
            Reason::UpgradeRefused,
            Reason::FirstByteTimeout,
            Reason::IdleTimeout,
            Reason::TotalTimeout,
            Reason::DeadlineExceeded,
            Reason::HeadTooLarge,
            Reason::SlowBody,
            Reason::BadResponse,
            Reason::Exhausted,
            Reason::Overloaded,
            Reason::ClientAborted,
            Reason::Denied,
            Reason::ListenerGone,
        ];
        FROM_SIDECARS
            .into_iter()
            .find(|reason| reason.as_str().as_bytes() == word)
    }

    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NoSuchService | Self::NoRule => StatusCode::NOT_FOUND,
            Self::Unresolved
            | Self::TooManyServices
            | Self::NoSuchBackend
            | Self::NoEndpoints
            | Self::ConnectFailed
            | Self::LocalUnreachable
            | Self::PeerRefused
            | Self::NoCredentials
            | Self::StreamRefused
            | Self::Exhausted
            | Self::Overloaded
            | Self::ListenerGone => StatusCode::SERVICE_UNAVAILABLE,
            Self::Reset | Self::ResetMidway | Self::UpgradeRefused | Self::BadResponse => {
                StatusCode::BAD_GATEWAY
            }
            Self::FirstByteTimeout
            | Self::IdleTimeout
            | Self::TotalTimeout
            | Self::TryTimeout
            | Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            // The Gateway API's answer to a route that leads nowhere.
            Self::NoBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Refused(reason) => reason.status(),
            Self::BeyondReadAhead => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::CannotRewrite | Self::BadRequest | Self::ClientAborted | Self::NotIntercepted => {
                StatusCode::BAD_REQUEST
            }
            Self::Denied => StatusCode::FORBIDDEN,
        }
    }

    /// The status of the answer in gRPC's words, by gRPC's own mapping of HTTP statuses
    /// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>) where it has one.
    pub const fn grpc_status(self) -> u16 {
        match self.status() {
            StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => 3,
            StatusCode::FORBIDDEN => 7,
            StatusCode::NOT_FOUND => 12,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 8,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => 4,
            _ => 14,
        }
    }

    /// Whether no server can have seen the request, so that trying again can't run anything twice.
    pub const fn unseen(self) -> bool {
        matches!(
            self,
            Self::ConnectFailed
                | Self::LocalUnreachable
                | Self::PeerRefused
                | Self::StreamRefused
                | Self::NoCredentials
                | Self::Exhausted
        )
    }

    /// Whether it speaks against the endpoint, so that others are preferred for a while.
    pub const fn blames_endpoint(self) -> bool {
        matches!(
            self,
            Self::ConnectFailed
                | Self::LocalUnreachable
                | Self::PeerRefused
                | Self::Reset
                | Self::ResetMidway
                | Self::BadResponse
        )
    }
}

/// An answer of the mesh: the reason, and what it is about.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What happened, for people. It holds nothing secret.
    pub detail: String,
    /// The object that caused it, such as `ModelRoute ml/fraud`.
    pub object: Option<Arc<str>>,
    /// What the client speaks, if that is known by then.
    pub protocol: Option<AppProtocol>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure without an object, to a client of whatever protocol.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            object: None,
            protocol: None,
        }
    }

    /// Says which object caused it.
    #[must_use]
    pub fn of(mut self, object: &Arc<str>) -> Self {
        self.object = Some(Arc::clone(object));
        self
    }

    /// Says what the client speaks.
    #[must_use]
    pub fn to(mut self, protocol: AppProtocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// The answer, in the form the client's protocol expects.
    pub fn response(&self, grpc: bool) -> Response<ResponseBody> {
        let mut response = if grpc { self.grpc() } else { self.http() };
        response
            .headers_mut()
            .insert(MESH_ERROR, HeaderValue::from_static(self.reason.as_str()));
        response
    }

    fn http(&self) -> Response<ResponseBody> {
        let body = match self.protocol {
            // Clients of these show what stands in `error`, if it is a text.
            Some(AppProtocol::OpenInference | AppProtocol::KServe | AppProtocol::TensorFlow) => {
                serde_json::json!({"error": self.message()})
            }
            // The shape that OpenAI's clients read; others show it as it is.
            _ => serde_json::json!({"error": {
                "message": self.message(),
                "type": "mesh_error",
                "code": self.reason.as_str(),
                "object": self.object.as_deref(),
            }}),
        };
        let mut response = Response::new(ResponseBody::message(Bytes::from(body.to_string())));
        *response.status_mut() = self.reason.status();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn grpc(&self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        self.grpc_status(response.headers_mut());
        response
    }

    /// The trailers that end a gRPC response whose head has gone already.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        self.grpc_status(&mut trailers);
        trailers.insert(MESH_ERROR, HeaderValue::from_static(self.reason.as_str()));
        trailers
    }

    fn grpc_status(&self, headers: &mut HeaderMap) {
        headers.insert("grpc-status", HeaderValue::from(self.reason.grpc_status()));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.message())) {
            headers.insert("grpc-message", message);
        }
    }

    fn message(&self) -> String {
        match &self.object {
            Some(object) => format!("{} ({}): {}", self.reason.as_str(), object, self.detail),
            None => format!("{}: {}", self.reason.as_str(), self.detail),
        }
    }
}

/// As gRPC's `grpc-message` wants it: printable ASCII but `%` (gRPC over HTTP/2, "Status-Message").
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                // Writing to a String can't fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_server_saw_is_tried_again() {
        for reason in [
            Reason::Reset,
            Reason::ResetMidway,
            Reason::FirstByteTimeout,
            Reason::TotalTimeout,
        ] {
            assert!(!reason.unseen(), "{}", reason.as_str());
        }
        for reason in [
            Reason::ConnectFailed,
            Reason::StreamRefused,
            Reason::LocalUnreachable,
        ] {
            assert!(reason.unseen(), "{}", reason.as_str());
        }
    }

    #[test]
    fn grpc_answers_are_trailers_only() {
        let failure = Failure::new(Reason::Reset, "10 % läuft").of(&Arc::from("Service ml/fraud"));
        let response = failure.response(true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(
            response.headers()["grpc-message"],
            "reset (Service ml/fraud): 10 %25 l%C3%A4uft"
        );
        assert_eq!(response.headers()[MESH_ERROR], "reset");
    }

    #[test]
    fn http_answers_say_what_and_where() {
        let failure = Failure::new(Reason::NoRule, "no rule takes it").of(&Arc::from("ModelRoute ml/fraud"));
        let response = failure.response(false);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[MESH_ERROR], "no-rule");
    }

    #[test]
    fn errors_have_the_shape_that_the_protocol_s_clients_read() {
        use http_body_util::BodyExt as _;
        let failure = Failure::new(Reason::NoRule, "no rule takes it").of(&Arc::from("ModelRoute ml/fraud"));
        let message = "no-rule (ModelRoute ml/fraud): no rule takes it";
        let text = serde_json::json!({"error": message});
        let object = serde_json::json!({"error": {
            "message": message, "type": "mesh_error", "code": "no-rule", "object": "ModelRoute ml/fraud",
        }});
        for (protocol, expected) in [
            (Some(AppProtocol::OpenInference), &text),
            (Some(AppProtocol::KServe), &text),
            (Some(AppProtocol::TensorFlow), &text),
            (Some(AppProtocol::OpenAi), &object),
            (Some(AppProtocol::Http), &object),
            (None, &object),
        ] {
            let failure = Failure {
                protocol,
                ..failure.clone()
            };
            let body = failure.response(false).into_body().collect();
            let body = futures_util::FutureExt::now_or_never(body)
                .unwrap()
                .unwrap()
                .to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body, *expected, "{protocol:?}");
        }
    }
}
