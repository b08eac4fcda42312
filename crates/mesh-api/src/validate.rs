//! What must hold of documents, alone and together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::document::{
    Document, MeshConfigSpec, Object, ObjectId, ServiceSpec, TrafficPolicySpec, WorkloadSpec,
};
use crate::name::{Name, ObjectName};
use crate::route::Route;

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which field, such as `spec.rules[0].split`.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub reason: String,
}

impl Problem {
    /// A problem of a field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// All that is wrong with a document by itself.
pub fn alone(document: &Document) -> Vec<Problem> {
    match document {
        Document::MeshConfig(object) => mesh_config(&object.spec),
        Document::Service(object) => service(&object.spec),
        Document::Workload(object) => workload(object),
        Document::ModelRoute(object) => Route::new(&object.metadata.object_name(), &object.spec)
            .err()
            .unwrap_or_default(),
        Document::TrafficPolicy(object) => traffic_policy(&object.spec),
    }
}

/// What documents that are each valid do to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Together {
    /// Documents that can't be in force beside an earlier one, and why.
    pub refused: Vec<(ObjectId, Problem)>,
    /// Documents that name something that is not there. They are in force: what they name may come.
    pub missing: Vec<(ObjectId, Problem)>,
}

/// Looks at documents beside each other. Of two that exclude each other, the later one in the order given is refused.
pub fn together<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Together {
    let documents: Vec<_> = documents.into_iter().collect();
    let mut found = Together::default();
    let mut taken = Taken::default();
    for document in &documents {
        if let Some(problem) = taken.take(document) {
            found.refused.push((document.id(), problem));
        }
    }
    let services: BTreeMap<ObjectName, &ServiceSpec> = documents
        .iter()
        .filter_map(|document| match document {
            Document::Service(object) => Some((object.metadata.object_name(), &object.spec)),
            _ => None,
        })
        .collect();
    let ports = |name: &ObjectName| {
        let ports = services.get(name)?.ports.iter();
        Some(ports.map(|port| port.name.clone()).collect())
    };
    for document in &documents {
        found.missing.extend(
            missing(document, &ports)
                .into_iter()
                .map(|problem| (document.id(), problem)),
        );
    }
    found
}

/// What can be had only once.
#[derive(Default)]
struct Taken {
    mesh_config: Option<ObjectId>,
    routed: BTreeMap<ObjectName, ObjectId>,
    governed: BTreeMap<ObjectName, ObjectId>,
    listening: BTreeMap<(Namespace, SocketAddr), ObjectId>,
    addresses: BTreeMap<SocketAddr, ObjectId>,
}

/// Whose sockets exclude each other: those of an intercepted Workload's own network namespace, told by its address, or
/// those of the machine.
type Namespace = Option<IpAddr>;

impl Taken {
    fn take(&mut self, document: &Document) -> Option<Problem> {
        let id = document.id();
        let namespace = &id.name.namespace;
        match document {
            Document::MeshConfig(_) => match &self.mesh_config {
                Some(other) => Some(Problem::new(
                    "",
                    format!("there is {other} already: a mesh has one MeshConfig"),
                )),
                None => {
                    self.mesh_config = Some(id);
                    None
                }
            },
            Document::ModelRoute(object) => {
                once(&mut self.routed, namespace, &object.spec.service, id.clone())
            }
            Document::TrafficPolicy(object) => {
                once(&mut self.governed, namespace, &object.spec.service, id.clone())
            }
            Document::Workload(object) => {
                let namespace = object.spec.interception.as_ref().map(|_| object.spec.address);
                let sockets = listeners(&object.spec).into_iter();
                let sockets = sockets.map(|(field, address)| (field, address, (namespace, address)));
                first_taken(&mut self.listening, sockets, &id, |other, address| {
                    format!("{other} listens on {address} already: choose another port")
                })
            }
            Document::Service(object) => {
                let sockets = stands_for(&object.spec).into_iter();
                let sockets = sockets.map(|(field, address)| (field, address, address));
                first_taken(&mut self.addresses, sockets, &id, |other, address| {
                    format!("{address} stands for {other} already: choose another address")
                })
            }
        }
    }
}

/// Takes sockets for an object, up to the first that another one has.
fn first_taken<K: Ord>(
    taken: &mut BTreeMap<K, ObjectId>,
    sockets: impl Iterator<Item = (String, SocketAddr, K)>,
    id: &ObjectId,
    reason: impl Fn(&ObjectId, SocketAddr) -> String,
) -> Option<Problem> {
    for (field, address, key) in sockets {
        match taken.get(&key) {
            Some(other) if other != id => return Some(Problem::new(field, reason(other, address))),
            _ => taken.insert(key, id.clone()),
        };
    }
    None
}

