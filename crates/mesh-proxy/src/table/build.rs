//! From a Snapshot to a Table, off the request path. Two Tables share whatever means the same in both: names, endpoint
//! sets, services; so that a change costs what changed, and a walk over the services' names.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_api::identity::Identity;
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::{Backend, Rule, Rules, depend_on_model};
use mesh_api::snapshot::{self, Snapshot, TrafficPolicy};
use mesh_api::split::Salt;

use super::hosts::{self, Hosts};
use super::{Endpoint, EndpointSet, Inbound, Intercepted, Service, ServicePort, Table, Target, intercepted};

/// How long an unused connection to the workload's own process is kept: below the shortest keep-alive of common model
/// servers (2 s, gunicorn), so that a request never meets the server's closing of the connection.
const LOCAL_IDLE: std::time::Duration = std::time::Duration::from_millis(1_500);

/// Resolves a Snapshot. Endpoints that were in `before` keep their load and their connections.
pub fn build(snapshot: Arc<Snapshot>, before: Option<&Table>) -> Table {
    let workload = &snapshot.workload;
    let parts = Parts::new(&snapshot, before);
    let services = parts.services();
    let find = |name: &ObjectName| parts.position(name).and_then(|at| services.get(at));

    let mut outbound = HashMap::new();
    outbound.extend(workload.proxy_listen.map(|listen| (listen, None)));
    for local in &workload.local_ports {
        let port = find(&local.service)
            .and_then(|service| service.ports.iter().find(|port| port.name == local.port).cloned())
            .unwrap_or_else(|| Arc::new(absent(&local.service, &local.port)));
        outbound.insert(local.listen, Some(port));
    }
    let inbound = workload
        .ports
        .iter()
        .map(|port| (port.listen, Arc::new(inbound(&workload.name, port, before))))
        .collect();
    // The same services, in the same order, with the same endpoint sets: at the same places, if at the same addresses.
    let kept = before
        .filter(|before| !parts.moved && intercepted::same(&before.snapshot.services, &snapshot.services))
        .and_then(|before| before.intercepted.as_ref());
    let intercepted = workload
        .interception
        .map(|ports| Intercepted::new(ports, &snapshot, &services, &inbound, kept));
    drop(parts);
    Table {
        version: snapshot.version,
        identity: workload.identity.clone(),
        mesh: snapshot.mesh.clone(),
        mtls: snapshot.mtls(),
        hosts: names(&snapshot, before),
        services,
        outbound,
        inbound,
        intercepted,
        snapshot,
    }
}

/// The names of the services: those of the Table before when nothing of them changed.
fn names(snapshot: &Snapshot, before: Option<&Table>) -> Arc<Hosts> {
    let home = &snapshot.workload.name.namespace;
    let kept = before.filter(|before| {
        before.snapshot.workload.name.namespace == *home
            && hosts::same(&before.snapshot.services, &snapshot.services)
    });
    match kept {
        Some(before) => Arc::clone(&before.hosts),
        None => Arc::new(Hosts::new(&snapshot.services, home)),
    }
}

/// A listener for a service that is not there, or not yet: it answers that there is nothing behind it.
fn absent(service: &ObjectName, port: &Name) -> ServicePort {
    let protocol = mesh_api::inference::AppProtocol::Http;
    let own = EndpointSet::new(service.clone(), protocol, TrafficPolicy::default(), Vec::new());
    ServicePort {
        service: service.clone(),
        label: Arc::clone(&own.label),
        name: port.clone(),
        port: 0,
        protocol,
        salt: Salt::of(service),
        reads_model: false,
        rules: Rules::default(),
        endpoint_rules: Rules::default(),
        targets: Vec::new(),
        own,
        called: Arc::default(),
    }
}

/// Where an endpoint's process is, if it is this workload's own and its connections are intercepted. The rules leave alone
/// what the proxy connects to, itself included: at its own address it would meet the process, which speaks no mutual TLS.
fn own_process(
    workload: &snapshot::Workload,
    endpoint: &snapshot::Endpoint,
    address: SocketAddr,
) -> Option<SocketAddr> {
    workload.interception?;
    let is_own = endpoint.workload.as_ref() == Some(&workload.name);
    let port = workload
        .ports
        .iter()
        .find(|port| is_own && port.listen == address)?;
    Some(port.local)
}

