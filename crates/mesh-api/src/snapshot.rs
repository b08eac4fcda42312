//! What one proxy is to do: the Snapshot it received, and the Deltas that lead from one to the next.
//!
//! A Snapshot is made by the control plane's compiler or decoded from the wire; either way its parts are valid.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::document::{BalancerKind, BeyondReadAhead, MeshConfigSpec, MtlsMode};
use crate::identity::{Identity, TrustDomain};
use crate::inference::AppProtocol;
use crate::name::{Name, ObjectName};
use crate::route::Route;

/// How long connecting may take where nobody says.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept where nobody says.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A number that grows with every published configuration; 0: none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All that one proxy is to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Which one.
    pub version: Version,
    /// What holds for the whole mesh.
    pub mesh: Mesh,
    /// The workload the proxy stands before.
    pub workload: Workload,
    /// The services it may call, and what is behind them. Snapshots share what did not change between them.
    pub services: BTreeMap<ObjectName, Arc<Service>>,
}

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// Of every identity.
    pub trust_domain: TrustDomain,
    /// What inbound listeners accept, where their workload does not say.
    pub mtls: MtlsMode,
    /// The most bytes of a body that are held while its model is looked for.
    pub read_ahead_bytes: usize,
    /// What happens to a request whose model can't be read within them.
    pub beyond_read_ahead: BeyondReadAhead,
    /// How long a client has for its first bytes where they are to say what it speaks.
    pub detection_wait: Duration,
    /// The percentage of successful requests that are logged; none: no access log.
    pub access_log_percent: Option<f64>,
    /// Where spans go.
    pub tracing: Option<Tracing>,
}

impl Mesh {
    /// What a MeshConfig says of a mesh of this trust domain.
    pub fn new(spec: &MeshConfigSpec, trust_domain: &TrustDomain) -> Self {
        let log = &spec.telemetry.access_log;
        Self {
            trust_domain: trust_domain.clone(),
            mtls: spec.mtls,
            read_ahead_bytes: spec.inference.read_ahead_bytes as usize,
            beyond_read_ahead: spec.inference.beyond_read_ahead,
            detection_wait: spec.detection.wait.get(),
            access_log_percent: log.enabled.then_some(log.percent),
            tracing: spec.telemetry.tracing.as_ref().map(|tracing| Tracing {
                endpoint: tracing.endpoint.clone(),
                percent: tracing.percent,
            }),
        }
    }
}

/// Where spans go, and how many.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// The OTLP gRPC address of the collector.
    pub endpoint: String,
    /// The percentage of requests without a decision of their caller that are sampled.
    pub percent: f64,
}

/// The workload a proxy stands before.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Its name.
    pub name: ObjectName,
    /// Who it is.
    pub identity: Identity,
    /// What it serves.
    pub ports: Vec<InboundPort>,
    /// The listener for all services.
    pub proxy_listen: Option<SocketAddr>,
    /// The listeners for one service each.
    pub local_ports: Vec<LocalPort>,
    /// Where intercepted connections are taken; none: nothing is intercepted.
    pub interception: Option<Interception>,
    /// Whether services that are not here may be asked for.
    pub on_demand: bool,
    /// What its inbound listeners accept; none: what the mesh says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MtlsMode>,
}

/// Where the proxy takes intercepted connections: inbound ones on every address, outbound ones on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interception {
    /// The port for connections from others.
    pub inbound: u16,
    /// The port for connections to others.
    pub outbound: u16,
}

impl Interception {
    /// Where intercepted outbound connections are taken.
    pub fn outbound_listeners(&self) -> [SocketAddr; 2] {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        loopback.map(|ip| SocketAddr::new(ip, self.outbound))
    }
}

/// A port of the workload and the listener before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundPort {
    /// Its name.
    pub name: Name,
    /// Where others reach it: the proxy's listener, or an address whose connections are led to the proxy.
    pub listen: SocketAddr,
    /// Where the process listens.
    pub local: SocketAddr,
    /// What the process speaks.
    pub app_protocol: AppProtocol,
    /// The service whose requests arrive here, for labels.
    pub service: Option<ObjectName>,
}

