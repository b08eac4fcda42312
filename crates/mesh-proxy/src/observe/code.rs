//! How a request ended, as label and as verdict.

use std::fmt;

/// A request's final code: the gRPC status where there is one, else the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Nothing was answered.
    None,
    /// HTTP status.
    Http(u16),
    /// None to tell: a connection of opaque bytes.
    Tcp,
    /// gRPC status, as the numbers of the gRPC specification.
    Grpc(u16),
}

/// Names of the gRPC statuses, by number. Source: gRPC core's `statuscodes.md`.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Code {
    /// Whether the code says that the server failed (rather than that the caller asked for something wrong): HTTP 5xx,
    /// and of gRPC's statuses UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS, as OpenTelemetry's
    /// semantic conventions for RPC servers have it (but for UNIMPLEMENTED, which callers cause), and numbers unknown.
    pub const fn is_server_fault(self) -> bool {
        match self {
            Self::None => true,
            Self::Tcp => false,
            Self::Http(status) => status >= 500,
            Self::Grpc(status) => matches!(status, 2 | 4 | 13 | 14 | 15 | 17..),
        }
    }
}

/// The label: `200`, `UNAVAILABLE`, `tcp`, or empty when nothing was answered.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Tcp => f.write_str("tcp"),
            Self::Http(status) => write!(f, "{status}"),
            Self::Grpc(status) => f.write_str(GRPC.get(usize::from(*status)).unwrap_or(&"INVALID")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_faults() {
        for (code, label, fault) in [
            (Code::None, "", true),
            (Code::Http(200), "200", false),
            (Code::Http(404), "404", false),
            (Code::Http(429), "429", false),
            (Code::Http(502), "502", true),
            (Code::Grpc(0), "OK", false),
            (Code::Grpc(1), "CANCELLED", false),
            (Code::Grpc(4), "DEADLINE_EXCEEDED", true),
            (Code::Grpc(8), "RESOURCE_EXHAUSTED", false),
            (Code::Grpc(12), "UNIMPLEMENTED", false),
            (Code::Grpc(14), "UNAVAILABLE", true),
            (Code::Grpc(999), "INVALID", true),
        ] {
            assert_eq!(
                (code.to_string().as_str(), code.is_server_fault()),
                (label, fault),
                "{code:?}"
            );
        }
    }
}
