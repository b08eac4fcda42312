//! From a Snapshot to a Table, off the request path.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_api::name::{Name, ObjectName};
use mesh_api::route::{Backend, Rule, depend_on_model};
use mesh_api::snapshot::{self, Snapshot, TrafficPolicy};
use mesh_api::split::Salt;

use super::endpoint::EndpointKey;
use super::{Endpoint, EndpointSet, Inbound, Service, ServicePort, Table, Target, hosts};

/// How long an unused connection to the workload's own process is kept: below the shortest keep-alive of common model
/// servers (2 s, gunicorn), so that a request never meets the server's closing of the connection.
const LOCAL_IDLE: std::time::Duration = std::time::Duration::from_millis(1_500);

/// Resolves a Snapshot. Endpoints that were in `before` keep their load and their connections.
pub fn build(snapshot: Arc<Snapshot>, before: Option<&Table>) -> Table {
    let held = Arc::clone(&snapshot);
    let mut builder = Builder {
        before,
        endpoints: HashMap::new(),
        sets: BTreeMap::new(),
    };
    for (name, service) in &held.services {
        builder.add_sets(name, service);
    }
    let services: BTreeMap<&ObjectName, Arc<Service>> = held
        .services
        .iter()
        .map(|(name, service)| (name, builder.service(name, service)))
        .collect();

    let mut by_host = HashMap::new();
    let home = &held.workload.name.namespace;
    // Names a service has by itself win over those that others claim as further hosts.
    for further in [true, false] {
        for (name, service) in &services {
            let more = if further {
                held.services[*name].hosts.as_slice()
            } else {
                &[]
            };
            for host in hosts::names(name, home, more) {
                by_host.insert(host.into_boxed_str(), Arc::clone(service));
            }
        }
    }

    let workload = &held.workload;
    let mut outbound = HashMap::new();
    outbound.extend(workload.proxy_listen.map(|listen| (listen, None)));
    for local in &workload.local_ports {
        let port = services
            .get(&local.service)
            .and_then(|service| service.ports.iter().find(|port| port.name == local.port).cloned())
            .unwrap_or_else(|| Arc::new(absent(&local.service, &local.port)));
        outbound.insert(local.listen, Some(port));
    }
    let inbound = workload
        .ports
        .iter()
        .map(|port| (port.listen, Arc::new(builder.inbound(&workload.name, port))))
        .collect();

    Table {
        version: held.version,
        identity: workload.identity.clone(),
        mesh: held.mesh.clone(),
        hosts: by_host,
        outbound,
        inbound,
        endpoints: builder.endpoints,
        snapshot,
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
        route: None,
        reads_model: false,
        rules: Vec::new(),
        targets: Vec::new(),
        own,
    }
}

struct Builder<'a> {
    before: Option<&'a Table>,
    endpoints: HashMap<EndpointKey, Arc<Endpoint>>,
    /// The endpoint sets of every service's ports, in the order of its ports.
    sets: BTreeMap<&'a ObjectName, (&'a snapshot::Service, Vec<Arc<EndpointSet>>)>,
}

impl<'a> Builder<'a> {
    fn endpoint(&mut self, key: EndpointKey) -> Arc<Endpoint> {
        let kept = self.before.and_then(|before| before.endpoints.get(&key).cloned());
        let endpoint = kept.unwrap_or_else(|| Endpoint::new(key.address, key.identity.clone()));
        self.endpoints.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    fn add_sets(&mut self, name: &'a ObjectName, service: &'a snapshot::Service) {
        let sets = service.ports.iter().map(|port| {
            let addresses = service.endpoints.iter().filter_map(|endpoint| {
                endpoint
                    .addresses
                    .get(&port.name)
                    .map(|address| (*address, endpoint.identity.clone()))
            });
            let endpoints = addresses
                .map(|(address, identity)| {
                    self.endpoint(EndpointKey {
                        service: name.clone(),
                        port: port.name.clone(),
                        address,
                        identity,
                    })
                })
                .collect();
            EndpointSet::new(name.clone(), port.app_protocol, service.policy, endpoints)
        });
        let sets = sets.collect();
        self.sets.insert(name, (service, sets));
    }

    fn service(&self, name: &ObjectName, service: &snapshot::Service) -> Arc<Service> {
        let own = &self.sets[name].1;
        let ports = service.ports.iter().zip(own).map(|(port, own)| {
            let rules = service.route.as_ref().map_or(&[][..], |route| &route.rules);
            Arc::new(ServicePort {
                service: name.clone(),
                label: Arc::clone(&own.label),
                name: port.name.clone(),
                port: port.port,
                protocol: port.app_protocol,
                salt: Salt::of(name),
                route: service
                    .route
                    .as_ref()
                    .map(|route| format!("ModelRoute {}", route.object).into()),
                reads_model: depend_on_model(rules),
                rules: rules.to_vec(),
                targets: rules.iter().map(|rule| self.targets(rule, &port.name)).collect(),
                own: Arc::clone(own),
            })
        });
        Arc::new(Service {
            name: name.clone(),
            ports: ports.collect(),
        })
    }

    fn targets(&self, rule: &Rule, called: &Name) -> Vec<Target> {
        rule.split
            .backends
            .iter()
            .map(|backend| Target {
                set: self.target(backend, called),
            })
            .collect()
    }

    fn target(&self, backend: &Backend, called: &Name) -> Option<Arc<EndpointSet>> {
        let (service, sets) = self.sets.get(&backend.service)?;
        let port = service.port_for(backend.port.as_ref(), called)?;
        let at = service.ports.iter().position(|there| there.name == port.name)?;
        sets.get(at).cloned()
    }

    fn inbound(&mut self, workload: &ObjectName, port: &snapshot::InboundPort) -> Inbound {
        let service = port.service.as_ref().unwrap_or(workload);
        let local = self.endpoint(EndpointKey {
            service: service.clone(),
            port: port.name.clone(),
            address: port.local,
            identity: None,
        });
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
}