/// A listener that stands for one port of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalPort {
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// The service.
    pub service: ObjectName,
    /// The name of the service's port.
    pub port: Name,
}

/// A service and what is behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// The ports it is called on, at least one, names and numbers unique.
    pub ports: Vec<ServicePort>,
    /// More host names callers may use.
    pub hosts: Vec<String>,
    /// Addresses that stand for it as a whole.
    pub addresses: Vec<IpAddr>,
    /// How its endpoints are connected to and chosen.
    pub policy: TrafficPolicy,
    /// What serves it.
    pub endpoints: Arc<[Endpoint]>,
    /// How its requests are routed; none: to its own endpoints.
    pub route: Option<Route>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    pub name: Name,
    /// The number callers use.
    pub port: u16,
    /// What it speaks.
    pub app_protocol: AppProtocol,
}

/// How a service's endpoints are connected to and chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How one is chosen.
    pub balancer: BalancerKind,
    /// How long connecting and the handshake may take.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        Self {
            balancer: BalancerKind::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
        }
    }
}

/// One of the places that serve a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The workload; none: one without a sidecar.
    pub workload: Option<ObjectName>,
    /// The identity its certificate must have; none: it is called in plaintext.
    pub identity: Option<Identity>,
    /// Where each of the service's ports is served.
    pub addresses: BTreeMap<Name, SocketAddr>,
}

impl Service {
    /// The port that a backend reference means: the one it names, or the one of the same name as the port called, or
    /// the only one.
    pub fn port_for(&self, named: Option<&Name>, called: &Name) -> Option<&ServicePort> {
        let by_name = |name: &Name| self.ports.iter().find(|port| port.name == *name);
        match (named, self.ports.as_slice()) {
            (Some(name), _) => by_name(name),
            (None, [only]) => Some(only),
            (None, _) => by_name(called),
        }
    }
}

/// What changed from one Snapshot to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// The version it leads to.
    pub version: Version,
    /// Whether it is everything, so that what is not in it is gone.
    pub full: bool,
    /// The mesh's settings, when they changed.
    pub mesh: Option<Mesh>,
    /// The workload, when it changed.
    pub workload: Option<Workload>,
    /// Ports, hosts and policy of services that are new or changed.
    pub services: BTreeMap<ObjectName, ServiceHead>,
    /// Endpoints of services whose endpoints changed, all of them.
    pub endpoints: BTreeMap<ObjectName, Arc<[Endpoint]>>,
    /// Routes that are new or changed, by service.
    pub routes: BTreeMap<ObjectName, Route>,
    /// Services that are gone.
    pub removed_services: Vec<ObjectName>,
    /// Services whose route is gone.
    pub removed_routes: Vec<ObjectName>,
}

/// A service without what changes most.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceHead {
    /// The ports it is called on.
    pub ports: Vec<ServicePort>,
    /// More host names callers may use.
    pub hosts: Vec<String>,
    /// Addresses that stand for it as a whole.
    pub addresses: Vec<IpAddr>,
    /// How its endpoints are connected to and chosen.
    pub policy: TrafficPolicy,
}

/// Why a Delta can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// A first Delta must say everything.
    #[error("the first delta is not a full one")]
    NothingBefore,
    /// A full Delta must say what the proxy is.
    #[error("a full delta has no {0}")]
    Incomplete(&'static str),
    /// Endpoints or a route of a service that is not known.
    #[error("{what} of service {service}, which is not known")]
    Stray {
        /// Endpoints or route.
        what: &'static str,
        /// The service.
        service: ObjectName,
    },
}

impl Snapshot {
    /// What inbound listeners accept.
    pub fn mtls(&self) -> MtlsMode {
        self.workload.mtls.unwrap_or(self.mesh.mtls)
    }