fn once(
    taken: &mut BTreeMap<ObjectName, ObjectId>,
    namespace: &Name,
    service: &Name,
    id: ObjectId,
) -> Option<Problem> {
    let service = ObjectName::new(namespace.clone(), service.clone());
    match taken.get(&service) {
        Some(other) => {
            let reason = format!("{other} is about service {service} already: put both into one");
            Some(Problem::new("spec.service", reason))
        }
        None => {
            taken.insert(service, id);
            None
        }
    }
}

/// The addresses that stand for a Service, with the fields that say so.
fn stands_for(spec: &ServiceSpec) -> Vec<(String, SocketAddr)> {
    let addresses = spec.addresses.iter().enumerate();
    addresses
        .flat_map(|(index, address)| {
            let field = format!("spec.addresses[{index}]");
            let ports = spec.ports.iter();
            ports.map(move |port| (field.clone(), SocketAddr::new(*address, port.port)))
        })
        .collect()
}

/// The sockets a Workload's sidecar and process listen on, with the fields that say so.
fn listeners(spec: &WorkloadSpec) -> Vec<(String, SocketAddr)> {
    let mut found = Vec::new();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(interception) = &spec.interception {
        // On every address, so that no port of the process or the sidecar may have the same number.
        for (field, port) in [
            ("inboundPort", interception.inbound_port),
            ("outboundPort", interception.outbound_port),
        ] {
            found.push((
                format!("spec.interception.{field}"),
                SocketAddr::new(loopback, port),
            ));
        }
    }
    for (index, port) in spec.ports.iter().enumerate() {
        found.push((
            format!("spec.ports[{index}].port"),
            SocketAddr::new(loopback, port.port),
        ));
        if let Some(listen) = port.listen {
            let address = spec.interception.as_ref().map_or(spec.address, |_| loopback);
            found.push((
                format!("spec.ports[{index}].listen"),
                SocketAddr::new(address, listen),
            ));
        }
    }
    if let Some(port) = spec.outbound.proxy_port {
        found.push(("spec.outbound.proxyPort".into(), SocketAddr::new(loopback, port)));
    }
    for (index, port) in spec.outbound.local_ports.iter().enumerate() {
        found.push((
            format!("spec.outbound.localPorts[{index}].listen"),
            SocketAddr::new(loopback, port.listen),
        ));
    }
    found
}

/// What a document names that is not there, where `ports` are the names of a Service's ports; none: there is no such Service.
pub fn missing(document: &Document, ports: &dyn Fn(&ObjectName) -> Option<Vec<Name>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let namespace = &document.id().name.namespace;
    let mut need = |field: String, service: &ObjectName, port: Option<&Name>| match (ports(service), port) {
        (None, _) => problems.push(Problem::new(field, format!("there is no Service {service}"))),
        (Some(there), Some(port)) if !there.contains(port) => {
            problems.push(Problem::new(
                field,
                format!("Service {service} has no port {port}"),
            ));
        }
        _ => {}
    };
    let here = |name: &Name| ObjectName::new(namespace.clone(), name.clone());
    match document {
        Document::ModelRoute(object) => {
            need("spec.service".into(), &here(&object.spec.service), None);
            for (rule, spec) in object.spec.rules.iter().enumerate() {
                for (index, backend) in spec.split.backends.iter().enumerate() {
                    if let Ok(service) = ObjectName::parse_in(&backend.service, namespace) {
                        let field = format!("spec.rules[{rule}].split.backends[{index}].service");
                        need(field, &service, backend.port.as_ref());
                    }
                }
            }
        }
        Document::TrafficPolicy(object) => need("spec.service".into(), &here(&object.spec.service), None),
        Document::Workload(object) => {
            for (index, local) in object.spec.outbound.local_ports.iter().enumerate() {
                if let Ok(service) = ObjectName::parse_in(&local.service, namespace) {
                    let field = format!("spec.outbound.localPorts[{index}].service");
                    need(field, &service, local.port.as_ref());
                }
            }
        }
        Document::MeshConfig(_) | Document::Service(_) => {}
    }
    problems
}

fn mesh_config(spec: &MeshConfigSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !(16 << 10..=64 << 20).contains(&spec.inference.read_ahead_bytes) {
        let reason = format!(
            "{} is not between 16384 and 67108864",
            spec.inference.read_ahead_bytes
        );
        problems.push(Problem::new("spec.inference.readAheadBytes", reason));
    }
    if !(1..=10_000).contains(&spec.detection.wait.as_millis()) {
        let reason = format!("{} is not between 1ms and 10s", spec.detection.wait);
        problems.push(Problem::new("spec.detection.wait", reason));
    }
    let mut percent = |field: &str, value: f64| {
        if !(0.0..=100.0).contains(&value) {
            problems.push(Problem::new(field, format!("{value} is not between 0 and 100")));
        }
    };
    percent(
        "spec.telemetry.accessLog.percent",
        spec.telemetry.access_log.percent,
    );
    if let Some(tracing) = &spec.telemetry.tracing {
        percent("spec.telemetry.tracing.percent", tracing.percent);
        let uri = tracing.endpoint.parse::<http::Uri>().ok();
        if !uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some()) {
            let reason = format!(
                "{:?} is not an address such as http://127.0.0.1:4317",
                tracing.endpoint
            );
            problems.push(Problem::new("spec.telemetry.tracing.endpoint", reason));
        }
    }
    problems
}

