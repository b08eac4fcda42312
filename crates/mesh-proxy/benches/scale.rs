//! What a change costs a proxy that takes intercepted connections and knows 5,000 routed services, one of them with
//! 10,000 endpoints: from the message of
//! the control plane to the Table in force, in milliseconds of this thread's CPU, and in memory.
//!
//! `cargo bench -p mesh-proxy --bench scale`. Each figure is the fastest of several rounds, but for the last: the longest
//! that a worker was kept while weights changed. It fails when a change of one weight takes 5 ms or more, or keeps a
//! worker for 1 ms or more.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Method};
use mesh_api::document::{MeshConfigSpec, ModelRouteSpec};
use mesh_api::identity::TrustDomain;
use mesh_api::inference::Operation;
use mesh_api::matching;
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Route;
use mesh_api::snapshot::{
    Delta, Endpoint, Interception, Mesh, Service, ServicePort, Snapshot, TrafficPolicy, Version, Workload,
};
use mesh_api::wire::{self, config};
use mesh_proxy::shared::Shared;
use mesh_proxy::table::{self, Retired, Table};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
const SERVICES: usize = 5_000;
const ENDPOINTS: usize = 10_000;
/// What a change of one weight may cost, in milliseconds.
const WEIGHT_BUDGET: f64 = 5.0;
/// For how long changes may keep a worker from its next request, in milliseconds.
const PAUSE_BUDGET: f64 = 1.0;
/// How many changes a worker is watched for.
const CHANGES: u32 = 200;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mesh = Mesh::new(&MeshConfigSpec::default(), &TrustDomain::default());
    let everything = message(&snapshot(&mesh)?.since(None));
    let resident = resident_kilobytes()?;
    let (decoding, first) = fastest(|| Ok(Snapshot::after(None, wire::delta(everything.clone())?)?))?;
    let first = Arc::new(first);
    let known = resident_kilobytes()? - resident;
    let (building, before) = fastest(|| Ok(table::build(Arc::clone(&first), None)))?;
    println!("a proxy that knows {SERVICES} routed services and {ENDPOINTS} endpoints of one of them");
    println!("{:<44} {decoding:>8.2} ms", "everything: decode");
    println!("{:<44} {building:>8.2} ms", "everything: build");
    println!("{:<44} {:>8.1} MB", "snapshot, resident", known as f64 / 1e3);
    let resident = resident_kilobytes()?;
    let before = Arc::new(before);
    let another = table::build(Arc::clone(&first), None);
    let built = resident_kilobytes()? - resident;
    println!(
        "{:<44} {:>8.1} MB",
        "a table that shares nothing, resident",
        built as f64 / 1e3
    );
    drop(another);

    let weight = change("one weight of the service with the endpoints", &before, |delta| {
        delta.routes.insert(service(0)?, route(0, 1, 50)?);
        Ok(())
    })?;
    change("one weight of another service", &before, |delta| {
        delta.routes.insert(service(7)?, route(7, 1, 50)?);
        Ok(())
    })?;
    change("one of the endpoints goes", &before, |delta| {
        delta.endpoints.insert(service(0)?, endpoints(ENDPOINTS - 1)?);
        Ok(())
    })?;
    change("a service goes", &before, |delta| {
        delta.removed_services.push(service(9)?);
        Ok(())
    })?;
    change("one weight of a route of 5,000 rules", &before, |delta| {
        delta.routes.insert(service(8)?, route(8, SERVICES, 50)?);
        Ok(())
    })?;
    let pause = longest_pause(first)?;
    if weight >= WEIGHT_BUDGET {
        return Err(
            format!("a change of one weight takes {weight:.2} ms, not below {WEIGHT_BUDGET} ms").into(),
        );
    }
    if pause >= PAUSE_BUDGET {
        return Err(format!("a worker was kept for {pause:.2} ms, not below {PAUSE_BUDGET} ms").into());
    }
    Ok(())
}

/// The longest time, in milliseconds of its own CPU, that a worker takes to find where a request goes, the Table it was
/// found in let go of, while one weight after the other changes.
fn longest_pause(first: Arc<Snapshot>) -> Result<f64> {
    let shared = Arc::new(Shared::default());
    let mut snapshot = first;
    shared
        .table
        .store(Some(Arc::new(table::build(Arc::clone(&snapshot), None))));
    let (of, over) = (Arc::clone(&shared), Arc::new(AtomicBool::new(false)));
    let ends = Arc::clone(&over);
    let worker = std::thread::spawn(move || {
        let (mut longest, mut requests) = (0.0_f64, 0_u64);
        while !ends.load(Ordering::Relaxed) {
            let start = cpu();
            let found = find(&of);
            longest = longest.max(cpu() - start);
            assert!(found, "every request finds its rule");
            requests += 1;
        }
        (longest, requests)
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        let retired = Retired::start();
        for number in 0..CHANGES {
            let mut delta = Delta {
                version: Version(u64::from(number) + 2),
                ..Delta::default()
            };
            delta.routes.insert(service(0)?, route(0, 1, 50 + number % 2)?);
            snapshot = Arc::new(Snapshot::after(Some(&snapshot), wire::delta(message(&delta))?)?);
            let before = shared.table.load_full();
            let next = table::build(Arc::clone(&snapshot), before.as_deref());
            drop(before);
            retired.take(shared.table.swap(Some(Arc::new(next))));
            tokio::task::yield_now().await;
        }
        Result::Ok(())
    })?;
    over.store(true, Ordering::Relaxed);
    let (longest, requests) = worker.join().map_err(|_| "the worker panicked")?;
    println!(
        "{:<44} {longest:>8.3} ms; {requests} requests",
        "the longest a worker was kept, 200 changes"
    );
    Ok(longest)
}