    /// The Snapshot after a Delta, leaving the one before as it was.
    ///
    /// # Errors
    /// When the Delta does not follow from what is known; nothing has changed then.
    pub fn after(before: Option<&Self>, delta: Delta) -> Result<Self, DeltaError> {
        let mut next = match before {
            Some(before) if !delta.full => before.clone(),
            None if !delta.full => return Err(DeltaError::NothingBefore),
            _ => Self {
                version: delta.version,
                mesh: delta.mesh.clone().ok_or(DeltaError::Incomplete("mesh"))?,
                workload: delta.workload.clone().ok_or(DeltaError::Incomplete("workload"))?,
                services: BTreeMap::new(),
            },
        };
        next.version = delta.version;
        next.mesh = delta.mesh.unwrap_or(next.mesh);
        next.workload = delta.workload.unwrap_or(next.workload);
        for name in &delta.removed_services {
            next.services.remove(name);
        }
        for (name, head) in delta.services {
            let ServiceHead {
                ports,
                hosts,
                addresses,
                policy,
            } = head;
            match next.services.get_mut(&name) {
                Some(service) => {
                    let service = Arc::make_mut(service);
                    (service.ports, service.hosts) = (ports, hosts);
                    (service.addresses, service.policy) = (addresses, policy);
                }
                None => {
                    let new = Service {
                        ports,
                        hosts,
                        addresses,
                        policy,
                        endpoints: Arc::default(),
                        route: None,
                    };
                    next.services.insert(name, Arc::new(new));
                }
            }
        }
        for (name, endpoints) in delta.endpoints {
            next.known("endpoints", &name)?.endpoints = endpoints;
        }
        for (name, route) in delta.routes {
            next.known("route", &name)?.route = Some(route);
        }
        for name in &delta.removed_routes {
            // The service may have gone in the same Delta, and its route with it.
            if let Some(service) = next.services.get_mut(name) {
                Arc::make_mut(service).route = None;
            }
        }
        Ok(next)
    }

    fn known(&mut self, what: &'static str, name: &ObjectName) -> Result<&mut Service, DeltaError> {
        let service = self.services.get_mut(name);
        service.map(Arc::make_mut).ok_or_else(|| DeltaError::Stray {
            what,
            service: name.clone(),
        })
    }

    /// The Delta that leads from `before` to this, the smallest there is; a full one when there is nothing before.
    pub fn since(&self, before: Option<&Self>) -> Delta {
        let mut delta = Delta {
            version: self.version,
            full: before.is_none(),
            ..Delta::default()
        };
        if before.is_none_or(|before| before.mesh != self.mesh) {
            delta.mesh = Some(self.mesh.clone());
        }
        if before.is_none_or(|before| before.workload != self.workload) {
            delta.workload = Some(self.workload.clone());
        }
        for (name, service) in &self.services {
            let old = before.and_then(|before| before.services.get(name));
            if old.is_some_and(|old| Arc::ptr_eq(old, service)) {
                continue;
            }
            if old.is_none_or(|old| old.head_parts() != service.head_parts()) {
                delta.services.insert(name.clone(), service.head());
            }
            if old.map_or(!service.endpoints.is_empty(), |old| {
                !Arc::ptr_eq(&old.endpoints, &service.endpoints) && old.endpoints != service.endpoints
            }) {
                delta
                    .endpoints
                    .insert(name.clone(), Arc::clone(&service.endpoints));
            }
            match (&service.route, old.and_then(|old| old.route.as_ref())) {
                (Some(route), old) if old != Some(route) => {
                    delta.routes.insert(name.clone(), route.clone());
                }
                (None, Some(_)) => delta.removed_routes.push(name.clone()),
                _ => {}
            }
        }
        let gone = before.into_iter().flat_map(|before| before.services.keys());
        delta.removed_services = gone
            .filter(|name| !self.services.contains_key(name))
            .cloned()
            .collect();
        delta
    }
}

impl Service {
    fn head_parts(&self) -> (&[ServicePort], &[String], &[IpAddr], TrafficPolicy) {
        (&self.ports, &self.hosts, &self.addresses, self.policy)
    }

    fn head(&self) -> ServiceHead {
        ServiceHead {
            ports: self.ports.clone(),
            hosts: self.hosts.clone(),
            addresses: self.addresses.clone(),
            policy: self.policy,
        }
    }
}

impl Delta {
    /// Whether it changes nothing but the version.
    pub fn is_empty(&self) -> bool {
        *self
            == Self {
                version: self.version,
                ..Self::default()
            }
    }
}
