//! The Table: what a Snapshot means, resolved once so that a request only follows references.
//!
//! Routes hold the endpoint sets of their backends themselves, hosts and listeners map straight to a service's port.
//! A request loads one Table and sees no other; a new one takes over the endpoints that survive, with their load, and
//! shares with the one before whatever means the same in both.

mod build;
mod endpoint;
mod hosts;
mod intercepted;
mod retired;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_api::document::MtlsMode;
use mesh_api::identity::Identity;
use mesh_api::inference::AppProtocol;
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::{Rules, Timeouts};
use mesh_api::snapshot::{Mesh, Snapshot, TrafficPolicy, Version};
use mesh_api::split::Salt;

pub use build::build;
pub use endpoint::{Endpoint, EndpointId, EndpointSet};
pub use intercepted::Destination;
pub use retired::Retired;

use hosts::Hosts;
use intercepted::Intercepted;

/// What a proxy does now.
#[derive(Debug)]
pub struct Table {
    /// Of which configuration this is.
    pub version: Version,
    /// Which workload this proxy stands before.
    pub identity: Identity,
    /// What holds for the whole mesh.
    pub mesh: Mesh,
    /// What inbound listeners accept.
    pub mtls: MtlsMode,
    /// What it was made from.
    pub snapshot: Arc<Snapshot>,
    /// The positions of services by the host names callers use.
    hosts: Arc<Hosts>,
    /// In the order of their names, as in the Snapshot.
    services: Vec<Arc<Service>>,
    /// What each outbound listener stands for; none: all services, by authority.
    pub outbound: HashMap<SocketAddr, Option<Arc<ServicePort>>>,
    /// What is behind each inbound listener.
    pub inbound: HashMap<SocketAddr, Arc<Inbound>>,
    /// What is meant by the addresses of intercepted connections; none: nothing is intercepted.
    intercepted: Option<Intercepted>,
}

/// A service that can be called.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// The ports it is called on, at least one.
    pub ports: Vec<Arc<ServicePort>>,
    /// Whether it was called since somebody looked.
    called: Arc<AtomicBool>,
}

impl Service {
    /// Whether it was called since this was last asked.
    pub fn take_called(&self) -> bool {
        self.called.swap(false, Ordering::Relaxed)
    }
}

impl ServicePort {
    /// Notes that it is called.
    pub fn called(&self) {
        // Mostly it says so already: no need to take the cache line from other workers.
        if !self.called.load(Ordering::Relaxed) {
            self.called.store(true, Ordering::Relaxed);
        }
    }
}

/// A port of a service: where its requests go.
#[derive(Debug)]
pub struct ServicePort {
    /// The service.
    pub service: ObjectName,
    /// The service's name as a label.
    pub label: Arc<str>,
    /// The port's name.
    pub name: Name,
    /// The port's number.
    pub port: u16,
    /// What it speaks.
    pub protocol: AppProtocol,
    /// What keeps its splits apart from other services'.
    pub salt: Salt,
    /// Whether where a request goes, or what it asks for there, depends on the model it names.
    pub reads_model: bool,
    /// In order; the first that matches takes the request. Parallel to `targets`.
    pub rules: Rules,
    /// Those, from the first on, that take requests addressed to an endpoint, not to the service.
    pub endpoint_rules: Rules,
    /// Where each rule's backends lead.
    pub targets: Vec<Vec<Target>>,
    /// The service's own endpoints, for what no rule takes.
    pub own: Arc<EndpointSet>,
    /// The service's, for all its ports.
    pub(crate) called: Arc<AtomicBool>,
}

/// Where a backend leads.
#[derive(Debug)]
pub struct Target {
    /// The endpoints that serve it; none: the service, or the port of it, is not there.
    pub set: Option<Arc<EndpointSet>>,
}

/// A port of the workload and what is before it.
#[derive(Debug)]
pub struct Inbound {
    /// The port's name.
    pub name: Name,
    /// What the process speaks.
    pub protocol: AppProtocol,
    /// The service as a label.
    pub label: Arc<str>,
    /// The process, as the one endpoint of a set.
    pub local: Arc<EndpointSet>,
}

/// Timeouts of requests that no rule takes.
pub const NO_TIMEOUTS: Timeouts = Timeouts {
    first_byte: None,
    idle: None,
    total: None,
    per_try: None,
};

impl Table {
    /// The service that a host names.
    pub fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(self.hosts.position(host)?)
    }

    /// All services, in the order of their names.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// What an intercepted connection means that was going to this address; none: nothing of the mesh's.
    pub fn destination(&self, address: SocketAddr) -> Option<Destination> {
        let place = self.intercepted.as_ref()?.places.get(&address)?;
        place.of(&self.services)
    }

    /// The workload's port that a connection was made to: the one it was going to when it was led to `listener`, or the one
    /// behind it.
    pub fn inbound_at(&self, listener: SocketAddr, destination: Option<SocketAddr>) -> Option<&Arc<Inbound>> {
        match destination {
            Some(destination) => self.intercepted.as_ref()?.inbound.get(&destination.port()),
            None => self.inbound.get(&listener),
        }
    }

    /// Whether intercepted connections are taken at this address.
    pub fn intercepts_at(&self, listener: SocketAddr) -> bool {
        let ports = self.intercepted.as_ref().map(|intercepted| intercepted.ports);
        ports.is_some_and(|ports| {
            ports.outbound_listeners().contains(&listener)
                || (listener.ip().is_unspecified() && listener.port() == ports.inbound)
        })
    }

    /// The service that an authority names, and the port of it: the one of that number, or of the scheme's default, or
    /// its only one.
    pub fn find(&self, host: &str, port: Option<u16>) -> Option<&Arc<ServicePort>> {
        let service = self.service(host)?;
        match (port, service.ports.as_slice()) {
            (Some(port), ports) => ports.iter().find(|there| there.port == port),
            (None, [only]) => Some(only),
            (None, ports) => ports.iter().find(|there| there.port == 80),
        }
    }
}

/// How a set's endpoints are connected to: from the policy of the service they are of.
impl EndpointSet {
    /// The policy of the service.
    pub fn policy(&self) -> &TrafficPolicy {
        &self.policy
    }
}
