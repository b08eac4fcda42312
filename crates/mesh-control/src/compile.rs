//! From the documents in force to what each proxy is to do: pure, and in the same order whatever order they came in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_api::document::{
    Document, Kind, MeshConfigSpec, Object, ObjectId, ServicePortSpec, ServicePortTarget, ServiceSpec,
    TrafficPolicySpec, WorkloadPortSpec, WorkloadSpec,
};
use mesh_api::identity::{Identity, TrustDomain};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Route;
use mesh_api::snapshot::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE_TIMEOUT, Endpoint, InboundPort, Interception, LocalPort, Mesh,
    Service, ServicePort, Snapshot, TrafficPolicy, Version, Workload,
};
use mesh_api::validate::Problem;

use crate::index::Index;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What all proxies are to do, of which each gets its part.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    mesh: Mesh,
    workloads: BTreeMap<ObjectName, Compiled>,
    services: BTreeMap<ObjectName, Arc<Service>>,
    /// Services by the host names they claim further.
    hosts: BTreeMap<String, ObjectName>,
    /// Services by their addresses and those of their endpoints.
    addresses: BTreeMap<SocketAddr, ObjectName>,
    warnings: Vec<(ObjectId, Problem)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Compiled {
    workload: Workload,
    /// The services it says it calls; none: every one.
    calls: Option<BTreeSet<ObjectName>>,
}

/// The documents by kind.
struct Documents<'a> {
    trust_domain: &'a TrustDomain,
    services: Vec<&'a Object<ServiceSpec>>,
    workloads: Vec<&'a Object<WorkloadSpec>>,
    warnings: Vec<(ObjectId, Problem)>,
}

impl View {
    /// Compiles the documents in force.
    pub fn new(index: &Index) -> Self {
        let mut documents = Documents {
            trust_domain: index.trust_domain(),
            services: Vec::new(),
            workloads: Vec::new(),
            warnings: Vec::new(),
        };
        let mut mesh = Mesh::new(&MeshConfigSpec::default(), index.trust_domain());
        let (mut routes, mut policies) = (BTreeMap::new(), BTreeMap::new());
        for stored in index.documents() {
            match &stored.document {
                Document::MeshConfig(object) => mesh = Mesh::new(&object.spec, index.trust_domain()),
                Document::Service(object) => documents.services.push(object),
                Document::Workload(object) => documents.workloads.push(object),
                Document::ModelRoute(object) => {
                    // Documents in force are valid, so that this can't be refused.
                    if let Ok(route) = Route::new(&object.metadata.object_name(), &object.spec) {
                        routes.insert(route.service.clone(), route);
                    }
                }
                Document::TrafficPolicy(object) => {
                    let service =
                        ObjectName::new(object.metadata.namespace.clone(), object.spec.service.clone());
                    policies.insert(service, traffic_policy(&object.spec));
                }
            }
        }
        let mut services = BTreeMap::new();
        for object in documents.services.clone() {
            let name = object.metadata.object_name();
            let service = Service {
                ports: object.spec.ports.iter().map(service_port).collect(),
                hosts: object.spec.hosts.clone(),
                addresses: object.spec.addresses.clone(),
                policy: policies.get(&name).copied().unwrap_or_default(),
                endpoints: documents.endpoints(object).into(),
                route: routes.remove(&name),
            };
            services.insert(name, Arc::new(service));
        }
        let workloads = documents
            .workloads
            .clone()
            .into_iter()
            .map(|object| {
                (
                    object.metadata.object_name(),
                    documents.workload(object, &services),
                )
            })
            .collect();
        Self {
            mesh,
            workloads,
            hosts: further_hosts(&services),
            addresses: addresses(&services),
            services,
            warnings: documents.warnings,
        }
    }

    /// What the proxy of one workload is to do, when it uses these services on demand; none: there is no such Workload.
    pub fn snapshot(
        &self,
        workload: &ObjectName,
        version: Version,
        used: &BTreeSet<ObjectName>,
    ) -> Option<Snapshot> {
        let compiled = self.workloads.get(workload)?;
        let services = match &compiled.calls {
            None => self.services.clone(),
            Some(calls) if compiled.workload.on_demand => self.reachable(calls.union(used)),
            Some(calls) => self.reachable(calls),
        };
        Some(Snapshot {
            version,
            mesh: self.mesh.clone(),
            workload: compiled.workload.clone(),
            services,
        })
    }

    /// The service that a host name means to a workload in `home`, as its proxy would read it if it knew the service.
    pub fn resolve(&self, host: &str, home: &Name) -> Option<ObjectName> {
        let own = |host: &str| {
            let (name, namespace) = host.split_once('.')?;
            self.known(namespace.parse().ok()?, name)
        };
        let suffixes = [".svc.cluster.local", ".svc", ".mesh"];
        own(host)
            .or_else(|| self.known(home.clone(), host))
            .or_else(|| own(suffixes.iter().find_map(|suffix| host.strip_suffix(suffix))?))
            .or_else(|| self.hosts.get(host).cloned())
    }