fn service(spec: &ServiceSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    if spec.ports.is_empty() {
        problems.push(Problem::new(
            "spec.ports",
            "a service needs a port to be called on",
        ));
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in spec.ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        if !names.insert(&port.name) {
            problems.push(Problem::new(
                format!("{at}.name"),
                format!("{:?} names an earlier port too", port.name),
            ));
        }
        if port.port == 0 || !numbers.insert(port.port) {
            let reason = format!("{} is 0 or an earlier port's number too", port.port);
            problems.push(Problem::new(format!("{at}.port"), reason));
        }
    }
    for (index, endpoint) in spec.external.iter().enumerate() {
        if !names.contains(&endpoint.port) {
            let reason = format!("the service has no port {}", endpoint.port);
            problems.push(Problem::new(format!("spec.external[{index}].port"), reason));
        }
        if endpoint.address.port() == 0 {
            problems.push(Problem::new(
                format!("spec.external[{index}].address"),
                "port 0 can't be called",
            ));
        }
    }
    let mut addresses = BTreeSet::new();
    for (index, address) in spec.addresses.iter().enumerate() {
        let reason = match address {
            _ if address.is_loopback() => "is loopback, which is never intercepted",
            _ if address.is_unspecified() || address.is_multicast() => "can't be connected to",
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address: write it as one",
            _ if !addresses.insert(address) => "stands here twice",
            _ => continue,
        };
        problems.push(Problem::new(
            format!("spec.addresses[{index}]"),
            format!("{address} {reason}"),
        ));
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
            let reason = format!(
                "{:?} is not a host name in lower case without a port",
                host.chars().take(80).collect::<String>()
            );
            problems.push(Problem::new(format!("spec.hosts[{index}]"), reason));
        }
    }
    problems
}

fn workload(object: &Object<WorkloadSpec>) -> Vec<Problem> {
    let spec = &object.spec;
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for (index, port) in spec.ports.iter().enumerate() {
        if !names.insert(&port.name) {
            let reason = format!("{:?} names an earlier port too", port.name);
            problems.push(Problem::new(format!("spec.ports[{index}].name"), reason));
        }
        if port.listen.is_none() && spec.interception.is_none() {
            problems.push(Problem::new(
                format!("spec.ports[{index}].listen"),
                "missing: say where the sidecar listens for other sidecars, or set spec.interception",
            ));
        }
    }
    if spec.interception.is_some() && (spec.address.is_loopback() || spec.address.is_unspecified()) {
        let reason = format!(
            "{} is not where others reach the workload: with spec.interception, give its own address",
            spec.address
        );
        problems.push(Problem::new("spec.address", reason));
    }
    let mut sockets = BTreeSet::new();
    for (field, address) in listeners(spec) {
        if address.port() == 0 {
            problems.push(Problem::new(field, "0 is not a port: choose one from 1 to 65535"));
        } else if !sockets.insert(address) {
            problems.push(Problem::new(
                field,
                format!("{address} is used by an earlier port too"),
            ));
        }
    }
    for (index, local) in spec.outbound.local_ports.iter().enumerate() {
        if let Err(error) = ObjectName::parse_in(&local.service, &object.metadata.namespace) {
            problems.push(Problem::new(
                format!("spec.outbound.localPorts[{index}].service"),
                error.to_string(),
            ));
        }
    }
    for (index, service) in spec.outbound.services.iter().flatten().enumerate() {
        if let Err(error) = ObjectName::parse_in(service, &object.metadata.namespace) {
            problems.push(Problem::new(
                format!("spec.outbound.services[{index}]"),
                error.to_string(),
            ));
        }
    }
    if let Some(command) = &spec.command {
        if command.run.first().is_none_or(String::is_empty) {
            problems.push(Problem::new("spec.command.run", "names no program"));
        }
        if command
            .ready
            .as_ref()
            .and_then(|ready| ready.path.as_ref())
            .is_some_and(|path| !path.starts_with('/'))
        {
            problems.push(Problem::new("spec.command.ready.path", "must begin with /"));
        }
    }
    problems
}

fn traffic_policy(spec: &TrafficPolicySpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let bounds = [
        (
            "connectTimeout",
            spec.connection.connect_timeout,
            1,
            60_000,
            "1ms and 60s",
        ),
        (
            "idleTimeout",
            spec.connection.idle_timeout,
            0,
            3_600_000,
            "0s and 1h",
        ),
    ];
    for (field, duration, low, high, words) in bounds {
        if let Some(duration) = duration
            && !(low..=high).contains(&duration.as_millis())
        {
            problems.push(Problem::new(
                format!("spec.connection.{field}"),
                format!("{duration} is not between {words}"),
            ));
        }
    }
    problems
}
