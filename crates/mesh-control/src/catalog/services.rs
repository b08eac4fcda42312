//! From a Service, its EndpointSlices and the pods in them to a service as proxies know it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_api::identity::Identity;
use mesh_api::inference::AppProtocol;
use mesh_api::name::{Name, ObjectName};
use mesh_api::snapshot::{self, Endpoint};
use mesh_api::validate::Problem;

use super::object::{EndpointState, Key, Pod, Service, ServicePort, Slice};
use super::{Catalog, protocol};

/// What a port speaks. A word that nobody knows is as good as none: the bytes tell.
pub(super) fn app_protocol(port: &ServicePort) -> AppProtocol {
    protocol::read(port.app_protocol.as_deref()).unwrap_or(AppProtocol::Detect)
}

/// What is wrong with a Service, all of which counts for nothing.
pub(super) fn problems(service: &Service) -> Vec<Problem> {
    let unknown = service.ports.iter().filter_map(|port| {
        let word = port.app_protocol.as_deref()?;
        protocol::read(Some(word)).err()?;
        let reason = format!(
            "{:?} is not known: what the port speaks is detected",
            word.chars().take(80).collect::<String>()
        );
        Some(Problem::new(
            format!("spec.ports[{}].appProtocol", port.name),
            reason,
        ))
    });
    unknown.collect()
}

/// Which endpoint it is, over all slices that name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Which<'a> {
    Pod(&'a Key),
    Address(IpAddr),
}

/// An endpoint as its slices have it.
struct Found<'a> {
    state: EndpointState,
    addresses: BTreeMap<Name, SocketAddr>,
    pod: Option<&'a Key>,
}

impl Catalog {
    /// A service as proxies know it; none: there is nothing to be called.
    pub(super) fn compile_service(&self, name: &ObjectName) -> Option<snapshot::Service> {
        let service = self.services.get(name)?;
        if service.ports.is_empty() {
            return None;
        }
        let ports = service.ports.iter().map(|port| snapshot::ServicePort {
            name: port.name.clone(),
            port: port.number,
            app_protocol: app_protocol(port),
        });
        Some(snapshot::Service {
            ports: ports.collect(),
            hosts: self.further_hosts(name),
            addresses: service.addresses.clone(),
            policy: self.documents.policy(name),
            endpoints: self.endpoints(service).into(),
            route: self.route(name),
        })
    }

    /// The name under another domain than the one that proxies know anyway.
    fn further_hosts(&self, name: &ObjectName) -> Vec<String> {
        match self.settings.cluster_domain.as_str() {
            "cluster.local" => Vec::new(),
            domain => vec![format!("{}.{}.svc.{domain}", name.name, name.namespace)],
        }
    }

    fn endpoints(&self, service: &Service) -> Vec<Endpoint> {
        let found = self.found(service);
        let best = found.values().map(|found| found.state).min();
        let best = best.filter(|state| *state != EndpointState::Unready);
        let usable = found.into_values().filter(|found| Some(found.state) == best);
        usable.filter_map(|found| self.endpoint(found)).collect()
    }

    /// All endpoints by what they are. While endpoints move between slices, they may be in several.
    fn found(&self, service: &Service) -> BTreeMap<Which<'_>, Found<'_>> {
        let mut found: BTreeMap<Which<'_>, Found<'_>> = BTreeMap::new();
        for slice in self.slices_to_read(service) {
            let ports = named_ports(service, slice);
            for endpoint in &slice.endpoints {
                let which = endpoint
                    .pod
                    .as_ref()
                    .map_or(Which::Address(endpoint.address), Which::Pod);
                let addresses = ports
                    .iter()
                    .map(|(name, number)| (Name::clone(name), SocketAddr::new(endpoint.address, *number)));
                match found.get_mut(&which) {
                    Some(other) if other.state == endpoint.state => {
                        for (name, address) in addresses {
                            other.addresses.entry(name).or_insert(address);
                        }
                    }
                    Some(other) if other.state < endpoint.state => {}
                    _ => {
                        let new = Found {
                            state: endpoint.state,
                            addresses: addresses.collect(),
                            pod: endpoint.pod.as_ref(),
                        };
                        found.insert(which, new);
                    }
                }
            }
        }
        found.retain(|_, found| !found.addresses.is_empty());
        found
    }

    /// The slices of one family, since an endpoint is called at one address: the Service's first family, if it has any.
    fn slices_to_read(&self, service: &Service) -> Vec<&Slice> {
        let slices = self.slices_of.get(&service.name).into_iter().flatten();
        let slices: Vec<_> = slices
            .filter_map(|key| self.slices.get(key))
            .filter(|slice| !slice.endpoints.is_empty())
            .collect();
        let of_family = |v6: bool| slices.iter().copied().filter(move |slice| slice.v6 == v6);
        let first: Vec<_> = of_family(service.prefers_v6).collect();
        if first.is_empty() {
            return of_family(!service.prefers_v6).collect();
        }
        first
    }

    /// An endpoint as proxies call it. One whose pod is not known, or no longer, is not called: nobody can say how.
    fn endpoint(&self, found: Found<'_>) -> Option<Endpoint> {
        let addresses = found.addresses;
        let plaintext = |addresses| Endpoint {
            workload: None,
            identity: None,
            addresses,
        };
        let Some(key) = found.pod else {
            return Some(plaintext(addresses));
        };
        let pod = self.pods.get(key)?;
        if !pod.has_sidecar() {
            return Some(plaintext(addresses));
        }
        Some(Endpoint {
            workload: Some(key.object_name()?),
            identity: Some(self.identity(pod)?),
            addresses,
        })
    }

    /// Who a pod is; none: its account can't be part of an identity.
    pub(super) fn identity(&self, pod: &Pod) -> Option<Identity> {
        Some(Identity::new(
            self.settings.trust_domain.clone(),
            pod.key.namespace.clone(),
            pod.account.parse().ok()?,
        ))
    }
}

/// The ports of a slice under the names of its Service.
fn named_ports<'a>(service: &'a Service, slice: &Slice) -> Vec<(&'a Name, u16)> {
    let ports = slice
        .ports
        .iter()
        .filter_map(|(called, number)| Some((&port_called(service, called)?.name, *number)));
    ports.collect()
}

/// The Service's port that a slice calls so.
pub(super) fn port_called<'a>(service: &'a Service, called: &str) -> Option<&'a ServicePort> {
    service.ports.iter().find(|port| &*port.slice_name == called)
}
