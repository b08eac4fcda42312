//! Puts the proxy together, runs it, and ends it: workers for requests, and beside them, on the runtime that calls
//! this, everything else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_api::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use crate::admin::{self, Admin};
use crate::apply::{Applier, Listening};
use crate::config::Config;
use crate::control::Subscription;
use crate::control::dial::Dialer;
use crate::credentials::{Keeper, Proof};
use crate::discovery::Discovery;
use crate::drain::Drain;
use crate::observe::{Observe, report, spans};
use crate::persist;
use crate::probe::{self, Prober};
use crate::shared::Shared;
use crate::state::StateDir;
use crate::takeover::{self, Predecessor, TakeoverSocket};
use crate::worker::Workers;

/// A proxy that runs.
pub struct Proxy {
    subscription: Subscription,
    observe: Arc<Observe>,
    shared: Arc<Shared>,
    drain_limit: Option<Duration>,
    admin: SocketAddr,
    /// What ends with the proxy.
    tasks: JoinSet<()>,
    /// What ends by itself, once there is nothing left to save.
    saving: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy. When this returns, it serves with the configuration and the certificate that were saved, if
    /// there are some. The access log goes to `log`.
    ///
    /// # Errors
    /// When the state directory or the admin address can't be used, or saved secrets are open to others.
    pub async fn start(config: &Config, log: Box<dyn io::Write + Send>) -> Result<Self> {
        let state = StateDir::open(&config.state)?;
        let mut predecessor = find_predecessor(&state).await;
        let listener = admin_listener(config.admin, predecessor.as_mut())?;
        let admin = listener.local_addr().context("--admin: learn the address")?;
        let dialer = Arc::new(Dialer::new(config.control.clone(), config.trust_bundle.clone()));

        let (observe, finished) = Observe::new(config.workload.clone(), log);
        let shared = Arc::new(Shared {
            limits: config.limits.clone(),
            discovery: Discovery::new(config.on_demand.clone()),
            ..Shared::default()
        });
        let (renewed, generation) = watch::channel(0);
        let (latest, watched) = watch::channel(None);
        let (wanted, wants) = watch::channel(String::new());
        let mut keeper = Keeper {
            workload: config.workload.clone(),
            identity: config.identity.clone(),
            proof: Proof::of(config),
            dialer: Arc::clone(&dialer),
            state: state.clone(),
            cell: Arc::clone(&shared.credentials),
            renewed,
            wanted: wants,
            observe: Arc::clone(&observe),
        };
        keeper.load()?;
        if shared.credentials.load().is_none() {
            // A certificate at hand brings its own roots.
            dialer.roots()?;
        }
        let inherited = predecessor.as_mut().map(|it| std::mem::take(&mut it.listeners));
        let workers =
            Workers::start(&shared, &observe, config.worker_count()).context("--workers: start threads")?;
        let mut subscription = Subscription {
            dialer: Arc::clone(&dialer),
            credentials: Arc::clone(&shared.credentials),
            renewed: generation.clone(),
            wanted,
            shared: Arc::clone(&shared),
            observe: Arc::clone(&observe),
            applier: Applier::new(Arc::clone(&shared), workers, inherited.unwrap_or_default()),
            latest,
        };
        take_saved(&state, &mut subscription);

        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run());
        let watched_memory = Arc::clone(&shared);
        tasks.spawn(async move { watched_memory.memory.watch(watched_memory.limits.memory()).await });
        tasks.spawn(spans::export(Arc::clone(&observe), finished));
        tasks.spawn(report::run(
            Arc::clone(&observe),
            dialer,
            Arc::clone(&shared.credentials),
            generation.clone(),
        ));
        let admin_state = Arc::new(Admin {
            observe: Arc::clone(&observe),
            credentials: Arc::clone(&shared.credentials),
            latest: watched.clone(),
            drain: shared.drain.clone(),
            limits: config.limits.clone(),
        });
        let running = takeover::Running {
            listening: subscription.applier.listening().clone(),
            admin: Arc::new((config.admin, listener.try_clone().context("--admin")?)),
            latest: watched.clone(),
            state: state.clone(),
        };
        let listener = TcpListener::from_std(listener).context("--admin: use the socket")?;
        let mut theirs = vec![tasks.spawn(admin::serve(listener, Arc::clone(&admin_state)))];
        if let Some(at) = config.probing.probe_listen {
            let listener =
                probe::bind(at).with_context(|| format!("--probe-listen: can't listen on {at}"))?;
            let prober = Arc::new(Prober::new(&config.probing, Arc::clone(&admin_state)));
            theirs.push(tasks.spawn(prober.serve(listener)));
        }
        if let Some(predecessor) = predecessor {
            tasks.spawn(release(predecessor, admin_state, watched.clone(), generation));
        }
        let socket = TakeoverSocket::bind(&state).context("--state: listen for the next proxy")?;
        let saving = tokio::spawn(persist::keep(state, watched));
        theirs.push(saving.abort_handle());
        tasks.spawn(give_way(
            takeover::hand_over(socket, running),
            shared.drain.clone(),
            theirs,
        ));
        tracing::info!(workload = %config.workload, %admin, proxy = observe.proxy_id, "started");
        Ok(Self {
            subscription,
            observe,
            shared,
            drain_limit: config.drain_limit.map(mesh_api::duration::Duration::get),
            admin,
            tasks,
            saving,
        })
    }

    /// Where the admin endpoint listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What makes the proxy end.
    pub fn drain(&self) -> &Drain {
        &self.shared.drain
    }

    /// Follows the control plane until the proxy is drained: told to end, and every connection closed, or the limit
    /// over. Then saves, writes what is left of the access log, and ends the workers.
    pub async fn run(mut self) {
        let drain = self.shared.drain.clone();
        let listening = self.subscription.applier.listening().clone();
        tokio::select! {
            () = drained(&drain, self.drain_limit, &listening) => {}
            () = self.subscription.run() => {}
        }
        self.tasks.abort_all();
        let Subscription { applier, latest, .. } = self.subscription;
        drop(latest);
        let saved = self.saving.await;
        // A proxy that took over saves in place of this one.
        if saved.is_err_and(|error| error.is_panic()) {
            tracing::warn!("the configuration could not be saved");
        }
        let observe = self.observe;
        let ended = tokio::task::spawn_blocking(move || {
            applier.stop();
            // After the workers: requests that were cut off are logged too.
            observe.close();
        });
        if ended.await.is_err() {
            tracing::warn!("the workers did not end as they should");
        }
        tracing::info!("ended");
    }
}