    /// The service that an address stands for, as its proxy would read it if it knew all services.
    pub fn at(&self, address: SocketAddr) -> Option<&ObjectName> {
        self.addresses.get(&address)
    }

    fn known(&self, namespace: Name, name: &str) -> Option<ObjectName> {
        let name = ObjectName::new(namespace, name.parse().ok()?);
        self.services.contains_key(&name).then_some(name)
    }

    /// Who a workload is; none: there is no such Workload.
    pub fn identity(&self, workload: &ObjectName) -> Option<&Identity> {
        Some(&self.workloads.get(workload)?.workload.identity)
    }

    /// This view, sharing with the one before what they say alike, so that what did not change is told apart from
    /// what did without looking into it, for each proxy anew.
    #[must_use]
    pub fn sharing(mut self, before: &Self) -> Self {
        for (name, service) in &mut self.services {
            let Some(old) = before.services.get(name) else {
                continue;
            };
            if old == service {
                *service = Arc::clone(old);
            } else if old.endpoints == service.endpoints {
                Arc::make_mut(service).endpoints = Arc::clone(&old.endpoints);
            }
        }
        self
    }

    /// What documents say that comes to nothing.
    pub fn warnings(&self) -> &[(ObjectId, Problem)] {
        &self.warnings
    }

    /// The services called, and those their routes lead to.
    fn reachable<'a>(
        &'a self,
        calls: impl IntoIterator<Item = &'a ObjectName>,
    ) -> BTreeMap<ObjectName, Arc<Service>> {
        let mut open: Vec<&ObjectName> = calls.into_iter().collect();
        let mut found = BTreeMap::new();
        while let Some(name) = open.pop() {
            let Some((name, service)) = self.services.get_key_value(name) else {
                continue;
            };
            if found.insert(name.clone(), Arc::clone(service)).is_none() {
                let backends = service.route.iter().flat_map(Route::backends);
                open.extend(backends.map(|backend| &backend.service));
            }
        }
        found
    }
}

impl Documents<'_> {
    fn identity(&self, workload: &Object<WorkloadSpec>) -> Identity {
        Identity::new(
            self.trust_domain.clone(),
            workload.metadata.namespace.clone(),
            workload.spec.service_account.clone(),
        )
    }

    /// The Workloads the Service selects, by name, then its external endpoints as they are listed.
    fn endpoints(&mut self, service: &Object<ServiceSpec>) -> Vec<Endpoint> {
        let mut found = Vec::new();
        for workload in self.workloads.clone() {
            if !selects(service, workload) {
                continue;
            }
            let mut addresses = BTreeMap::new();
            for (index, port) in service.spec.ports.iter().enumerate() {
                match behind(port, &workload.spec) {
                    Some(there) => {
                        let address = SocketAddr::new(workload.spec.address, there.reached_at());
                        addresses.insert(port.name.clone(), address);
                    }
                    None => self.warnings.push((
                        service.id(),
                        Problem::new(
                            format!("spec.ports[{index}]"),
                            format!("{} is selected and has no such port", workload.id()),
                        ),
                    )),
                }
            }
            if !addresses.is_empty() {
                found.push(Endpoint {
                    workload: Some(workload.metadata.object_name()),
                    identity: Some(self.identity(workload)),
                    addresses,
                });
            }
        }
        found.extend(service.spec.external.iter().map(|external| Endpoint {
            workload: None,
            identity: None,
            addresses: BTreeMap::from([(external.port.clone(), external.address)]),
        }));
        found
    }

    fn workload(
        &mut self,
        object: &Object<WorkloadSpec>,
        services: &BTreeMap<ObjectName, Arc<Service>>,
    ) -> Compiled {
        let spec = &object.spec;
        let namespace = &object.metadata.namespace;
        let local_ports: Vec<_> = spec
            .outbound
            .local_ports
            .iter()
            .enumerate()
            .filter_map(|(index, local)| {
                let service = ObjectName::parse_in(&local.service, namespace).ok()?;
                let port = match (&local.port, services.get(&service)?.ports.as_slice()) {
                    (Some(port), _) => port.clone(),
                    (None, [only]) => only.name.clone(),
                    (None, _) => {
                        let reason = format!("Service {service} has several ports: name the one meant");
                        let field = format!("spec.outbound.localPorts[{index}].port");
                        self.warnings.push((object.id(), Problem::new(field, reason)));
                        return None;
                    }
                };
                Some(LocalPort {
                    listen: SocketAddr::new(LOOPBACK, local.listen),
                    service,
                    port,
                })
            })
            .collect();
        let none = Vec::new();
        let declared = spec.outbound.services.as_ref();
        let declared = declared.or(spec.outbound.on_demand.then_some(&none));
        let calls = declared.map(|called| {
            let named = called
                .iter()
                .filter_map(|service| ObjectName::parse_in(service, namespace).ok());
            let named: BTreeSet<_> = named.collect();
            for service in named.iter().filter(|service| !services.contains_key(service)) {
                let reason = format!("there is no Service {service}");
                self.warnings
                    .push((object.id(), Problem::new("spec.outbound.services", reason)));
            }
            let local = local_ports.iter().map(|local| local.service.clone());
            named.into_iter().chain(local).collect()
        });
        let workload = Workload {
            name: object.metadata.object_name(),
            identity: self.identity(object),
            ports: spec
                .ports
                .iter()
                .map(|port| self.inbound_port(object, port))
                .collect(),
            proxy_listen: spec
                .outbound
                .proxy_port
                .map(|port| SocketAddr::new(LOOPBACK, port)),
            local_ports,
            interception: spec.interception.as_ref().map(|ports| Interception {
                inbound: ports.inbound_port,
                outbound: ports.outbound_port,
            }),
            on_demand: spec.outbound.on_demand,
        };
        Compiled { workload, calls }
    }

    fn inbound_port(&self, workload: &Object<WorkloadSpec>, port: &WorkloadPortSpec) -> InboundPort {
        // Documents come in the order of their names, so that this is the first by name.
        let service =
            self.services.iter().find(|service| {
                selects(service, workload)
                    && service.spec.ports.iter().any(|called| {
                        behind(called, &workload.spec).is_some_and(|there| there.name == port.name)
                    })
            });
        InboundPort {
            name: port.name.clone(),
            listen: SocketAddr::new(workload.spec.address, port.reached_at()),
            local: SocketAddr::new(LOOPBACK, port.port),
            app_protocol: port.app_protocol,
            service: service.map(|service| service.metadata.object_name()),
        }
    }
}

