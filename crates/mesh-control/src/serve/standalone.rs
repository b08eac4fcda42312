//! The control plane beside its documents: a folder, a state, a socket for meshctl.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::{Context, Result};
use mesh_api::identity::Identity;
use time::OffsetDateTime;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use super::{Listener, ProxyServices, SERVER_NAME, end, first_to_fail, serve_admin, serve_proxies};
use crate::ca::{Authority, ServerNames, Trust, folder};
use crate::config::Config;
use crate::file;
use crate::files::StateFiles;
use crate::grpc::admin::AdminService;
use crate::grpc::config::ConfigService;
use crate::grpc::identity::{IdentityService, Proof};
use crate::grpc::telemetry::{SharedTraffic, TelemetryService};
use crate::join::Tokens;
use crate::metrics::Metrics;
use crate::plane::Plane;
use crate::source::watch::Watch;
use crate::state::StateDir;
use crate::tls::{self, ServerTls};

/// A control plane that runs.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    state: StateDir,
    stop: CancellationToken,
    listeners: Vec<Listener>,
    renewal: JoinHandle<()>,
    authority: Arc<Authority>,
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
        true => folder::ephemeral(&state.path("ca"), &config.trust_domain, now)?,
        false => folder::open_or_create(&state.path("ca"), &config.trust_domain, now)?,
    };
    let authority = Arc::new(Authority::new(
        Trust::new(Arc::new(root), []),
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
        UnixListenerStream::new(admin),
        AdminService {
            plane: plane.clone(),
            authority: authority.clone(),
            tokens: Some(tokens.clone()),
            roots: None,
            traffic: traffic.clone(),
            stop: stop.clone(),
        },
    );
    let names = ServerNames {
        dns: vec![SERVER_NAME.into()],
        identity: Some(Identity::new(
            config.trust_domain.clone(),
            "mesh-system".parse()?,
            SERVER_NAME.parse()?,
        )),
    };
    let tls = ServerTls::new(authority.clone(), tls::Listener::Proxies(names), now)?;
    let tls = Arc::new(tls);
    let renewal = tokio::spawn({
        let tls = tls.clone();
        async move { tls.keep_renewed().await }
    });
    let services = ProxyServices {
        config: ConfigService {
            plane: plane.clone(),
            authority: authority.clone(),
            stop: stop.clone(),
        },
        identity: IdentityService {
            plane: plane.clone(),
            authority: authority.clone(),
            proof: Proof::Joined(tokens),
            metrics: Arc::new(Metrics::default()),
        },
        telemetry: TelemetryService {
            plane: plane.clone(),
            traffic,
            stop: stop.clone(),
        },
    };
    let proxies = serve_proxies(listener, tls, services, stop.clone());
    let watch = plane.files().cloned().map(Watch::start).transpose()?;
    file::replace(
        &state.address_file(),
        format!("{address}\n").as_bytes(),
        file::PUBLIC,
    )
    .context("tell the address")?;
    tracing::info!(
        %address,
        version = %plane.publisher().current().version,
        documents = plane.documents().len(),
        "ready"
    );
    Ok(Running {
        address,
        state,
        stop,
        listeners: vec![admin, proxies],
        renewal,
        authority,
        watch,
    })
}

impl Running {
    /// Where proxies connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who signs.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Ends streams and requests, waits a little for them, and takes back what tells others that it runs.
    pub async fn stop(mut self) {
        self.state.withdraw();
        self.stop.cancel();
        self.renewal.abort();
        let watch = self.watch.take();
        let _ = tokio::task::spawn_blocking(move || drop(watch)).await;
        end(self.listeners).await;
    }

    /// Waits until a listener fails, which none does by itself.
    pub async fn failed(&mut self) -> anyhow::Error {
        first_to_fail(&mut self.listeners).await
    }
}