/// The services in the order of their names, each with its endpoint sets.
struct Parts<'a> {
    services: Vec<Part<'a>>,
    /// Whether the endpoint sets of some service are not those of the Table before.
    moved: bool,
}

struct Part<'a> {
    name: &'a ObjectName,
    service: &'a Arc<snapshot::Service>,
    before: Option<&'a Arc<Service>>,
    /// As it was, when it says the same as before.
    same: Option<&'a Arc<Service>>,
    sets: Sets<'a>,
}

/// A service's endpoint sets, in the order of its ports.
enum Sets<'a> {
    /// Those of the Table before.
    Kept(&'a Service),
    New(Vec<Arc<EndpointSet>>),
}

impl Sets<'_> {
    fn get(&self, at: usize) -> Option<&Arc<EndpointSet>> {
        match self {
            Self::Kept(service) => service.ports.get(at).map(|port| &port.own),
            Self::New(sets) => sets.get(at),
        }
    }
}

impl<'a> Parts<'a> {
    fn new(snapshot: &'a Snapshot, before: Option<&'a Table>) -> Self {
        let mut old = before
            .iter()
            .flat_map(|before| before.snapshot.services.iter().zip(&before.services))
            .peekable();
        let workload = &snapshot.workload;
        // What an endpoint of this workload's own leads to hangs on these.
        let same_home = before.is_some_and(|before| {
            let was = &before.snapshot.workload;
            (was.interception, &was.ports) == (workload.interception, &workload.ports)
        });
        let mut moved = false;
        let mut services = Vec::with_capacity(snapshot.services.len());
        for (name, service) in &snapshot.services {
            // Both are in the order of names: whatever comes before this one is gone.
            while old.next_if(|((other, _), _)| *other < name).is_some() {
                moved = true;
            }
            let there = old.next_if(|((other, _), _)| *other == name);
            let same = there.filter(|((_, before), _)| same_home && Arc::ptr_eq(before, service));
            let kept =
                there.filter(|((_, before), _)| same_home && (same.is_some() || same_sets(before, service)));
            let sets = match kept {
                Some((_, built)) => Sets::Kept(built),
                None => {
                    moved = true;
                    Sets::New(sets(workload, name, service, there.map(|(_, built)| &**built)))
                }
            };
            services.push(Part {
                name,
                service,
                before: there.map(|(_, built)| built),
                same: same.map(|(_, built)| built),
                sets,
            });
        }
        moved |= old.next().is_some();
        Self { services, moved }
    }

    fn position(&self, name: &ObjectName) -> Option<usize> {
        self.services.binary_search_by(|part| part.name.cmp(name)).ok()
    }

    fn services(&self) -> Vec<Arc<Service>> {
        let services = self.services.iter().map(|part| match part.same {
            Some(before) if !self.moved || self.leads_as(before, part) => Arc::clone(before),
            _ => self.service(part),
        });
        services.collect()
    }

    /// Whether the routes of a service that says the same as before still lead to the same endpoint sets.
    fn leads_as(&self, before: &Service, part: &Part<'_>) -> bool {
        if part.service.route.is_none() {
            return true;
        }
        let same = |set: &Option<Arc<EndpointSet>>, now: Option<&Arc<EndpointSet>>| match (set, now) {
            (Some(set), Some(now)) => Arc::ptr_eq(set, now),
            (None, None) => true,
            _ => false,
        };
        before.ports.iter().all(|port| {
            let rules = port.rules.iter().zip(&port.targets);
            let mut backends = rules.flat_map(|(rule, targets)| rule.backends().iter().zip(targets));
            backends.all(|(backend, target)| same(&target.set, self.target(backend, &port.name)))
        })
    }

    fn service(&self, part: &Part<'_>) -> Arc<Service> {
        let Part {
            name, service, sets, ..
        } = part;
        let called = part
            .before
            .map(|before| Arc::clone(&before.called))
            .unwrap_or_default();
        let ports = service.ports.iter().enumerate().filter_map(|(at, port)| {
            let own = sets.get(at)?;
            let route = service.route.as_ref();
            let rules = route
                .map(|route| route.rules.of_port(&port.name))
                .unwrap_or_default();
            Some(Arc::new(ServicePort {
                service: (*name).clone(),
                label: Arc::clone(&own.label),
                name: port.name.clone(),
                port: port.port,
                protocol: port.app_protocol,
                salt: Salt::of(name),
                reads_model: depend_on_model(&rules),
                targets: rules.iter().map(|rule| self.targets(rule, &port.name)).collect(),
                endpoint_rules: rules.of_endpoints(),
                rules,
                own: Arc::clone(own),
                called: Arc::clone(&called),
            }))
        });
        Arc::new(Service {
            name: (*name).clone(),
            ports: ports.collect(),
            called,
        })
    }

