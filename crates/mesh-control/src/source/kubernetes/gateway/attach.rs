//! Which routes are for which ports of which Services, and for whose requests.

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::name::{Name, ObjectName};

use super::Services;
use super::parsed::{Kind, Parent, Parsed};
use super::status::Judgement;

/// Routes that are for the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Requests to this Service,
    pub(super) service: ObjectName,
    /// by workloads of this namespace alone (consumer routes), or by all those whose namespace has none (producer routes),
    pub(super) consumer: Option<Name>,
    /// to this port; none: to any.
    pub(super) port: Option<Name>,
    /// The positions of the routes, in the order in which they come before each other.
    pub(super) routes: Vec<usize>,
}

/// What routes are for.
#[derive(Debug)]
pub(super) struct Attached {
    /// In the order in which a Service's rules ask: consumers before producers.
    pub(super) groups: Vec<Group>,
    /// By the positions of route and parent, why the route is not for it; what is not here is.
    refused: BTreeMap<(usize, usize), Judgement>,
}

impl Attached {
    /// Whether a route is accepted by one of its parents, and why.
    pub(super) fn judgement(&self, route: usize, parent: usize, parsed: &Parsed) -> Judgement {
        match self.refused.get(&(route, parent)) {
            Some(refused) => refused.clone(),
            None => Judgement::good("Accepted", format!("{} is in force", parsed.origin())),
        }
    }
}

/// Ports by their names, each with the routes (and which of their parents say so) that want it.
type Wanted = BTreeMap<Name, Vec<(usize, usize)>>;

/// Attaches routes, which stand in the order in which they come before each other.
pub(super) fn attach(routes: &[&Parsed], services: &impl Services) -> Attached {
    let mut refused = BTreeMap::new();
    // Consumers before producers.
    let mut wanted: BTreeMap<(ObjectName, bool, Option<Name>), Wanted> = BTreeMap::new();
    for (at, route) in routes.iter().enumerate() {
        for (nth, parent) in route.parents.iter().enumerate() {
            let ports = match parent_ports(route, parent, services) {
                Ok(found) => found,
                Err(why) => {
                    refused.insert((at, nth), why);
                    continue;
                }
            };
            let Some(service) = parent.service.clone() else {
                continue;
            };
            let consumer = (route.key.namespace != service.namespace).then(|| route.key.namespace.clone());
            let of = wanted.entry((service, consumer.is_none(), consumer)).or_default();
            for port in ports {
                of.entry(port).or_default().push((at, nth));
            }
        }
    }
    let mut groups = Vec::new();
    for ((service, _, consumer), mut ports) in wanted {
        let lost = one_kind_a_port(routes, &mut ports);
        for (at, nth) in lost {
            refused.insert((at, nth), conflicted(&service));
        }
        groups.extend(grouped(&service, consumer.as_ref(), &ports, services));
    }
    Attached { groups, refused }
}

/// The ports that a parent means.
fn parent_ports(route: &Parsed, parent: &Parent, services: &impl Services) -> Result<Vec<Name>, Judgement> {
    if let Err(why) = &route.rules {
        return Err(Judgement::bad("UnsupportedValue", why.clone()));
    }
    let none = |why: String| Err(Judgement::bad("NoMatchingParent", why));
    let Some(service) = &parent.service else {
        return none(format!("{:?} can't be the name of a Service", parent.said.name));
    };
    let Some(ports) = services.ports(service) else {
        return none(format!("there is no Service {service}"));
    };
    if !services.is_routable(service) {
        return none(format!(
            "Service {service} has no address of its own, so that no request is sent to it"
        ));
    }
    let (number, name) = (parent.said.port, parent.said.section_name.as_deref());
    let ports = ports.into_iter().filter(|(port, known)| {
        number.is_none_or(|number| number == *port) && name.is_none_or(|name| name == known.as_str())
    });
    let ports: Vec<Name> = ports.map(|(_, name)| name).collect();
    if ports.is_empty() {
        let said = number
            .map(|it| it.to_string())
            .or(name.map(str::to_owned))
            .unwrap_or_default();
        return none(format!("Service {service} has no port {said}"));
    }
    Ok(ports)
}

/// Leaves the routes of one kind for each port: calls of gRPC come before plain HTTP (GEP-1294, "Route types"). Returns
/// those that are left with no port at all.
fn one_kind_a_port(routes: &[&Parsed], ports: &mut Wanted) -> BTreeSet<(usize, usize)> {
    let kind = |at: usize| routes.get(at).map(|route| route.key.kind);
    let all: BTreeSet<_> = ports.values().flatten().copied().collect();
    for wanted in ports.values_mut() {
        if wanted.iter().any(|(at, _)| kind(*at) == Some(Kind::Grpc)) {
            wanted.retain(|(at, _)| kind(*at) == Some(Kind::Grpc));
        }
    }
    let left: BTreeSet<_> = ports.values().flatten().copied().collect();
    all.difference(&left).copied().collect()
}

fn conflicted(service: &ObjectName) -> Judgement {
    Judgement::bad(
        "Conflicted",
        format!("a GRPCRoute is for the same ports of Service {service}, and comes before HTTPRoutes"),
    )
}

/// Groups ports: one group if all of them have the same routes.
fn grouped(
    service: &ObjectName,
    consumer: Option<&Name>,
    ports: &Wanted,
    services: &impl Services,
) -> Vec<Group> {
    let group = |port: Option<&Name>, routes: &[(usize, usize)]| {
        let routes: BTreeSet<usize> = routes.iter().map(|(at, _)| *at).collect();
        Group {
            service: service.clone(),
            consumer: consumer.cloned(),
            port: port.cloned(),
            routes: routes.into_iter().collect(),
        }
    };
    let groups: Vec<Group> = ports
        .iter()
        .map(|(port, routes)| group(Some(port), routes))
        .collect();
    let all = services.ports(service).unwrap_or_default().len() == groups.len();
    match groups.split_first() {
        Some((first, others)) if all && others.iter().all(|other| other.routes == first.routes) => {
            vec![Group {
                port: None,
                ..first.clone()
            }]
        }
        _ => groups,
    }
}
