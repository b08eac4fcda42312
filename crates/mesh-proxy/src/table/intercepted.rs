//! Where intercepted connections go, by the address that their clients wanted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_api::snapshot::{Interception, Snapshot};

use super::{Endpoint, Inbound, Service, ServicePort};

/// What each address means to an intercepted connection.
#[derive(Debug)]
pub(super) struct Intercepted {
    /// Where intercepted connections are taken.
    pub(super) ports: Interception,
    /// Of services and of endpoints.
    pub(super) destinations: HashMap<SocketAddr, Destination>,
    /// The workload's ports by the numbers that others reach them at, and the process listens on.
    pub(super) inbound: HashMap<u16, Arc<Inbound>>,
}

/// What an address stands for.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The service's port.
    pub port: Arc<ServicePort>,
    /// The endpoint whose own address it is; none: it stands for the service.
    pub endpoint: Option<Arc<Endpoint>>,
}

impl Intercepted {
    /// Resolves addresses. Of several services with an endpoint at one address, the first by name has it.
    pub(super) fn new(
        ports: Interception,
        snapshot: &Snapshot,
        services: &[Arc<Service>],
        inbound: &HashMap<SocketAddr, Arc<Inbound>>,
    ) -> Self {
        let mut destinations = HashMap::new();
        for (named, service) in snapshot.services.values().zip(services) {
            for (address, port) in pairs(&named.addresses, &service.ports) {
                let destination = Destination {
                    port: Arc::clone(port),
                    endpoint: None,
                };
                destinations.insert(SocketAddr::new(*address, port.port), destination);
            }
        }
        for service in services {
            for (port, endpoint) in service
                .ports
                .iter()
                .flat_map(|port| port.own.endpoints.iter().map(move |endpoint| (port, endpoint)))
            {
                destinations
                    .entry(endpoint.address)
                    .or_insert_with(|| Destination {
                        port: Arc::clone(port),
                        endpoint: Some(Arc::clone(endpoint)),
                    });
            }
        }
        let mut by_port = HashMap::new();
        for port in &snapshot.workload.ports {
            if let Some(inbound) = inbound.get(&port.listen) {
                for number in [port.listen.port(), port.local.port()] {
                    by_port.entry(number).or_insert_with(|| Arc::clone(inbound));
                }
            }
        }
        Self {
            ports,
            destinations,
            inbound: by_port,
        }
    }
}

fn pairs<'a, A, B>(left: &'a [A], right: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    left.iter().flat_map(move |a| right.iter().map(move |b| (a, b)))
}