    fn targets(&self, rule: &Rule, called: &Name) -> Vec<Target> {
        let backends = rule.backends().iter();
        backends
            .map(|backend| Target {
                set: self.target(backend, called).cloned(),
            })
            .collect()
    }

    fn target(&self, backend: &Backend, called: &Name) -> Option<&Arc<EndpointSet>> {
        if backend.invalid.is_some() {
            return None;
        }
        let Part { service, sets, .. } = self.services.get(self.position(&backend.service)?)?;
        let port = service.port_for(backend.port.as_ref(), called)?;
        sets.get(service.ports.iter().position(|there| there.name == port.name)?)
    }
}

/// Whether two states of a service have the same endpoint sets.
fn same_sets(a: &snapshot::Service, b: &snapshot::Service) -> bool {
    a.policy == b.policy
        && a.ports.len() == b.ports.len()
        && a.ports
            .iter()
            .zip(&b.ports)
            .all(|(a, b)| a.name == b.name && a.app_protocol == b.app_protocol)
        && (Arc::ptr_eq(&a.endpoints, &b.endpoints) || a.endpoints == b.endpoints)
}

/// The endpoint sets of a service's ports. What was behind the same port before stays what it is.
fn sets(
    workload: &snapshot::Workload,
    name: &ObjectName,
    service: &snapshot::Service,
    before: Option<&Service>,
) -> Vec<Arc<EndpointSet>> {
    let sets = service.ports.iter().map(|port| {
        let mut ports = before.iter().flat_map(|before| &before.ports);
        let known = Known::of(ports.find(|there| there.name == port.name).map(|port| &*port.own));
        let endpoints = service.endpoints.iter().filter_map(|endpoint| {
            let address = endpoint.addresses.get(&port.name)?;
            Some(match own_process(workload, endpoint, *address) {
                Some(process) => known.endpoint(process, None),
                None => known.endpoint(*address, endpoint.identity.as_ref()),
            })
        });
        EndpointSet::new(
            name.clone(),
            port.app_protocol,
            service.policy,
            endpoints.collect(),
        )
    });
    sets.collect()
}

/// Endpoints of a port as it was before, by what makes them the same ones.
struct Known<'a>(HashMap<(SocketAddr, Option<&'a Identity>), &'a Arc<Endpoint>>);

impl<'a> Known<'a> {
    fn of(before: Option<&'a EndpointSet>) -> Self {
        let endpoints = before.iter().flat_map(|set| &set.endpoints);
        Self(
            endpoints
                .map(|endpoint| ((endpoint.address, endpoint.identity.as_ref()), endpoint))
                .collect(),
        )
    }

    fn endpoint(&self, address: SocketAddr, identity: Option<&Identity>) -> Arc<Endpoint> {
        match self.0.get(&(address, identity)) {
            Some(endpoint) => Arc::clone(endpoint),
            None => Endpoint::new(address, identity.cloned()),
        }
    }
}

/// A port of the workload, with its process as the one endpoint.
fn inbound(workload: &ObjectName, port: &snapshot::InboundPort, before: Option<&Table>) -> Inbound {
    let service = port.service.as_ref().unwrap_or(workload);
    let mut there = before.iter().flat_map(|before| before.inbound.values());
    let there = there.find(|there| there.name == port.name && there.local.service == *service);
    let local = Known::of(there.map(|there| &*there.local)).endpoint(port.local, None);
    let policy = TrafficPolicy {
        idle_timeout: LOCAL_IDLE,
        ..TrafficPolicy::default()
    };
    let set = EndpointSet::new(service.clone(), port.app_protocol, policy, vec![local]);
    Inbound {
        name: port.name.clone(),
        protocol: port.app_protocol,
        label: Arc::clone(&set.label),
        local: set,
    }
}

#[cfg(test)]
mod tests;
