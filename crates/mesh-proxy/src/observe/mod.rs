//! What the proxy tells about itself and its requests: metrics, access log, spans, reports.
//!
//! [`Observe`] is shared by all threads and read by exporters; each worker counts through its own [`WorkerObserve`];
//! each request through its [`Record`], which closes when it is dropped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use mesh_api::name::ObjectName;
use mesh_api::snapshot::{Mesh, Tracing};
use metrics::{Counter, Gauge};

pub mod access_log;
pub mod code;
pub mod exposition;
pub mod names;
pub mod process;
pub mod random;
pub mod record;
pub mod registry;
pub mod report;
pub mod series;
pub mod series_key;
pub mod spans;
pub mod trace;

pub use record::Record;
pub use series_key::SeriesKeyRef;

use crate::cut::Cut;
use access_log::AccessLog;
use random::Random;
use record::Details;
use registry::Registry;
use series::{Series, SeriesCache, SeriesTable};
use spans::{FinishedSpan, SpanSender};

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From other workloads to the proxy's own.
    Inbound,
    /// From the proxy's own workload to services.
    Outbound,
}

impl Direction {
    /// The word in labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];
}

/// What is told about requests, as the mesh is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The percentage of successful requests that are logged; none: no access log.
    pub access_log_percent: Option<f64>,
    /// Where spans go; none: there are none.
    pub tracing: Option<Tracing>,
}

impl From<&Mesh> for Settings {
    fn from(mesh: &Mesh) -> Self {
        Self {
            access_log_percent: mesh.access_log_percent,
            tracing: mesh.tracing.clone(),
        }
    }
}

/// Handles of the metrics that are not about requests, resolved once.
pub struct Handles {
    /// Version of the configuration being served.
    pub config_version: Gauge,
    /// Configurations refused.
    pub config_refused: Counter,
    /// Services that are kept for having been called.
    pub on_demand: Gauge,
    /// When the certificate ends, in seconds since 1970.
    pub certificate_expiry: Gauge,
    /// 1 while the configuration stream is open.
    pub control_connected: Gauge,
    /// Spans lost.
    pub spans_dropped: Counter,
    log_dropped: Counter,
    connections: [(Counter, Gauge); 2],
    resting: [Gauge; 2],
    cuts: [[Counter; Cut::ALL.len()]; 2],
}

/// All that the proxy tells; shared by all threads.
pub struct Observe {
    /// The workload the proxy stands before.
    pub workload: ObjectName,
    /// Unique for each start of a proxy.
    pub proxy_id: String,
    /// Handles of the metrics that are not about requests.
    pub handles: Handles,
    started: SystemTime,
    settings: ArcSwap<Settings>,
    registry: Registry,
    series: Arc<SeriesTable>,
    workers: AtomicUsize,
    access_log: AccessLog,
    spans: SpanSender,
}

