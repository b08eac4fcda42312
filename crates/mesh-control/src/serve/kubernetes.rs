//! The control plane on Kubernetes: one of several replicas, all of which serve.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use mesh_api::identity::Identity;
use mesh_api::name::Name;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use super::{Listener, ProxyServices, SERVER_NAME, end, first_to_fail, serve_admin, serve_proxies};
use crate::api;
use crate::ca::secret::RootSecret;
use crate::ca::{Authority, ServerNames};
use crate::catalog::documents::Settings;
use crate::config::kubernetes::Config;
use crate::grpc::admin::AdminService;
use crate::grpc::config::ConfigService;
use crate::grpc::identity::{IdentityService, Proof};
use crate::grpc::telemetry::{SharedTraffic, TelemetryService};
use crate::health::Health;
use crate::keep;
use crate::lease::{Candidate, while_held};
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::plane::Plane;
use crate::replicas::Board;
use crate::review::Reviewer;
use crate::tls::{self, ServerTls};
use crate::webhook::Webhooks;
use crate::webhook::inject::{Injector, SettingsFile};
use crate::webhook::validate::{Validator, about};
use crate::{clock, http, source, status};

/// How long a replica that stops still answers newcomers: until the others know that it is no endpoint any more.
const LEAVE: Duration = Duration::from_secs(3);
/// How long the first calls to the API server pause when they fail.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A replica that runs.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    health: Arc<Health>,
    /// Ends what only the holder of the Lease does.
    abdicate: CancellationToken,
    /// Ends streams and requests of proxies and meshctl.
    stop: CancellationToken,
    /// Ends probes and webhooks, last of all.
    quiet: CancellationToken,
    listeners: Vec<Listener>,
    candidate: JoinSet<()>,
    http: JoinSet<()>,
    /// What ends with the replica.
    tasks: JoinSet<()>,
}

