//! Puts the control plane together and runs it until it is told to stop.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_api::wire::admin::admin_server::AdminServer;
use mesh_api::wire::config::config_server::ConfigServer;
use mesh_api::wire::identity::identity_server::IdentityServer;
use mesh_api::wire::telemetry::telemetry_server::TelemetryServer;
use time::OffsetDateTime;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::ca::{Authority, Root};
use crate::config::Config;
use crate::file;
use crate::grpc::admin::AdminService;
use crate::grpc::config::ConfigService;
use crate::grpc::identity::IdentityService;
use crate::grpc::telemetry::{SharedTraffic, TelemetryService};
use crate::join::Tokens;
use crate::plane::{Plane, StateFiles};
use crate::source::watch::Watch;
use crate::state::StateDir;
use crate::tls::{self, ServerTls};

/// How long streams and requests have to end when the control plane stops.
const GRACE: Duration = Duration::from_secs(5);
/// The largest request of a proxy, in bytes: 1,000 services that it uses, with the longest names there are.
const MAX_REQUEST: usize = 256 << 10;
/// The largest report of a proxy, in bytes.
const MAX_REPORT: usize = 8 << 20;
/// The largest text that is applied, in bytes.
const MAX_APPLY: usize = 32 << 20;

/// A control plane that runs.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    state: StateDir,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Result<(), tonic::transport::Error>>>,
    renewal: JoinHandle<()>,
    watch: Option<Watch>,
}

/// Starts a control plane. When this returns, everything is ready.
///
/// # Errors
/// When the state folder, the root, the documents' folder or an address can't be used.
pub async fn start(config: Config) -> Result<Running> {
    let state = StateDir::open(&config.state)?;
    let now = OffsetDateTime::now_utc();
    let root = match config.ephemeral_ca {
        true => Root::ephemeral(&state.path("ca"), &config.trust_domain, now)?,
        false => Root::open_or_create(&state.path("ca"), &config.trust_domain, now)?,
    };
    let authority = Arc::new(Authority::new(
        root,
        config.trust_domain.clone(),
        config.leaf_lifetime,
    ));
    let tokens = Arc::new(Tokens::open(state.path("join.json")).context("read the join tokens")?);
    fs::metadata(&config.config)
        .with_context(|| format!("read the documents in {}", config.config.display()))?;
    let files = StateFiles {
        version: state.path("version"),
        history: state.path("history"),
    };
    let plane = Plane::open(&config.config, config.trust_domain.clone(), files).context("read the state")?;
    let plane = Arc::new(plane);

    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}", config.listen))?;
    let address = listener.local_addr().context("learn the address")?;
    let socket = state.socket();
    let admin = UnixListener::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(file::PRIVATE))
        .with_context(|| format!("close {} to others", socket.display()))?;

    let stop = CancellationToken::new();
    let traffic = Arc::new(SharedTraffic::default());
    let admin = serve_admin(
        admin,
        AdminService {
            plane: plane.clone(),
            authority: authority.clone(),
            tokens: tokens.clone(),
            traffic: traffic.clone(),
            stop: stop.clone(),
        },
    );
    let tls = Arc::new(ServerTls::new(authority.clone(), now)?);
    let renewal = tokio::spawn({
        let tls = tls.clone();
        async move { tls.keep_renewed().await }
    });
    let services = ProxyServices {
        config: ConfigService {
            plane: plane.clone(),
            stop: stop.clone(),
        },
        identity: IdentityService {
            plane: plane.clone(),
            authority,
            tokens,
        },
        telemetry: TelemetryService {
            plane: plane.clone(),
            traffic,
            stop: stop.clone(),
        },
    };
    let proxies = serve_proxies(listener, tls, services, stop.clone());
    let watch = Watch::start(plane.clone(), &config.config)?;
    file::replace(
        &state.address_file(),
        format!("{address}\n").as_bytes(),
        file::PUBLIC,
    )
    .context("tell the address")?;
    tracing::info!(
        %address,
        version = %plane.publisher().current().version,
        documents = plane.index().documents().count(),
        "ready"
    );
    Ok(Running {
        address,
        state,
        stop,
        tasks: vec![admin, proxies],
        renewal,
        watch: Some(watch),
    })
}

impl Running {
    /// Where proxies connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends streams and requests, waits a little for them, and takes back what tells others that it runs.
    pub async fn stop(mut self) {
        self.state.withdraw();
        self.stop.cancel();
        self.renewal.abort();
        let watch = self.watch.take();
        let _ = tokio::task::spawn_blocking(move || drop(watch)).await;
        for task in self.tasks {
            let aborter = task.abort_handle();
            match tokio::time::timeout(GRACE, task).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::warn!(%error, "a listener ended with an error"),
                Ok(Err(error)) => tracing::warn!(%error, "a listener failed"),
                Err(_) => aborter.abort(),
            }
        }
    }

    /// Waits until a listener fails, which none does by itself.
    pub async fn failed(&mut self) -> anyhow::Error {
        let [admin, proxies] = self.tasks.as_mut_slice() else {
            return std::future::pending().await;
        };
        let ended = tokio::select! {
            ended = admin => ended,
            ended = proxies => ended,
        };
        match ended {
            Ok(Ok(())) => anyhow::anyhow!("a listener ended"),
            Ok(Err(error)) => anyhow::Error::new(error).context("a listener failed"),
            Err(error) => anyhow::Error::new(error).context("a listener failed"),
        }
    }
}

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
) -> JoinHandle<Result<(), tonic::transport::Error>> {
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

fn serve_admin(
    listener: UnixListener,
    service: AdminService,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let stop = service.stop.clone();
    let server = Server::builder()
        .max_concurrent_streams(256)
        .add_service(AdminServer::new(service).max_decoding_message_size(MAX_APPLY));
    tokio::spawn(async move {
        server
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
            .await
    })
}
