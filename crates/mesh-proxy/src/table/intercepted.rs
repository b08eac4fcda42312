//! Where intercepted connections go, by the address that their clients wanted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_api::name::ObjectName;
use mesh_api::snapshot::{self, Interception, Snapshot};

use super::{Endpoint, Inbound, Service, ServicePort};

type Services = BTreeMap<ObjectName, Arc<snapshot::Service>>;

/// What each address means to an intercepted connection.
#[derive(Debug)]
pub(super) struct Intercepted {
    /// Where intercepted connections are taken.
    pub(super) ports: Interception,
    /// Of services and of endpoints. Tables share them as long as no address changes.
    pub(super) places: Arc<Places>,
    /// The workload's ports by the numbers that others reach them at, and the process listens on.
    pub(super) inbound: HashMap<u16, Arc<Inbound>>,
}

/// What is at each address, by positions in the Table.
pub(super) type Places = HashMap<SocketAddr, Place>;

/// A service, a port of it, and an endpoint of that port if the address is the endpoint's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    service: u32,
    port: u32,
    endpoint: Option<u32>,
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
    /// Resolves addresses; `kept` are those of the Table before, if none of them has changed.
    pub(super) fn new(
        ports: Interception,
        snapshot: &Snapshot,
        services: &[Arc<Service>],
        inbound: &HashMap<SocketAddr, Arc<Inbound>>,
        kept: Option<&Self>,
    ) -> Self {
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
            places: kept.map_or_else(
                || Arc::new(places(snapshot, services)),
                |kept| Arc::clone(&kept.places),
            ),
            inbound: by_port,
        }
    }
}

/// Of several services with an endpoint at one address, the first by name has it.
fn places(snapshot: &Snapshot, services: &[Arc<Service>]) -> Places {
    let mut places = HashMap::new();
    for ((named, built), service) in snapshot.services.values().zip(services).zip(0..) {
        for (there, port) in built.ports.iter().zip(0..) {
            for address in &named.addresses {
                let place = Place {
                    service,
                    port,
                    endpoint: None,
                };
                places.insert(SocketAddr::new(*address, there.port), place);
            }
        }
    }
    for (built, service) in services.iter().zip(0..) {
        for (there, port) in built.ports.iter().zip(0..) {
            for (endpoint, at) in there.own.endpoints.iter().zip(0..) {
                places.entry(endpoint.address).or_insert(Place {
                    service,
                    port,
                    endpoint: Some(at),
                });
            }
        }
    }
    places
}

impl Place {
    /// What is there.
    pub(super) fn of(self, services: &[Arc<Service>]) -> Option<Destination> {
        let port = services
            .get(self.service as usize)?
            .ports
            .get(self.port as usize)?;
        let endpoint = match self.endpoint {
            Some(at) => Some(Arc::clone(port.own.endpoints.get(at as usize)?)),
            None => None,
        };
        Some(Destination {
            port: Arc::clone(port),
            endpoint,
        })
    }
}

/// Whether two sets of services that have the same endpoints stand at the same addresses.
pub(super) fn same(a: &Services, b: &Services) -> bool {
    let ports =
        |service: &snapshot::Service| -> Vec<_> { service.ports.iter().map(|port| port.port).collect() };
    let alike = |a: &Arc<snapshot::Service>, b: &Arc<snapshot::Service>| {
        Arc::ptr_eq(a, b) || (a.addresses == b.addresses && ports(a) == ports(b))
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && alike(a.1, b.1))
}
