//! What a large mesh on Kubernetes costs the control plane: 1,000 Services with 10 endpoints each, and 1,000 proxies that use
//! ten of them, one of which they all use.
//!
//! `cargo bench -p mesh-control --bench scale`. The proxies are a process of their own, each with a connection and a stream of
//! its own, over loopback and without TLS: they decode what comes, apply it and acknowledge. Objects come as events, as
//! watches give them. Times are from an event to the last acknowledgement, of one change at a time.
//!
//! It fails when the slowest hundredth of the weight changes takes 1 s, or of the endpoint changes 200 ms.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::document::Kind;
use mesh_api::identity::Identity;
use mesh_api::name::ObjectName;
use mesh_api::snapshot::Snapshot;
use mesh_api::wire;
use mesh_api::wire::config::config_client::ConfigClient;
use mesh_api::wire::config::config_server::ConfigServer;
use mesh_api::wire::config::subscribe_request::Message;
use mesh_api::wire::config::{Ack, Hello, SubscribeRequest, Uses};
use mesh_control::ca::{Authority, Trust, folder};
use mesh_control::catalog::Event;
use mesh_control::catalog::documents::{Settings, Written, read};
use mesh_control::catalog::object::{
    Change, EndpointState, Key, Mtls, Pod, Service, ServicePort, Slice, SliceEndpoint,
};
use mesh_control::grpc::config::ConfigService;
use mesh_control::objects::Objects;
use mesh_control::peer::Peer;
use mesh_control::plane::Plane;
use mesh_control::tls::Caller;
use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Status};

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 10;
const PROXIES: usize = 1_000;
/// How many Services each proxy uses.
const USED: usize = 10;
/// How many changes of each kind are made.
const CHANGES: usize = 200;
/// What the slowest hundredth of changes may take.
const WEIGHT_BUDGET: Duration = Duration::from_secs(1);
const ENDPOINT_BUDGET: Duration = Duration::from_millis(200);
/// The variable that makes this the process of the proxies: where the control plane listens.
const PROXIES_OF: &str = "MESH_BENCH_PROXIES_OF";
/// Who a proxy says it is, in place of a certificate.
const WORKLOAD: &str = "x-workload";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match std::env::var(PROXIES_OF) {
        Ok(address) => runtime.block_on(proxies(address.parse()?)),
        Err(_) => runtime.block_on(control_plane()),
    }
}

async fn control_plane() -> Result<()> {
    let before = resident()?;
    let plane = Arc::new(Plane::kubernetes(settings()?));
    let objects = plane.objects().ok_or("not on Kubernetes")?.clone();
    let started = (Instant::now(), cpu());
    objects.apply(everything()?);
    report("everything: read", &[started.0.elapsed()], started.1, 1);
    println!(
        "{:<40} {:>8.1} MB",
        "objects and view, resident",
        resident()? - before
    );

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = ConfigService {
        plane: plane.clone(),
        authority: Arc::new(authority()?),
        stop: CancellationToken::new(),
    };
    let service = ConfigServer::with_interceptor(service, introduce);
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let (loaded, started) = (resident()?, (Instant::now(), cpu()));
    let mut proxies = Proxies::start(address)?;
    all_current(&plane).await;
    report(
        "all proxies: connected and acknowledged",
        &[started.0.elapsed()],
        started.1,
        1,
    );
    println!(
        "{:<40} {:>8.1} MB",
        "1,000 proxies, resident",
        resident()? - loaded
    );
    let first = proxies.received()?;
    println!(
        "{:<40} {:>8.0} bytes",
        "a proxy's first configuration",
        first as f64 / PROXIES as f64
    );

    let weights = changes(&plane, &objects, "a weight that all proxies use", |at| {
        Ok(vec![route(at)?])
    })
    .await?;
    let second = proxies.received()?;
    let bytes = (second - first) as f64 / (PROXIES * CHANGES) as f64;
    println!("{:<40} {bytes:>8.0} bytes", "  to each proxy, each time");
    let endpoints = changes(&plane, &objects, "an endpoint of a Service that 9 use", |at| {
        let service = 1 + at % (SERVICES - 1);
        Ok(vec![Event::Slices(Change::Apply(slice(service, at % 2 == 0)?))])
    })
    .await?;
    let third = proxies.received()?;
    println!(
        "{:<40} {:>8.0} bytes",
        "  to all proxies, each time",
        (third - second) as f64 / CHANGES as f64
    );
    changes(&plane, &objects, "an endpoint of a Service that all use", |at| {
        Ok(vec![Event::Slices(Change::Apply(slice(0, at % 2 == 1)?))])
    })
    .await?;
    changes(&plane, &objects, "a pod that nobody uses", |at| {
        Ok(vec![Event::Pods(Change::Apply(pod(5, 5, at)?))])
    })
    .await?;

    let started = (Instant::now(), cpu());
    for service in 0..SERVICES {
        objects.apply([Event::Slices(Change::Apply(slice(service, true)?))]);
        tokio::task::yield_now().await;
    }
    all_current(&plane).await;
    report(
        "an endpoint of each Service, in a row",
        &[started.0.elapsed()],
        started.1,
        SERVICES,
    );
    println!("{:<40} {:>8.1} MB", "everything, resident", resident()? - before);
    proxies.end()?;
    if weights >= WEIGHT_BUDGET || endpoints >= ENDPOINT_BUDGET {
        return Err(format!("too slow: weights {weights:?}, endpoints {endpoints:?}").into());
    }
    Ok(())
}

