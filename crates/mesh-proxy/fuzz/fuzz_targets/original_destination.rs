//! Whatever the kernel tells about a connection: it never goes back to where it was taken, and goes to a service only by
//! an address that is the service's or its endpoint's.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mesh_api::document::{BeyondReadAhead, MtlsMode};
use mesh_api::snapshot::{
    Endpoint, Interception, Mesh, Service, ServicePort, Snapshot, TrafficPolicy, Version, Workload,
};
use mesh_proxy::intercept::destination::resolve;
use mesh_proxy::table::build;

/// Takes addresses off the front of the input; few ports, so that some meet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let [kind, port] = self.take()?;
        let port = [0, 80, 8000, 15001, 15006][usize::from(port) % 5];
        let ip: IpAddr = match kind % 4 {
            0 => self.take::<4>()?.into(),
            1 => self.take::<16>()?.into(),
            2 => std::net::Ipv4Addr::from(self.take::<4>()?).to_ipv6_mapped().into(),
            _ => [127, 0, 0, self.take::<1>()?[0] % 4].into(),
        };
        Some((ip, port).into())
    }
}

fn snapshot(services: &[SocketAddr], endpoints: &[SocketAddr]) -> Snapshot {
    let port = ServicePort {
        name: "http".parse().unwrap(),
        port: 80,
        app_protocol: "detect".parse().unwrap(),
    };
    let endpoints = endpoints.iter().map(|address| Endpoint {
        workload: None,
        identity: None,
        addresses: BTreeMap::from([(port.name.clone(), *address)]),
    });
    let service = Service {
        ports: vec![port.clone()],
        hosts: vec![],
        addresses: services.iter().map(SocketAddr::ip).collect(),
        policy: TrafficPolicy::default(),
        endpoints: endpoints.collect(),
        route: None,
    };
    Snapshot {
        version: Version(1),
        mesh: Mesh {
            trust_domain: "mesh.local".parse().unwrap(),
            mtls: MtlsMode::Strict,
            read_ahead_bytes: 1 << 20,
            beyond_read_ahead: BeyondReadAhead::Refuse,
            detection_wait: std::time::Duration::from_millis(500),
            access_log_percent: None,
            tracing: None,
        },
        workload: Workload {
            name: "ml/web".parse().unwrap(),
            identity: "spiffe://mesh.local/ns/ml/sa/web".parse().unwrap(),
            ports: vec![],
            proxy_listen: None,
            local_ports: vec![],
            interception: Some(Interception {
                inbound: 15006,
                outbound: 15001,
            }),
            on_demand: false,
            mtls: None,
        },
        services: BTreeMap::from([("ml/fraud".parse().unwrap(), Arc::new(service))]),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (Some(told), Some(local)) = (input.address(), input.address()) else { return };
    let Some(destination) = resolve(told, local) else { return };
    assert_eq!(destination.port(), told.port());
    assert_eq!(destination.ip(), told.ip().to_canonical());
    assert_ne!((destination.ip(), destination.port()), (local.ip().to_canonical(), local.port()));
    assert!(!destination.ip().is_loopback() || destination.port() != local.port());
    assert_eq!(resolve(destination, local), Some(destination), "what is resolved stays so");

    let addresses: Vec<_> = std::iter::from_fn(|| input.address()).take(8).collect();
    let (services, endpoints) = addresses.split_at(addresses.len() / 2);
    let table = build(Arc::new(snapshot(services, endpoints)), None);
    let of_service = services.iter().any(|it| it.ip() == destination.ip()) && destination.port() == 80;
    match table.destination(destination) {
        Some(known) => assert!(match &known.endpoint {
            Some(endpoint) => endpoint.address == destination && endpoints.contains(&destination),
            None => of_service,
        }),
        None => assert!(!of_service && !endpoints.contains(&destination)),
    }
});
