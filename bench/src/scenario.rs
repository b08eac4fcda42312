//! The loads of the bench.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What the load generator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// HTTP/1.1, one request at a time on a connection
    Http1,
    /// HTTP/2 with prior knowledge, several streams on a connection
    Http2,
    /// gRPC, several streams on a connection
    Grpc,
}

/// What is exchanged, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
pub(crate) enum Exchange {
    /// An inference, 1 KiB each way
    Infer,
    /// An inference, 64 KiB each way
    #[value(name = "infer-64k")]
    Infer64k,
    /// An inference, 8 MiB each way
    #[value(name = "infer-8m")]
    Infer8m,
    /// A 1 MB chat completion that names its model first
    ModelFirst,
    /// A 1 MB chat completion that names its model last
    ModelLast,
    /// A stream of 50 chunks a second: server-sent events, or messages of a gRPC call
    Stream,
    /// A TCP connection and a full TLS handshake with certificates on both sides
    Handshake,
}

/// Which of a pair's ports a load goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A service of the Open Inference Protocol, with a route by model.
    Model,
    /// A service of the OpenAI API, with a route by model.
    Chat,
    /// A service that speaks HTTP and nothing that the mesh knows.
    Opaque,
    /// The inbound proxy itself.
    Between,
}

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// HTTP/1.1, 32 connections, each sends when the last response is there
    Http1Closed,
    /// HTTP/2, 4 connections × 8 streams, each sends when the last response is there
    Http2Closed,
    /// Unary gRPC, 4 connections × 8 streams, each sends when the last response is there
    GrpcClosed,
    /// HTTP/1.1 at a fixed rate
    Http1Open,
    /// Unary gRPC at a fixed rate
    GrpcOpen,
    /// HTTP/1.1 with bodies of 64 KiB, 8 connections
    #[value(name = "http1-64k")]
    #[serde(rename = "http1-64k")]
    Http164k,
    /// HTTP/1.1 with bodies of 8 MiB, 4 connections
    #[value(name = "http1-8m")]
    #[serde(rename = "http1-8m")]
    Http18m,
    /// Server-sent events: 500 streams of 50 chunks/s
    Sse,
    /// gRPC server streaming: 500 streams of 50 messages/s on 10 connections
    GrpcStream,
    /// Full TLS handshakes with the inbound proxy, 4 at a time
    Handshakes,
    /// Chat completions of 1 MB with `model` first, routed by it
    ChatFirst,
    /// Chat completions of 1 MB with `model` last, routed by it
    ChatLast,
    /// The same through a service that is plain HTTP
    ChatOpaque,
}

impl Scenario {
    /// What a run plays unless told otherwise: what the bars are about.
    pub(crate) const DEFAULT: [&str; 8] = [
        "http1-closed",
        "grpc-closed",
        "http1-open",
        "grpc-open",
        "sse",
        "chat-first",
        "chat-last",
        "chat-opaque",
    ];

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::GrpcClosed | Self::GrpcOpen | Self::GrpcStream => Protocol::Grpc,
            Self::Http2Closed => Protocol::Http2,
            _ => Protocol::Http1,
        }
    }

    pub(crate) fn exchange(self) -> Exchange {
        match self {
            Self::Http1Closed | Self::Http2Closed | Self::GrpcClosed | Self::Http1Open | Self::GrpcOpen => {
                Exchange::Infer
            }
            Self::Http164k => Exchange::Infer64k,
            Self::Http18m => Exchange::Infer8m,
            Self::Sse | Self::GrpcStream => Exchange::Stream,
            Self::Handshakes => Exchange::Handshake,
            Self::ChatFirst => Exchange::ModelFirst,
            Self::ChatLast | Self::ChatOpaque => Exchange::ModelLast,
        }
    }

    pub(crate) fn entry(self) -> Entry {
        match self {
            Self::Handshakes => Entry::Between,
            Self::Sse | Self::ChatFirst | Self::ChatLast => Entry::Chat,
            Self::ChatOpaque => Entry::Opaque,
            _ => Entry::Model,
        }
    }

    /// Connections, and exchanges in flight on each at most.
    pub(crate) fn connections(self) -> (usize, usize) {
        match self {
            Self::Http1Closed | Self::Http1Open => (32, 1),
            Self::Http2Closed | Self::GrpcClosed | Self::GrpcOpen => (4, 8),
            Self::Http164k => (8, 1),
            Self::Sse => (500, 1),
            Self::GrpcStream => (10, 50),
            Self::Http18m | Self::Handshakes | Self::ChatFirst | Self::ChatLast | Self::ChatOpaque => (4, 1),
        }
    }

    /// Whether requests are sent at a fixed rate.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Http1Open | Self::GrpcOpen)
    }

    /// Whether latency says something: in a closed loop it only mirrors throughput.
    pub(crate) fn has_latency(self) -> bool {
        self.is_open() || self.exchange() == Exchange::Stream
    }

    /// Whether it compares the mesh with itself only.
    pub(crate) fn is_of_mesh(self) -> bool {
        matches!(self, Self::ChatFirst | Self::ChatLast | Self::ChatOpaque)
    }

    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self.exchange() {
            Exchange::Stream => "chunk",
            Exchange::Handshake => "handshake",
            _ => "request",
        }
    }

    /// The title for people.
    pub(crate) fn title(self, rate: u32) -> String {
        let (connections, streams) = self.connections();
        match self {
            Self::Http1Closed => format!("HTTP/1.1, closed loop, {connections} connections"),
            Self::Http2Closed => {
                format!("HTTP/2, closed loop, {connections} connections × {streams} streams")
            }
            Self::GrpcClosed => {
                format!("gRPC unary, closed loop, {connections} connections × {streams} streams")
            }
            Self::Http1Open => format!("HTTP/1.1, open loop, {rate} requests/s"),
            Self::GrpcOpen => format!("gRPC unary, open loop, {rate} requests/s"),
            Self::Http164k => format!("HTTP/1.1, 64 KiB each way, {connections} connections"),
            Self::Http18m => format!("HTTP/1.1, 8 MiB each way, {connections} connections"),
            Self::Sse => format!("Server-sent events, {connections} streams × 50 chunks/s"),
            Self::GrpcStream => {
                let streams = connections * streams;
                format!("gRPC streaming, {streams} streams × 50 messages/s, {connections} connections")
            }
            Self::Handshakes => "Full TLS handshakes with the inbound proxy".to_owned(),
            Self::ChatFirst => "Chat completions of 1 MB, model first".to_owned(),
            Self::ChatLast => "Chat completions of 1 MB, model last".to_owned(),
            Self::ChatOpaque => "Chat completions of 1 MB, opaque route".to_owned(),
        }
    }
}

/// The name of a value as the command line has it.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}