fn further_hosts(services: &BTreeMap<ObjectName, Arc<Service>>) -> BTreeMap<String, ObjectName> {
    let hosts = services.iter().flat_map(|(name, service)| {
        let hosts = service.hosts.iter();
        hosts.map(|host| (host.clone(), name.clone()))
    });
    hosts.collect()
}

/// A service's own addresses come before those of endpoints; of several services with an endpoint at one address, the
/// first by name has it.
fn addresses(services: &BTreeMap<ObjectName, Arc<Service>>) -> BTreeMap<SocketAddr, ObjectName> {
    let mut found = BTreeMap::new();
    for (name, service) in services {
        for address in &service.addresses {
            for port in &service.ports {
                found.insert(SocketAddr::new(*address, port.port), name.clone());
            }
        }
    }
    for (name, service) in services {
        for address in service
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.values())
        {
            found.entry(*address).or_insert_with(|| name.clone());
        }
    }
    found
}

/// A selector without labels selects nothing.
fn selects(service: &Object<ServiceSpec>, workload: &Object<WorkloadSpec>) -> bool {
    service.metadata.namespace == workload.metadata.namespace
        && !service.spec.selector.is_empty()
        && service
            .spec
            .selector
            .iter()
            .all(|(label, value)| workload.metadata.labels.get(label) == Some(value))
}

/// The Workload's port behind a Service's: the one it names, or the one of the same name.
fn behind<'a>(port: &ServicePortSpec, workload: &'a WorkloadSpec) -> Option<&'a WorkloadPortSpec> {
    let by_name = |name: &Name| workload.ports.iter().find(|there| there.name == *name);
    match &port.target_port {
        Some(ServicePortTarget::Number(number)) => workload.ports.iter().find(|there| there.port == *number),
        Some(ServicePortTarget::Name(name)) => by_name(name),
        None => by_name(&port.name),
    }
}

fn service_port(port: &ServicePortSpec) -> ServicePort {
    ServicePort {
        name: port.name.clone(),
        port: port.port,
        app_protocol: port.app_protocol,
    }
}

fn traffic_policy(spec: &TrafficPolicySpec) -> TrafficPolicy {
    let connection = &spec.connection;
    TrafficPolicy {
        balancer: spec.load_balancing.algorithm,
        connect_timeout: connection
            .connect_timeout
            .map_or(DEFAULT_CONNECT_TIMEOUT, mesh_api::duration::Duration::get),
        idle_timeout: connection
            .idle_timeout
            .map_or(DEFAULT_IDLE_TIMEOUT, mesh_api::duration::Duration::get),
    }
}

/// The id of a Workload, for messages.
pub fn workload_id(name: &ObjectName) -> ObjectId {
    ObjectId {
        kind: Kind::Workload,
        name: name.clone(),
    }
}

#[cfg(test)]
mod tests;
