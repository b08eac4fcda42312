//! What the targets of the front ends share: a worker of the proxy, as it runs, on a runtime whose clock jumps when
//! there is nothing to do, and a server that answers with whatever it is given. Beside it, a peer in TLS ([`tls`]).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_api::document::{BeyondReadAhead, MtlsMode};
use mesh_api::snapshot::{
    Endpoint, InboundPort, LocalPort, Mesh, Service, ServicePort, Snapshot, TrafficPolicy, Version, Workload,
};
use mesh_proxy::limits::Limits;
use mesh_proxy::listen::{Client, Entry};
use mesh_proxy::observe::{Direction, Observe};
use mesh_proxy::serve::serve_http;
use mesh_proxy::shared::Shared;
use mesh_proxy::table;
use mesh_proxy::worker::Worker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

pub mod tls;

/// Far longer than any limit: what takes longer hangs.
const FOR_EVER: Duration = Duration::from_secs(4 * 3_600);
/// What the server sends when it is to behave.
const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A proxy with one worker, and the server behind it.
struct Proxy {
    runtime: Runtime,
    local: LocalSet,
    worker: Rc<Worker>,
    answer: Arc<Mutex<Vec<u8>>>,
}

thread_local! {
    /// Never taken down: runtimes do not like to end while their thread does.
    static PROXY: Cell<Option<&'static Proxy>> = const { Cell::new(None) };
}

/// Serves one connection: `pieces` come in one after the other, then the client is done. The server answers with
/// `answer`, or as it should if that is empty. Panics when the connection does not end.
pub fn serve(direction: Direction, http2: bool, pieces: &[&[u8]], answer: &[u8]) {
    let proxy = PROXY.get().unwrap_or_else(|| Box::leak(Box::new(Proxy::start())));
    PROXY.set(Some(proxy));
    proxy.serve(direction, http2, pieces, answer);
}

impl Proxy {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let local = LocalSet::new();
        let answer: Arc<Mutex<Vec<u8>>> = Arc::default();
        // libFuzzer's own main leaves SIGPIPE as it is: writing to a closed connection would end the process.
        let pipe = local.block_on(&runtime, async { signal(SignalKind::pipe()) });
        drop(pipe.expect("SIGPIPE is taken"));
        let server = local.block_on(&runtime, server(Arc::clone(&answer)));
        let limits = |text: &str| text.parse().expect("a duration");
        let shared = Arc::new(Shared {
            limits: Limits {
                head_timeout: limits("2s"),
                idle_timeout: limits("5s"),
                body_timeout: limits("5s"),
                stall_timeout: limits("5s"),
                ..Limits::default()
            },
            ..Shared::default()
        });
        let table = table::build(Arc::new(snapshot(server)), None);
        shared.table.store(Some(Arc::new(table)));
        let name = "ml/web".parse().expect("a name");
        let (observe, _) = Observe::new(name, Box::new(std::io::sink()));
        let worker = Worker::new(shared, &observe, 1);
        let sweeping = Rc::clone(&worker);
        local.spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sweeping.sweep();
            }
        });
        Self {
            runtime,
            local,
            worker,
            answer,
        }
    }

    fn serve(&self, direction: Direction, http2: bool, pieces: &[&[u8]], answer: &[u8]) {
        let answer = if answer.is_empty() { GOOD } else { answer };
        answer.clone_into(&mut self.answer.lock().expect("the answer"));
        let worker = Rc::clone(&self.worker);
        self.local.block_on(&self.runtime, async move {
            let seat = worker.connections.take(direction, |_, _| {}).expect("a place");
            let (client, proxy) = tokio::io::duplex(16 << 10);
            let entry = Entry {
                listener: listener(direction),
                destination: None,
                named: false,
                addressed: None,
                peer: None,
                tunnel: None,
            };
            let serving = tokio::task::spawn_local({
                let (worker, seat) = (Rc::clone(&worker), Arc::clone(&seat));
                let served = Client {
                    worker,
                    direction,
                    entry,
                    seat: Arc::clone(&seat),
                };
                async move {
                    tokio::select! {
                        () = serve_http(Box::new(served), proxy, http2) => {}
                        () = seat.closed() => {}
                    }
                }
            });
            let (mut reading, mut writing) = tokio::io::split(client);
            let read = tokio::task::spawn_local(async move {
                let mut bytes = [0; 4_096];
                while matches!(reading.read(&mut bytes).await, Ok(1..)) {}
            });
            for piece in pieces {
                // Who has heard enough may close.
                let _ = writing.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let _ = writing.shutdown().await;
            tokio::time::timeout(FOR_EVER, serving)
                .await
                .expect("the connection ends")
                .expect("without a panic");
            drop(writing);
            read.abort();
        });
    }
}

/// A server that answers each connection with the bytes of the moment as soon as something comes, and closes it.
async fn server(answer: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::task::spawn_local(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                continue;
            };
            let bytes = answer.lock().expect("the answer").clone();
            tokio::task::spawn_local(async move {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&bytes).await;
            });
        }
    });
    address
}

fn listener(direction: Direction) -> SocketAddr {
    let port = match direction {
        Direction::Outbound => 15_001,
        Direction::Inbound => 15_002,
    };
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn snapshot(server: SocketAddr) -> Snapshot {
    let (http, web): (mesh_api::name::Name, mesh_api::name::ObjectName) =
        ("http".parse().expect("a name"), "ml/web".parse().expect("a name"));
    let protocol: mesh_api::inference::AppProtocol = "mesh.dev/openai".parse().expect("a protocol");
    let endpoint = Endpoint {
        workload: None,
        identity: None,
        addresses: BTreeMap::from([(http.clone(), server)]),
    };
    let service = Service {
        ports: vec![ServicePort {
            name: http.clone(),
            port: 80,
            app_protocol: protocol,
        }],
        hosts: Vec::new(),
        addresses: Vec::new(),
        policy: TrafficPolicy::default(),
        endpoints: Arc::new([endpoint]),
        route: None,
    };
    Snapshot {
        version: Version(1),
        mesh: Mesh {
            trust_domain: "mesh.local".parse().expect("a trust domain"),
            mtls: MtlsMode::Permissive,
            read_ahead_bytes: 1 << 16,
            beyond_read_ahead: BeyondReadAhead::Refuse,
            detection_wait: Duration::from_millis(500),
            access_log_percent: None,
            tracing: None,
        },
        workload: Workload {
            name: web.clone(),
            identity: "spiffe://mesh.local/ns/ml/sa/web".parse().expect("an identity"),
            ports: vec![InboundPort {
                name: http.clone(),
                listen: listener(Direction::Inbound),
                local: server,
                app_protocol: protocol,
                service: Some(web.clone()),
            }],
            proxy_listen: None,
            local_ports: vec![LocalPort {
                listen: listener(Direction::Outbound),
                service: web.clone(),
                port: http,
            }],
            interception: None,
            on_demand: false,
            mtls: None,
        },
        services: BTreeMap::from([(web, Arc::new(service))]),
    }
}
