//! Puts the control plane together and runs it until it is told to stop: what both kinds of it share.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::wire::admin::admin_server::AdminServer;
use mesh_api::wire::config::config_server::ConfigServer;
use mesh_api::wire::identity::identity_server::IdentityServer;
use mesh_api::wire::telemetry::telemetry_server::TelemetryServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::grpc::admin::AdminService;
use crate::grpc::config::ConfigService;
use crate::grpc::identity::IdentityService;
use crate::grpc::telemetry::TelemetryService;
use crate::tls::{self, ServerTls};

pub mod kubernetes;
pub mod standalone;

/// How long streams and requests have to end when the control plane stops.
const GRACE: Duration = Duration::from_secs(5);
/// The largest request of a proxy, in bytes: 1,000 services that it uses, with the longest names there are.
const MAX_REQUEST: usize = 256 << 10;
/// The largest report of a proxy, in bytes.
const MAX_REPORT: usize = 8 << 20;
/// The largest text that is applied, in bytes.
const MAX_APPLY: usize = 32 << 20;
/// The DNS name of the control plane's certificate. No workload's certificate has a DNS name.
const SERVER_NAME: &str = "mesh-control";

/// A listener that runs.
type Listener = JoinHandle<Result<(), tonic::transport::Error>>;

struct ProxyServices {
    config: ConfigService,
    identity: IdentityService,
    telemetry: TelemetryService,
}

fn serve_proxies(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    services: ProxyServices,
    stop: CancellationToken,
) -> Listener {
    let connections = ReceiverStream::new(tls::accept(listener, tls, stop.clone()));
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(30)))
        .max_concurrent_streams(64)
        .http2_max_header_list_size(16 << 10)
        .add_service(ConfigServer::new(services.config).max_decoding_message_size(MAX_REQUEST))
        .add_service(IdentityServer::new(services.identity).max_decoding_message_size(MAX_REQUEST))
        .add_service(TelemetryServer::new(services.telemetry).max_decoding_message_size(MAX_REPORT));
    tokio::spawn(async move {
        server
            .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
            .await
    })
}

fn serve_admin<C>(
    connections: impl Stream<Item = std::io::Result<C>> + Send + 'static,
    service: AdminService,
) -> Listener
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let stop = service.stop.clone();
    let server = Server::builder()
        .max_concurrent_streams(256)
        .add_service(AdminServer::new(service).max_decoding_message_size(MAX_APPLY));
    tokio::spawn(async move {
        server
            .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
            .await
    })
}

/// Waits a little for listeners to end.
async fn end(listeners: Vec<Listener>) {
    for listener in listeners {
        let aborter = listener.abort_handle();
        match tokio::time::timeout(GRACE, listener).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "a listener ended with an error"),
            Ok(Err(error)) => tracing::warn!(%error, "a listener failed"),
            Err(_) => aborter.abort(),
        }
    }
}

/// Waits until a listener fails, which none does by itself.
async fn first_to_fail(listeners: &mut [Listener]) -> anyhow::Error {
    if listeners.is_empty() {
        return std::future::pending().await;
    }
    match futures_util::future::select_all(listeners).await.0 {
        Ok(Ok(())) => anyhow::anyhow!("a listener ended"),
        Ok(Err(error)) => anyhow::Error::new(error).context("a listener failed"),
        Err(error) => anyhow::Error::new(error).context("a listener failed"),
    }
}
