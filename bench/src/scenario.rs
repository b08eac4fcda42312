//! The four loads of the bench.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What the load generator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// HTTP/1.1, one request at a time on a connection
    Http1,
    /// Unary gRPC, several streams on a connection
    Grpc,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Grpc => "grpc",
        }
    }
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// HTTP/1.1, 32 connections, each sends when the last response is there
    Http1Closed,
    /// Unary gRPC, 4 connections × 8 streams, each sends when the last response is there
    GrpcClosed,
    /// HTTP/1.1 at a fixed rate
    Http1Open,
    /// Unary gRPC at a fixed rate
    GrpcOpen,
}

impl Scenario {
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Http1Closed | Self::Http1Open => Protocol::Http1,
            Self::GrpcClosed | Self::GrpcOpen => Protocol::Grpc,
        }
    }

    /// Connections, and requests in flight on each at most.
    pub(crate) fn connections(self) -> (usize, usize) {
        match self.protocol() {
            Protocol::Http1 => (32, 1),
            Protocol::Grpc => (4, 8),
        }
    }

    /// Whether requests are sent at a fixed rate; only then is latency meaningful.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Http1Open | Self::GrpcOpen)
    }

    /// The title for people.
    pub(crate) fn title(self, rate: u32) -> String {
        let (connections, streams) = self.connections();
        match self {
            Self::Http1Closed => format!("HTTP/1.1, closed loop, {connections} connections"),
            Self::GrpcClosed => {
                format!("gRPC unary, closed loop, {connections} connections × {streams} streams")
            }
            Self::Http1Open => format!("HTTP/1.1, open loop, {rate} requests/s"),
            Self::GrpcOpen => format!("gRPC unary, open loop, {rate} requests/s"),
        }
    }
}
