//! From the documents in force to what each proxy is to do: pure, and in the same order whatever order they came in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mesh_api::document::{
    Document, MeshConfigSpec, Object, ObjectId, ServicePortSpec, ServicePortTarget, ServiceSpec,
    TrafficPolicySpec, WorkloadPortSpec, WorkloadSpec,
};
use mesh_api::identity::{Identity, TrustDomain};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Route;
use mesh_api::snapshot::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE_TIMEOUT, Endpoint, InboundPort, Interception, LocalPort, Mesh,
    Service, ServicePort, TrafficPolicy, Workload,
};
use mesh_api::validate::Problem;

use crate::index::Index;
use crate::view::{Compiled, View};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The documents by kind.
struct Documents<'a> {
    trust_domain: &'a TrustDomain,
    services: Vec<&'a Object<ServiceSpec>>,
    workloads: Vec<&'a Object<WorkloadSpec>>,
    warnings: Vec<(ObjectId, Problem)>,
}

/// What the documents in force say, and whether that is something else than before.
pub fn compile(index: &Index, before: &View) -> (View, bool) {
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
                let service = ObjectName::new(object.metadata.namespace.clone(), object.spec.service.clone());
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
        services.insert(name, service);
    }
    let workloads: Vec<_> = documents
        .workloads
        .clone()
        .into_iter()
        .map(|object| documents.workload(object, &services))
        .collect();

    let mut view = before.clone();
    let mut changed = view.set_mesh(mesh);
    for name in before
        .services()
        .map(|(name, _)| name)
        .filter(|name| !services.contains_key(name))
    {
        changed |= view.remove_service(name);
    }
    for (name, service) in services {
        changed |= view.put_service(&name, service);
    }
    let kept: BTreeSet<_> = workloads.iter().map(|it| it.workload.name.clone()).collect();
    for workload in before
        .workloads()
        .filter(|workload| !kept.contains(&workload.name))
    {
        changed |= view.remove_workload(&workload.name);
    }
    for workload in workloads {
        changed |= view.put_workload(workload);
    }
    changed |= view.set_warnings(documents.warnings);
    (view, changed)
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
        services: &BTreeMap<ObjectName, Service>,
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
            mtls: None,
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

pub(crate) fn traffic_policy(spec: &TrafficPolicySpec) -> TrafficPolicy {
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

#[cfg(test)]
mod tests;
