//! What a service port speaks.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a service port speaks, as its `appProtocol` declares it.
///
/// The declaration decides how requests are read, because paths alone are ambiguous: `GET /v1/models/x` is a model's
/// status in TensorFlow Serving, its readiness in KServe V1 and its description in the OpenAI API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AppProtocol {
    /// TensorFlow Serving, REST and gRPC.
    #[serde(rename = "mesh.dev/tensorflow")]
    TensorFlow,
    /// Open Inference Protocol V2, REST and gRPC: Triton, MLServer, Seldon.
    #[serde(rename = "mesh.dev/open-inference")]
    OpenInference,
    /// KServe: its V1 protocol beside the Open Inference Protocol V2.
    #[serde(rename = "mesh.dev/kserve")]
    KServe,
    /// The OpenAI API and its relatives: vLLM, llama.cpp, SGLang, Anthropic's messages.
    #[serde(rename = "mesh.dev/openai")]
    OpenAi,
    /// MLflow, SageMaker and Databricks scoring servers.
    #[serde(rename = "mesh.dev/mlflow")]
    Mlflow,
    /// HTTP/1.1 (or HTTP/2 by negotiation) without model requests, except well-known gRPC services.
    #[serde(rename = "http")]
    Http,
    /// HTTP/2 without model requests, except well-known gRPC services.
    #[serde(rename = "http2")]
    Http2,
    /// gRPC; the well-known model services are recognised.
    #[serde(rename = "grpc")]
    Grpc,
    /// Opaque bytes.
    #[serde(rename = "tcp")]
    Tcp,
    /// What the first bytes of each connection say: HTTP/1.1 or HTTP/2 without model requests, except well-known gRPC
    /// services, or else opaque bytes, TLS among them.
    #[serde(rename = "detect")]
    Detect,
}

impl AppProtocol {
    /// Every protocol, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::TensorFlow,
        Self::OpenInference,
        Self::KServe,
        Self::OpenAi,
        Self::Mlflow,
        Self::Http,
        Self::Http2,
        Self::Grpc,
        Self::Tcp,
        Self::Detect,
    ];

    /// The documented string, as written in `appProtocol`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TensorFlow => "mesh.dev/tensorflow",
            Self::OpenInference => "mesh.dev/open-inference",
            Self::KServe => "mesh.dev/kserve",
            Self::OpenAi => "mesh.dev/openai",
            Self::Mlflow => "mesh.dev/mlflow",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Detect => "detect",
        }
    }

    /// Whether what is on such a port is HTTP, always.
    pub const fn is_http(self) -> bool {
        !matches!(self, Self::Tcp | Self::Detect)
    }

    /// Whether the port declares a model protocol, so that its paths are read.
    pub const fn names_models(self) -> bool {
        match self {
            Self::TensorFlow | Self::OpenInference | Self::KServe | Self::OpenAi | Self::Mlflow => true,
            Self::Http | Self::Http2 | Self::Grpc | Self::Tcp | Self::Detect => false,
        }
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `appProtocol` holds a word that no protocol has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown appProtocol {0:?}: use one of mesh.dev/tensorflow, mesh.dev/open-inference, mesh.dev/kserve, \
     mesh.dev/openai, mesh.dev/mlflow, http, http2, grpc, tcp, detect"
)]
pub struct UnknownProtocol(String);

impl FromStr for AppProtocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| UnknownProtocol(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_round_trip_everywhere() {
        for protocol in AppProtocol::ALL {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.as_str());
        }
        assert!("HTTP".parse::<AppProtocol>().is_err());
        assert!("".parse::<AppProtocol>().is_err());
    }
}