impl Observe {
    /// For the proxy of a workload; log lines go to `log`, which has a thread of its own. The receiver yields finished
    /// spans, for [`spans::export`].
    pub fn new(
        workload: ObjectName,
        log: Box<dyn std::io::Write + Send>,
    ) -> (Arc<Self>, tokio::sync::mpsc::Receiver<FinishedSpan>) {
        let registry = Registry::default();
        let random = Random::default();
        let (spans, finished) = spans::channel();
        let counter = |name, labels: &[(&'static str, &str)]| registry.counter(name, labels);
        let connections = Direction::ALL.map(|direction| {
            let labels = [(names::DIRECTION, direction.as_str())];
            (
                counter(names::CONNECTIONS, &labels),
                registry.gauge(names::CONNECTIONS_OPEN, &labels),
            )
        });
        let resting = Direction::ALL.map(|direction| {
            let labels = [(names::DIRECTION, direction.as_str())];
            registry.gauge(names::CONNECTIONS_RESTING, &labels)
        });
        let cuts = Direction::ALL.map(|direction| {
            Cut::ALL.map(|cut| {
                let labels = [
                    (names::DIRECTION, direction.as_str()),
                    (names::REASON, cut.as_str()),
                ];
                counter(names::CUT, &labels)
            })
        });
        let handles = Handles {
            config_version: registry.gauge(names::CONFIG_VERSION, &[]),
            config_refused: counter(names::CONFIG_REFUSED, &[]),
            on_demand: registry.gauge(names::ON_DEMAND, &[]),
            certificate_expiry: registry.gauge(names::CERTIFICATE_EXPIRY, &[]),
            control_connected: registry.gauge(names::CONTROL_CONNECTED, &[]),
            spans_dropped: counter(names::SPANS_DROPPED, &[]),
            log_dropped: counter(names::LOG_DROPPED, &[]),
            connections,
            resting,
            cuts,
        };
        let version = [(names::VERSION, env!("CARGO_PKG_VERSION"))];
        registry.gauge(names::BUILD, &version).set(1.0);
        let observe = Self {
            workload,
            proxy_id: format!("{:016x}{:016x}", random.next(), random.next()),
            handles,
            started: SystemTime::now(),
            settings: ArcSwap::default(),
            registry,
            series: Arc::default(),
            workers: AtomicUsize::new(0),
            access_log: AccessLog::start(log),
            spans,
        };
        (Arc::new(observe), finished)
    }

    /// From now on, what is told about new requests is this.
    pub fn configure(&self, settings: Settings) {
        if **self.settings.load() != settings {
            self.settings.store(Arc::new(settings));
        }
    }

    /// What is told about requests now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// What one more worker counts with.
    pub fn worker(self: &Arc<Self>) -> Rc<WorkerObserve> {
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        let series = SeriesCache::new(Arc::clone(&self.series), number);
        let unrouted = Direction::ALL.map(|direction| series.get(&SeriesKeyRef::unrouted(direction)));
        Rc::new(WorkerObserve {
            series,
            unrouted,
            settings: RefCell::new(Cache::new(SettingsOf(Arc::clone(self)))),
            random: Random::default(),
            ends: Cell::new(false),
            spare: RefCell::default(),
            shared: Arc::clone(self),
        })
    }

    /// Counts a connection that was accepted, and as open until what is returned is dropped.
    pub fn connection(&self, direction: Direction) -> OpenConnection {
        let (total, open) = &self.handles.connections[direction as usize];
        total.increment(1);
        open.increment(1.0);
        OpenConnection(open.clone())
    }

    /// Counts a connection as at rest until what is returned is dropped.
    pub fn resting(&self, direction: Direction) -> OpenConnection {
        let resting = &self.handles.resting[direction as usize];
        resting.increment(1.0);
        OpenConnection(resting.clone())
    }

    /// Counts a connection that was refused or closed for this.
    pub fn cut(&self, direction: Direction, cut: Cut) {
        self.handles.cuts[direction as usize][cut as usize].increment(1);
    }

    /// Counts a finished TLS handshake. `result` is one of few words, such as those of [`crate::tls::result`].
    pub fn handshake(&self, direction: Direction, result: &'static str) {
        let labels = [(names::DIRECTION, direction.as_str()), (names::RESULT, result)];
        self.registry.counter(names::HANDSHAKES, &labels).increment(1);
    }

    /// Counts a connection that was led here, by what came of it: one of the words that `names::INTERCEPTED` lists.
    pub fn intercepted(&self, direction: Direction, result: &'static str) {
        let labels = [(names::DIRECTION, direction.as_str()), (names::RESULT, result)];
        self.registry.counter(names::INTERCEPTED, &labels).increment(1);
    }

    /// Counts an attempt to obtain a certificate.
    pub fn certificate(&self, result: &'static str) {
        self.registry
            .counter(names::CERTIFICATES, &[(names::RESULT, result)])
            .increment(1);
    }

    /// The metrics that are not about requests; also a recorder for the `metrics` facade.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The series of requests.
    pub fn series(&self) -> &SeriesTable {
        &self.series
    }

    /// When the process started to observe.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Writes what is left of the access log; for the end of the process.
    pub fn close(&self) {
        self.access_log.close();
    }
}

/// A connection that counts, as open or as at rest, until this is dropped.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Leads arc-swap's cache to the settings.
struct SettingsOf(Arc<Observe>);

impl std::ops::Deref for SettingsOf {
    type Target = ArcSwap<Settings>;

    fn deref(&self) -> &ArcSwap<Settings> {
        &self.0.settings
    }
}

/// What one worker counts with. Stays on its thread.
pub struct WorkerObserve {
    /// The way to the series.
    pub series: SeriesCache,
    shared: Arc<Observe>,
    unrouted: [Arc<Series>; 2],
    settings: RefCell<Cache<SettingsOf, Arc<Settings>>>,
    random: Random,
    /// Whether the worker ends, and with it every request that is still open.
    ends: Cell<bool>,
    /// Details of closed records, for their memory.
    #[allow(clippy::vec_box, reason = "records hold them boxed, and give the boxes back")]
    spare: RefCell<Vec<Box<Details>>>,
}

impl WorkerObserve {
    /// What all workers share.
    pub fn shared(&self) -> &Arc<Observe> {
        &self.shared
    }

    /// The worker ends: what is open from here on is cut off.
    pub fn end(&self) {
        self.ends.set(true);
    }

    /// Random numbers; for sampling and splitting, not for secrets.
    pub fn random(&self) -> &Random {
        &self.random
    }
}