/// The proxy that runs with the same state, if there is one.
async fn find_predecessor(state: &StateDir) -> Option<Predecessor> {
    let state = state.clone();
    let found = tokio::task::spawn_blocking(move || Predecessor::find(&state));
    match found.await.map_err(io::Error::other).flatten() {
        Ok(Some(predecessor)) => {
            let listeners = predecessor.listeners.len();
            tracing::info!(
                listeners,
                "takeover: taking over from the proxy of this state folder"
            );
            Some(predecessor)
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!("takeover: the proxy of this state folder does not hand over: {error}");
            None
        }
    }
}

/// Where admin requests come in: where the proxy before listens, or a new socket.
fn admin_listener(at: SocketAddr, predecessor: Option<&mut Predecessor>) -> Result<std::net::TcpListener> {
    let listener = match predecessor.and_then(|predecessor| predecessor.take_admin(at)) {
        Some(listener) => listener,
        None => std::net::TcpListener::bind(at).with_context(|| format!("--admin: can't listen on {at}"))?,
    };
    listener.set_nonblocking(true).context("--admin")?;
    Ok(listener)
}

/// Lets the proxy before go as soon as this one serves.
async fn release(
    predecessor: Predecessor,
    admin: Arc<Admin>,
    mut latest: watch::Receiver<Option<Arc<Snapshot>>>,
    mut renewed: watch::Receiver<u64>,
) {
    while admin.not_ready().is_some() {
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            changed = renewed.changed() => if changed.is_err() { return },
        }
    }
    match predecessor.release() {
        Ok(()) => tracing::info!("takeover: done"),
        Err(error) => tracing::info!("takeover: the proxy before is gone already: {error}"),
    }
}

/// Ends this proxy when another one has taken over: its state folder, and what answers people and the kubelet, are the
/// other's now.
async fn give_way(taken_over: impl Future<Output = ()>, drain: Drain, theirs: Vec<AbortHandle>) {
    tokio::select! {
        () = taken_over => {
            tracing::info!("takeover: another proxy has taken over");
            theirs.iter().for_each(AbortHandle::abort);
            drain.start();
        }
        // Whoever starts now begins by itself.
        () = drain.started() => {}
    }
}

/// Until the proxy is told to end and has nothing open, or the limit is over.
async fn drained(drain: &Drain, limit: Option<Duration>, listening: &Listening) {
    drain.started().await;
    listening.close();
    tracing::info!(open = drain.open_count(), "draining");
    match limit {
        None => drain.done().await,
        Some(limit) => {
            if tokio::time::timeout(limit, drain.done()).await.is_err() {
                tracing::warn!(
                    open = drain.open_count(),
                    "--drain-limit is over: closing what is left"
                );
            }
        }
    }
}

/// Serves with the saved configuration until there is a newer one.
fn take_saved(state: &StateDir, subscription: &mut Subscription) {
    match persist::load(state) {
        Ok(None) => {}
        Ok(Some(snapshot)) => {
            let version = snapshot.version;
            match subscription.take_saved(snapshot) {
                Ok(()) => tracing::info!(%version, "configuration: using the saved one"),
                Err(refusals) => {
                    for refusal in refusals {
                        tracing::error!(
                            %version,
                            "configuration: the saved one is not used: {}: {}: {}",
                            refusal.object, refusal.field, refusal.reason
                        );
                    }
                }
            }
        }
        Err(error) => tracing::warn!("configuration: the saved one is not used: {error}"),
    }
}