/// Starts a replica. It waits for the API server and the root for as long as it takes, alive but not ready.
///
/// # Errors
/// When there is no API server to ask, or an address can't be used.
pub async fn start(config: Config) -> Result<Running> {
    let metrics = Arc::new(Metrics::default());
    let health = Arc::new(Health::new(metrics.clone()));
    let (abdicate, stop, quiet) = <(CancellationToken, CancellationToken, CancellationToken)>::default();
    let mut http = JoinSet::new();
    let listener = bind(config.metrics_listen).await?;
    http.spawn(http::serve(
        listener,
        None,
        health.clone().router(),
        quiet.clone(),
    ));

    let client = api::client().await?;
    let roots = Arc::new(open_root(&client, &config).await);
    let authority = Arc::new(Authority::new(
        roots.roots().trust(),
        config.trust_domain.clone(),
        config.leaf_lifetime,
    ));
    let plane = Arc::new(Plane::kubernetes(Settings {
        trust_domain: config.trust_domain.clone(),
        cluster_domain: config.cluster_domain.clone(),
        namespace: config.namespace.clone(),
    }));
    let traffic = Arc::new(SharedTraffic::default());
    let now = OffsetDateTime::now_utc();

    let listener = bind(config.listen).await?;
    let address = listener.local_addr().context("learn the address")?;
    let names = tls::Listener::Proxies(ServerNames {
        dns: vec![SERVER_NAME.into()],
        identity: Some(Identity::new(
            config.trust_domain.clone(),
            config.namespace.clone(),
            SERVER_NAME.parse()?,
        )),
    });
    let tls = Arc::new(ServerTls::new(authority.clone(), names, now)?);
    let services = ProxyServices {
        config: ConfigService {
            plane: plane.clone(),
            authority: authority.clone(),
            stop: stop.clone(),
        },
        identity: IdentityService {
            plane: plane.clone(),
            authority: authority.clone(),
            proof: Proof::ServiceAccount(Reviewer::new(client.clone(), config.trust_domain.clone())),
            metrics: metrics.clone(),
        },
        telemetry: TelemetryService {
            plane: plane.clone(),
            traffic: traffic.clone(),
            stop: stop.clone(),
        },
    };
    let proxies = serve_proxies(listener, tls.clone(), services, stop.clone());
    let admin = AdminService {
        plane: plane.clone(),
        authority: authority.clone(),
        tokens: None,
        roots: Some(roots.clone()),
        traffic,
        stop: stop.clone(),
    };
    let admin = serve_admin(TcpListenerStream::new(bind(config.admin_listen).await?), admin);

    let names = ServerNames {
        dns: webhook_names(&config.namespace),
        identity: None,
    };
    let webhook_tls = ServerTls::new(authority.clone(), tls::Listener::Webhooks(names), now)?;
    let webhook_tls = Arc::new(webhook_tls);
    let objects = plane.objects().context("the objects of Kubernetes")?.clone();
    let settings = config
        .inject_config
        .as_deref()
        .map(SettingsFile::open)
        .transpose()?;
    let settings = settings.map(Arc::new);
    let webhooks = Arc::new(Webhooks {
        validate: validator(&config, objects.clone()),
        inject: settings
            .clone()
            .map(|settings| Injector::new(client.clone(), settings)),
        metrics: metrics.clone(),
    });
    let listener = bind(config.webhook_listen).await?;
    http.spawn(http::serve(
        listener,
        Some(webhook_tls.clone()),
        webhooks.router(),
        quiet.clone(),
    ));

    let (candidate, held) = Candidate::new(client.clone(), config.namespace.as_str(), config.pod.to_string());
    let mut candidates = JoinSet::new();
    candidates.spawn({
        let (metrics, abdicate) = (metrics.clone(), abdicate.clone());
        async move { candidate.run(&metrics, abdicate).await }
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { tls.keep_renewed().await });
    tasks.spawn(async move { webhook_tls.keep_renewed().await });
    tasks.spawn({
        let (roots, authority, metrics) = (roots.clone(), authority.clone(), metrics.clone());
        async move { roots.follow(&authority, &metrics).await }
    });
    let board = |name| Board::new(client.clone(), config.namespace.as_str(), name);
    let (rotation, reach) = (board(keep::rotation::BOARD), board(status::others::BOARD));
    tasks.spawn({
        let (board, pod) = (rotation.clone(), config.pod.clone());
        let (roots, plane, authority) = (roots.clone(), plane.clone(), authority.clone());
        async move { keep::rotation::tell(&board, pod.as_str(), &roots, &plane, &authority).await }
    });
    tasks.spawn({
        let (board, pod, held) = (reach.clone(), config.pod.clone(), held.clone());
        let (objects, proxies) = (objects.clone(), plane.proxies().clone());
        async move { status::others::tell(&board, pod.as_str(), held, &objects, &proxies).await }
    });
    tasks.spawn(note_versions(plane.clone(), metrics.clone()));
    if let Some(settings) = settings {
        tasks.spawn(async move { settings.follow().await });
    }
    tasks.spawn(source::kubernetes::follow(objects.clone(), client.clone()));
    tasks.spawn({
        let (authority, metrics) = (authority.clone(), metrics.clone());
        let (proxies, pod) = (plane.proxies().clone(), config.pod.clone());
        while_held(held, move || {
            let (client, authority, metrics) = (client.clone(), authority.clone(), metrics.clone());
            let (rotation, reach, roots) = (rotation.clone(), reach.clone(), roots.clone());
            let (objects, proxies, pod) = (objects.clone(), proxies.clone(), pod.clone());
            async move {
                tokio::join!(
                    keep::bundles::keep(client.clone(), &authority, &metrics),
                    keep::webhooks::keep(client.clone(), &authority, &metrics),
                    keep::rotation::drive(&rotation, &roots),
                    status::keep(&objects, &proxies, &client, &reach, pod.as_str()),
                );
            }
        })
    });
    health.started(plane, authority);
    tracing::info!(%address, replica = %config.pod, "serves");
    Ok(Running {
        address,
        health,
        abdicate,
        stop,
        quiet,
        listeners: vec![proxies, admin],
        candidate: candidates,
        http,
        tasks,
    })
}

impl Running {
    /// Where proxies connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says that it is not ready, hands the Lease on, ends streams so that proxies connect elsewhere, and then everything.
    pub async fn stop(mut self) {
        self.health.stops();
        self.abdicate.cancel();
        while self.candidate.join_next().await.is_some() {}
        tokio::time::sleep(LEAVE).await;
        self.stop.cancel();
        end(self.listeners).await;
        self.quiet.cancel();
        let _ = tokio::time::timeout(super::GRACE, async {
            while self.http.join_next().await.is_some() {}
        })
        .await;
        self.tasks.abort_all();
    }

    /// Waits until a listener fails, which none does by itself.
    pub async fn failed(&mut self) -> anyhow::Error {
        first_to_fail(&mut self.listeners).await
    }
}

/// The names by which the API server calls Service mesh-control.
fn webhook_names(namespace: &Name) -> Vec<String> {
    vec![
        format!("{SERVER_NAME}.{namespace}.svc"),
        format!("{SERVER_NAME}.{namespace}"),
    ]
}

fn validator(config: &Config, objects: Arc<Objects>) -> Validator {
    Validator {
        trust_domain: config.trust_domain.clone(),
        namespace: config.namespace.clone(),
        in_force: Arc::new(move |kind, service| {
            let catalog = objects.lock();
            let mut ids = catalog
                .documents()
                .filter(|document| about(document).as_ref() == Some(service))
                .map(|document| document.id());
            ids.find(|id| id.kind == kind)
        }),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}

/// The root, as soon as the API server answers and there is one that can be used.
async fn open_root(client: &Client, config: &Config) -> RootSecret {
    let (mut pause, most) = PAUSE;
    loop {
        let namespace = config.namespace.as_str();
        match RootSecret::open_or_create(client.clone(), namespace, config.trust_domain.clone()).await {
            Ok(roots) => return roots,
            Err(error) => tracing::error!(?pause, "the root: {error:#}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(most);
    }
}

/// Notes when versions are published.
async fn note_versions(plane: Arc<Plane>, metrics: Arc<Metrics>) {
    let mut published = plane.publisher().follow();
    loop {
        if published.borrow_and_update().version.0 > 0 {
            metrics.published(clock::unix_now());
        }
        if published.changed().await.is_err() {
            return;
        }
    }
}