/// Makes changes one by one, waits each time until all proxies are up to date, and tells the slowest hundredth.
async fn changes(
    plane: &Plane,
    objects: &Objects,
    what: &str,
    change: impl Fn(usize) -> Result<Vec<Event>>,
) -> Result<Duration> {
    let began = cpu();
    let mut times = Vec::with_capacity(CHANGES);
    for at in 0..CHANGES {
        let events = change(at)?;
        let started = Instant::now();
        objects.apply(events);
        all_current(plane).await;
        times.push(started.elapsed());
    }
    times.sort();
    report(what, &times, began, CHANGES);
    Ok(times[times.len() * 99 / 100])
}

/// Waits until all proxies have what they use of the newest version.
async fn all_current(plane: &Plane) {
    let mut changed = plane.proxies().follow();
    let version = plane.publisher().version();
    while plane.proxies().current(version) < PROXIES {
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn report(what: &str, times: &[Duration], began: Duration, times_done: usize) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let at = |part: usize| {
        times
            .get(times.len() * part / 100)
            .or(times.last())
            .copied()
            .unwrap_or_default()
    };
    let cpu = millis(cpu() - began) / times_done as f64;
    println!(
        "{what:<40} {:>8.2} ms, p99 {:>8.2} ms, {cpu:>8.3} ms of CPU each",
        millis(at(50)),
        millis(at(99)),
    );
}

/// Takes who a proxy says it is for the name in a certificate.
#[allow(clippy::result_large_err, reason = "an interceptor's")]
fn introduce(mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
    let workload = request
        .metadata()
        .get(WORKLOAD)
        .and_then(|name| name.to_str().ok());
    let workload: Option<ObjectName> = workload.and_then(|name| name.parse().ok());
    let workload = workload.ok_or_else(|| Status::unauthenticated("who?"))?;
    let account = format!(
        "service-{}",
        workload.name.as_str().split('-').nth(1).unwrap_or_default()
    );
    let identity = Identity::new(
        "cluster.local"
            .parse()
            .map_err(|_| Status::internal("trust domain"))?,
        workload.namespace,
        account.parse().map_err(|_| Status::internal("account"))?,
    );
    request.extensions_mut().insert(Caller {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        peer: Some(Peer {
            identity,
            expiry: i64::MAX,
        }),
    });
    Ok(request)
}

fn settings() -> Result<Settings> {
    Ok(Settings {
        trust_domain: "cluster.local".parse()?,
        cluster_domain: "cluster.local".into(),
        namespace: "mesh-system".parse()?,
    })
}

/// Somebody who signs: nobody asks.
fn authority() -> Result<Authority> {
    let folder = tempfile::tempdir()?;
    let trust_domain = settings()?.trust_domain;
    let root = folder::ephemeral(folder.path(), &trust_domain, OffsetDateTime::now_utc())?;
    Ok(Authority::new(
        Trust::new(Arc::new(root), []),
        trust_domain,
        Duration::from_secs(86_400),
    ))
}

/// All objects.
fn everything() -> Result<Vec<Event>> {
    let services = (0..SERVICES).map(service).collect::<Result<_>>()?;
    let slices = (0..SERVICES).map(|at| slice(at, true)).collect::<Result<_>>()?;
    let pods = (0..SERVICES).flat_map(|service| (0..ENDPOINTS).map(move |at| pod(service, at, 0)));
    Ok(vec![
        Event::Namespaces(Change::Reset(Vec::new())),
        Event::Services(Change::Reset(services)),
        Event::Slices(Change::Reset(slices)),
        Event::Pods(Change::Reset(pods.collect::<Result<_>>()?)),
        route(0)?,
    ])
}

fn service(at: usize) -> Result<Service> {
    Ok(Service {
        name: format!("ml/service-{at}").parse()?,
        ports: vec![ServicePort {
            name: "http".parse()?,
            slice_name: "http".into(),
            number: 80,
            app_protocol: Some("mesh.dev/open-inference".into()),
        }],
        addresses: vec![IpAddr::from([10, 96, (at >> 8) as u8, at as u8])],
        prefers_v6: false,
    })
}

/// The endpoints of a Service, of which the first may not be ready.
fn slice(service: usize, ready: bool) -> Result<Slice> {
    let endpoints = (0..ENDPOINTS).map(|at| {
        Ok(SliceEndpoint {
            address: address(service, at),
            pod: Some(key(&format!("service-{service}-{at}"))?),
            state: if ready || at > 0 {
                EndpointState::Ready
            } else {
                EndpointState::Unready
            },
        })
    });
    Ok(Slice {
        key: key(&format!("service-{service}-x7k2p"))?,
        service: format!("service-{service}").parse()?,
        v6: false,
        ports: vec![("http".into(), 8000)],
        endpoints: endpoints.collect::<Result<_>>()?,
    })
}

fn pod(service: usize, at: usize, more_ports: usize) -> Result<Pod> {
    Ok(Pod {
        key: key(&format!("service-{service}-{at}"))?,
        account: format!("service-{service}").into(),
        addresses: vec![address(service, at)],
        ports: vec![
            (Some("http".parse()?), 8000),
            (None, 9000 + (more_ports % 100) as u16),
        ],
        sidecar: true,
        host_network: false,
        mtls: Mtls::Unsaid,
    })
}

fn address(service: usize, at: usize) -> IpAddr {
    IpAddr::from([10, at as u8, (service >> 8) as u8, service as u8])
}

fn key(name: &str) -> Result<Key> {
    Ok(Key {
        namespace: "ml".parse()?,
        name: name.into(),
    })
}

/// The route of the Service that all proxies use.
fn route(weight: usize) -> Result<Event> {
    let key = key("service-0")?;
    let spec = serde_json::json!({
        "service": "service-0",
        "rules": [{"name": "all", "split": {"backends": [
            {"name": "stable", "service": "service-0", "weight": 1_000},
            {"name": "canary", "service": "service-1", "weight": weight},
        ]}}],
    });
    let content = read(Kind::ModelRoute, &key, spec, &settings()?).map(Arc::new);
    Ok(Event::Documents(
        Kind::ModelRoute,
        Change::Apply(Written {
            kind: Kind::ModelRoute,
            key,
            created: 1,
            generation: 1,
            content,
            status: Default::default(),
        }),
    ))
}

/// The process of the proxies.
struct Proxies {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Proxies {
    fn start(address: SocketAddr) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(PROXIES_OF, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { child, lines })
    }

    /// How many bytes of configuration all of them have received.
    fn received(&mut self) -> Result<u64> {
        use std::io::Write;
        writeln!(self.child.stdin.as_mut().ok_or("no input")?, "received")?;
        Ok(self.lines.next().ok_or("the proxies ended")??.parse()?)
    }

    fn end(mut self) -> Result<()> {
        // They end with their input.
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// All proxies, until the input ends.
async fn proxies(address: SocketAddr) -> Result<()> {
    let (sizes, mut received) = mpsc::unbounded_channel();
    for at in 0..PROXIES {
        tokio::spawn(proxy(address, at, sizes.clone()));
    }
    let (asked, mut asking) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin()
            .lines()
            .map_while(std::result::Result::ok)
            .try_for_each(|_| asked.send(()))
    });
    let mut total = 0_u64;
    while asking.recv().await.is_some() {
        while let Ok(size) = received.try_recv() {
            total += size;
        }
        println!("{total}");
    }
    Ok(())
}

async fn proxy(address: SocketAddr, at: usize, sizes: mpsc::UnboundedSender<u64>) -> Result<()> {
    // Few at a time, as pods start.
    tokio::time::sleep(Duration::from_millis(at as u64)).await;
    let workload = format!("ml/service-{at}-0");
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let (answers, outgoing) = mpsc::channel(4);
    let used = (0..USED).map(|next| match next {
        0 => 0,
        next => 1 + (at + next * 7) % (SERVICES - 1),
    });
    let hello = Hello {
        workload: workload.clone(),
        proxy_id: at.to_string(),
        software: "bench".into(),
        version: 0,
        uses: Some(Uses {
            sequence: 1,
            services: used.map(|service| format!("ml/service-{service}")).collect(),
            ..Uses::default()
        }),
        ..Hello::default()
    };
    answers.send(say(Message::Hello(hello))).await?;
    let mut request = Request::new(ReceiverStream::new(outgoing));
    request.metadata_mut().insert(WORKLOAD, workload.parse()?);
    let mut deltas = ConfigClient::new(channel).subscribe(request).await?.into_inner();
    let mut serves: Option<Snapshot> = None;
    while let Some(delta) = deltas.message().await? {
        sizes.send(delta.encoded_len() as u64)?;
        let version = delta.version;
        serves = Some(Snapshot::after(serves.as_ref(), wire::delta(delta)?)?);
        answers.send(say(Message::Ack(Ack { version }))).await?;
    }
    Ok(())
}

fn say(message: Message) -> SubscribeRequest {
    SubscribeRequest {
        message: Some(message),
    }
}

/// The CPU that this process has used.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec as u32)
}

/// What this process holds in memory, in megabytes.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok(kilobytes / 1e3)
}
