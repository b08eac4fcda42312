//! Probes of gRPC's health service: `grpc.health.v1.Health/Check`, in plaintext, as the kubelet has them.
//!
//! Source: grpc/grpc, `doc/health-checking.md`.

use std::net::SocketAddr;

use http::StatusCode;
use http::uri::PathAndQuery;
use mesh_api::inject::probe::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::ask::Failed;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Asks.
pub(super) async fn perform(probe: &Grpc, at: SocketAddr) -> Result<(), Failed> {
    let unanswered = |reason: String| Failed::unanswered(format!("{at}: {reason}"));
    let endpoint = Endpoint::from_shared(format!("http://{at}"))
        .and_then(|endpoint| endpoint.user_agent("kube-probe/mesh-proxy"))
        .map_err(|error| unanswered(error.to_string()))?;
    let channel = endpoint.connect().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        unanswered(cause.unwrap_or_else(|| error.to_string()))
    })?;
    let mut client = tonic::client::Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| unanswered(error.to_string()))?;
    let request = tonic::Request::new(HealthCheckRequest {
        service: probe.service.clone().unwrap_or_default(),
    });
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = client
        .unary(request, path, codec)
        .await
        .map_err(|status| unanswered(format!("{} ({:?})", status.message(), status.code())))?;
    match answer.into_inner().status {
        SERVING => Ok(()),
        status => Err(Failed {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: format!("{at}: grpc.health.v1 says {status}, not SERVING"),
        }),
    }
}