/// Finds where a request goes, as a worker does.
fn find(shared: &Shared) -> bool {
    let table = shared.table.load_full();
    let port = table
        .as_ref()
        .and_then(|table| table.find("service-0.ml", Some(80)).cloned());
    port.is_some_and(|port| {
        let request = matching::Request {
            method: &Method::POST,
            path: "/v2/models/model-0/infer",
            query: None,
            headers: &HeaderMap::new(),
            model: Some("model-0"),
            version: None,
            operation: Some(Operation::Infer),
            caller: None,
        };
        matching::find(&port.rules, &request).is_some()
    })
}

/// What a change costs, from the message to the Table in force; and what it costs to let go of the one before.
fn change(name: &str, before: &Table, change: impl Fn(&mut Delta) -> Result<()>) -> Result<f64> {
    let mut delta = Delta {
        version: Version(2),
        ..Delta::default()
    };
    change(&mut delta)?;
    let message = message(&delta);
    let (taken, next) = fastest(|| {
        let snapshot = Snapshot::after(Some(&before.snapshot), wire::delta(message.clone())?)?;
        Ok(table::build(Arc::new(snapshot), Some(before)))
    })?;
    let start = cpu();
    drop(black_box(next));
    let dropping = cpu() - start;
    println!("{name:<44} {taken:>8.2} ms; letting go of it {dropping:>6.2} ms");
    Ok(taken)
}

fn message(delta: &Delta) -> config::Delta {
    delta.into()
}

fn service(number: usize) -> Result<ObjectName> {
    Ok(format!("ml/service-{number}").parse()?)
}

fn endpoints(count: usize) -> Result<Arc<[Endpoint]>> {
    let port: Name = "http".parse()?;
    let identity = "spiffe://mesh.local/ns/ml/sa/fraud".parse()?;
    let endpoints = (0..count).map(|number| {
        let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
        Ok(Endpoint {
            workload: Some(format!("ml/fraud-{number}").parse()?),
            identity: Some(mesh_api::identity::Identity::clone(&identity)),
            addresses: BTreeMap::from([(port.clone(), ([10, 1, high, low], 8080).into())]),
        })
    });
    endpoints.collect()
}

/// A route of so many rules, each of which splits between the service and the next one.
fn route(number: usize, rules: usize, weight: u32) -> Result<Route> {
    let rules: Vec<_> = (0..rules)
        .map(|rule| {
            json!({
                "matches": [{"model": format!("model-{rule}"), "operation": ["infer"]}],
                "split": {"backends": [
                    {"name": "stable", "service": format!("service-{number}"), "weight": weight},
                    {"name": "canary", "service": format!("service-{}", (number + 1) % SERVICES), "weight": 5},
                ]},
            })
        })
        .collect();
    let spec: ModelRouteSpec =
        serde_json::from_value(json!({"service": format!("service-{number}"), "rules": rules}))?;
    Route::new(&service(number)?, &spec).map_err(|problems| format!("{problems:?}").into())
}

fn snapshot(mesh: &Mesh) -> Result<Snapshot> {
    let mut services = BTreeMap::new();
    for number in 0..SERVICES {
        let port = ServicePort {
            name: "http".parse()?,
            port: 80,
            app_protocol: "mesh.dev/open-inference".parse()?,
        };
        let of = Service {
            addresses: vec![std::net::Ipv4Addr::from_bits(0x0a60_0000 + u32::try_from(number)?).into()],
            ports: vec![port],
            hosts: Vec::new(),
            policy: TrafficPolicy::default(),
            endpoints: endpoints(if number == 0 { ENDPOINTS } else { 2 })?,
            route: Some(route(number, 1, 95)?),
        };
        services.insert(service(number)?, Arc::new(of));
    }
    Ok(Snapshot {
        version: Version(1),
        mesh: mesh.clone(),
        workload: Workload {
            interception: Some(Interception {
                inbound: 15006,
                outbound: 15001,
            }),
            name: "ml/web".parse()?,
            identity: "spiffe://mesh.local/ns/ml/sa/web".parse()?,
            ports: Vec::new(),
            proxy_listen: Some("127.0.0.1:15001".parse()?),
            local_ports: Vec::new(),
            on_demand: false,
            mtls: None,
        },
        services,
    })
}

/// The fastest of several runs, in milliseconds of CPU, and what the last one gave.
fn fastest<T>(mut run: impl FnMut() -> Result<T>) -> Result<(f64, T)> {
    let mut last = None;
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        drop(last.take());
        let start = cpu();
        last = Some(run()?);
        fastest = fastest.min(cpu() - start);
    }
    Ok((fastest, last.ok_or("no round")?))
}

/// What this thread has used so far, in milliseconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn resident_kilobytes() -> Result<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS")?.parse()?)
}
