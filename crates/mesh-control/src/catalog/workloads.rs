//! From a pod, and the Services it is behind, to the workload that its proxy stands before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use mesh_api::document::InterceptionSpec;
use mesh_api::inference::AppProtocol;
use mesh_api::name::{Name, ObjectName};
use mesh_api::snapshot::{InboundPort, Interception, Workload};
use mesh_api::validate::Problem;

use super::Catalog;
use super::object::{Key, Keyed, Mtls, Namespace, Pod};
use super::services::{app_protocol, port_called};
use crate::view::Compiled;

/// The ports of the sidecar itself: the two that intercepted connections are led to, and the one of its probes.
const SIDECAR_PORTS: [u16; 3] = [15_001, 15_006, 15_020];

/// A port of a pod.
struct PodPort {
    name: Name,
    app_protocol: AppProtocol,
    service: Option<ObjectName>,
}

impl Pod {
    /// Whether it is called through a sidecar. One on the node's network has none: it would take the node's connections.
    pub(super) fn has_sidecar(&self) -> bool {
        self.sidecar && !self.host_network
    }
}

/// What is wrong with a pod.
pub(super) fn problems(pod: &Pod) -> Vec<Problem> {
    let mut problems: Vec<_> = mtls_problem(&pod.mtls).into_iter().collect();
    if pod.sidecar && pod.host_network {
        let reason = "a pod on the node's network has no sidecar of its own: it is called as one without";
        problems.push(Problem::new("spec.hostNetwork", reason));
    }
    let unfit = "use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit: until then nobody calls it";
    if pod.has_sidecar() && pod.key.object_name().is_none() {
        let reason = format!("{:?} can't be the name of a workload: {unfit}", pod.key.name);
        problems.push(Problem::new("metadata.name", reason));
    }
    if pod.has_sidecar() && pod.account.parse::<Name>().is_err() {
        let reason = format!("{:?} can't be part of an identity: {unfit}", pod.account);
        problems.push(Problem::new("spec.serviceAccountName", reason));
    }
    problems
}

/// What is wrong with an annotation `mesh.dev/mtls`.
pub(super) fn mtls_problem(mtls: &Mtls) -> Option<Problem> {
    let Mtls::Unknown(word) = mtls else {
        return None;
    };
    let reason = format!("{word:?} is neither strict nor permissive, and taken for strict");
    Some(Problem::new("metadata.annotations[mesh.dev/mtls]", reason))
}

impl Catalog {
    /// The workload of a pod; none: there is no such pod, or it has no sidecar.
    pub(super) fn compile_workload(&self, key: &Key) -> Option<Compiled> {
        let pod = self.pods.get(key).filter(|pod| pod.has_sidecar())?;
        let ports = InterceptionSpec::default();
        Some(Compiled {
            workload: Workload {
                name: key.object_name()?,
                identity: self.identity(pod)?,
                ports: self.inbound_ports(pod),
                proxy_listen: None,
                local_ports: Vec::new(),
                interception: Some(Interception {
                    inbound: ports.inbound_port,
                    outbound: ports.outbound_port,
                }),
                on_demand: true,
                mtls: pod.mtls.mode().or_else(|| self.mtls_of_namespace(&key.namespace)),
            },
            calls: Some(BTreeSet::new()),
        })
    }

    fn mtls_of_namespace(&self, name: &Name) -> Option<mesh_api::document::MtlsMode> {
        let key = Namespace {
            name: name.clone(),
            mtls: Mtls::Unsaid,
        }
        .key();
        self.namespaces.get(&key)?.mtls.mode()
    }

    /// The ports of a pod at each of its addresses. Its processes are reached where they would be without a mesh: what
    /// listens on loopback alone stays unreachable.
    fn inbound_ports(&self, pod: &Pod) -> Vec<InboundPort> {
        let ports = self.pod_ports(pod);
        let at = |address| {
            ports.iter().map(move |(number, port)| InboundPort {
                name: port.name.clone(),
                listen: SocketAddr::new(address, *number),
                local: SocketAddr::new(address, *number),
                app_protocol: port.app_protocol,
                service: port.service.clone(),
            })
        };
        pod.addresses.iter().copied().flat_map(at).collect()
    }

    /// The ports that its containers declare, and those that Services lead to. What a port speaks is said by the first
    /// Service by name that says it; for labels, the first by name has it.
    fn pod_ports(&self, pod: &Pod) -> BTreeMap<u16, PodPort> {
        let mut ports: BTreeMap<u16, PodPort> = BTreeMap::new();
        for (name, number) in &pod.ports {
            ports
                .entry(*number)
                .or_insert_with(|| PodPort::new(name.as_ref(), *number));
        }
        for (service, called, number) in self.led_to(pod) {
            let port = ports.entry(number).or_insert_with(|| PodPort::new(None, number));
            port.service.get_or_insert_with(|| service.clone());
            let spoken = self
                .services
                .get(service)
                .and_then(|service| port_called(service, called));
            if let (AppProtocol::Detect, Some(spoken)) = (port.app_protocol, spoken) {
                port.app_protocol = app_protocol(spoken);
            }
        }
        ports.retain(|number, _| !SIDECAR_PORTS.contains(number));
        ports
    }

    /// The ports of a pod that Services lead to: the Service, what it calls the port, and its number.
    fn led_to<'a>(&'a self, pod: &Pod) -> BTreeSet<(&'a ObjectName, &'a str, u16)> {
        let slices = self.slices_with.get(&pod.key).into_iter().flatten();
        let slices = slices.filter_map(|key| self.slices.get(key));
        let ports = slices.flat_map(|slice| {
            let service = self
                .services
                .get_key_value(&slice.service())
                .map(|(name, _)| name);
            let ports = slice.ports.iter();
            ports.filter_map(move |(called, number)| Some((service?, &**called, *number)))
        });
        ports.collect()
    }
}

impl PodPort {
    fn new(name: Option<&Name>, number: u16) -> Self {
        let unnamed = || {
            format!("port-{number}")
                .parse()
                .unwrap_or_else(|_| Name::default_namespace())
        };
        Self {
            name: name.cloned().unwrap_or_else(unnamed),
            app_protocol: AppProtocol::Detect,
            service: None,
        }
    }
}
