//! From the wire to the model: every message is checked, and what is wrong with it is said with object and field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::document::{BalancerKind, BeyondReadAhead, MtlsMode};
use crate::name::{Name, ObjectName};
use crate::snapshot::{
    Delta, Endpoint, InboundPort, Interception, LocalPort, Mesh, ServiceHead, ServicePort, Tracing,
    TrafficPolicy, Version, Workload,
};

use super::config as wire;
use super::encode::balancer_word;

mod route;

pub use route::route;

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {reason}")]
pub struct WireError {
    /// Kind and name, such as `Route ml/fraud`.
    pub object: String,
    /// Such as `rules[0].split`.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

type Result<T> = std::result::Result<T, WireError>;

/// Reads a Delta.
///
/// # Errors
/// The first thing that is wrong with it; a Delta is taken as a whole or not at all.
pub fn delta(message: wire::Delta) -> Result<Delta> {
    let mut delta = Delta {
        version: Version(message.version),
        full: message.full,
        mesh: message.mesh.map(mesh).transpose()?,
        workload: message.workload.as_ref().map(workload).transpose()?,
        removed_services: names("removed_services", &message.removed_services)?,
        removed_routes: names("removed_routes", &message.removed_routes)?,
        ..Delta::default()
    };
    for message in message.services {
        let (name, head) = service(message)?;
        no_twice(
            "Service",
            &name,
            delta.services.insert(name.clone(), head).is_some(),
        )?;
    }
    for message in message.endpoints {
        let (name, list) = endpoints(&message)?;
        no_twice(
            "Endpoints",
            &name,
            delta.endpoints.insert(name.clone(), list).is_some(),
        )?;
    }
    for message in message.routes {
        let route = route(message)?;
        let name = route.service.clone();
        no_twice("Route", &name, delta.routes.insert(name.clone(), route).is_some())?;
    }
    Ok(delta)
}

fn no_twice(kind: &str, name: &ObjectName, twice: bool) -> Result<()> {
    if twice {
        Err(error(format!("{kind} {name}"), "", "stands twice in one delta"))
    } else {
        Ok(())
    }
}

fn error(object: impl Into<String>, field: impl Into<String>, reason: impl Display) -> WireError {
    WireError {
        object: object.into(),
        field: field.into(),
        reason: reason.to_string(),
    }
}

/// Reads a field of an object, saying which one when it is wrong.
fn field<T: FromStr<Err: Display>>(object: &str, field: &str, text: &str) -> Result<T> {
    text.parse().map_err(|why: T::Err| error(object, field, why))
}

fn names(of: &str, texts: &[String]) -> Result<Vec<ObjectName>> {
    texts.iter().map(|text| field("Delta", of, text)).collect()
}

fn mesh(message: wire::Mesh) -> Result<Mesh> {
    let percent = |of: &str, value: f64| {
        if (0.0..=100.0).contains(&value) {
            Ok(value)
        } else {
            Err(error("Mesh", of, format!("{value} is not 0 to 100")))
        }
    };
    let read_ahead_bytes = message.read_ahead_bytes as usize;
    if !(16 << 10..=64 << 20).contains(&read_ahead_bytes) {
        return Err(error(
            "Mesh",
            "read_ahead_bytes",
            format!("{read_ahead_bytes} is not 16384 to 67108864"),
        ));
    }
    // Control planes before this field had the same default.
    let wait = if message.detection_wait_ms == 0 {
        500
    } else {
        message.detection_wait_ms
    };
    if wait > 10_000 {
        return Err(error(
            "Mesh",
            "detection_wait_ms",
            format!("{wait} is not 1 to 10000"),
        ));
    }
    Ok(Mesh {
        detection_wait: Duration::from_millis(wait.into()),
        trust_domain: field("Mesh", "trust_domain", &message.trust_domain)?,
        mtls: mtls(message.permissive),
        read_ahead_bytes,
        beyond_read_ahead: if message.refuse_beyond_read_ahead {
            BeyondReadAhead::Refuse
        } else {
            BeyondReadAhead::RouteWithoutModel
        },
        access_log_percent: message
            .access_log
            .map(|log| percent("access_log.percent", log.percent))
            .transpose()?,
        tracing: message
            .tracing
            .map(|tracing| {
                Ok(Tracing {
                    percent: percent("tracing.percent", tracing.percent)?,
                    endpoint: tracing.endpoint,
                })
            })
            .transpose()?,
    })
}

fn mtls(permissive: bool) -> MtlsMode {
    if permissive {
        MtlsMode::Permissive
    } else {
        MtlsMode::Strict
    }
}

fn workload(message: &wire::Workload) -> Result<Workload> {
    let object = format!("Workload {}", message.name);
    let mut sockets = BTreeSet::new();
    let mut listen = |at: &str, text: &str| -> Result<SocketAddr> {
        let address = socket(&object, at, text)?;
        if !sockets.insert(address) {
            return Err(error(&object, at, format!("{address} is listened on already")));
        }
        Ok(address)
    };
    let mut ports = Vec::with_capacity(message.ports.len());
    for (index, port) in message.ports.iter().enumerate() {
        let at = |name: &str| format!("ports[{index}].{name}");
        ports.push(InboundPort {
            name: field(&object, &at("name"), &port.name)?,
            listen: listen(&at("listen"), &port.listen)?,
            local: socket(&object, &at("local"), &port.local)?,
            app_protocol: field(&object, &at("app_protocol"), &port.app_protocol)?,
            service: optional(&port.service)
                .map(|name| field(&object, &at("service"), name))
                .transpose()?,
        });
    }
    let proxy_listen = optional(&message.proxy_listen)
        .map(|text| listen("proxy_listen", text))
        .transpose()?;
    let mut local_ports = Vec::with_capacity(message.local_ports.len());
    for (index, port) in message.local_ports.iter().enumerate() {
        let at = |name: &str| format!("local_ports[{index}].{name}");
        local_ports.push(LocalPort {
            listen: listen(&at("listen"), &port.listen)?,
            service: field(&object, &at("service"), &port.service)?,
            port: field(&object, &at("port"), &port.port)?,
        });
    }
    Ok(Workload {
        name: field(&object, "name", &message.name)?,
        identity: field(&object, "identity", &message.identity)?,
        ports,
        proxy_listen,
        local_ports,
        interception: message
            .interception
            .as_ref()
            .map(|ports| interception(&object, ports))
            .transpose()?,
        on_demand: message.on_demand,
        mtls: message.permissive.map(mtls),
    })
}

fn interception(object: &str, message: &wire::Interception) -> Result<Interception> {
    let port = |at: &str, number: u32| {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.ok_or_else(|| {
            error(
                object,
                format!("interception.{at}"),
                format!("{number} is not a port"),
            )
        })
    };
    let ports = Interception {
        inbound: port("inbound", message.inbound)?,
        outbound: port("outbound", message.outbound)?,
    };
    if ports.inbound == ports.outbound {
        return Err(error(object, "interception.outbound", "is the inbound port too"));
    }
    Ok(ports)
}

fn optional(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn socket(object: &str, at: &str, text: &str) -> Result<SocketAddr> {
    let address: SocketAddr = field(object, at, text)?;
    if address.port() == 0 {
        Err(error(object, at, "port 0 is no port"))
    } else {
        Ok(address)
    }
}

fn service(message: wire::Service) -> Result<(ObjectName, ServiceHead)> {
    let object = format!("Service {}", message.name);
    let name: ObjectName = field(&object, "name", &message.name)?;
    let mut ports: Vec<ServicePort> = Vec::with_capacity(message.ports.len());
    for (index, port) in message.ports.iter().enumerate() {
        let at = |name: &str| format!("ports[{index}].{name}");
        let number = u16::try_from(port.port).ok().filter(|number| *number > 0);
        let port = ServicePort {
            name: field(&object, &at("name"), &port.name)?,
            port: number.ok_or_else(|| error(&object, at("port"), format!("{} is not a port", port.port)))?,
            app_protocol: field(&object, &at("app_protocol"), &port.app_protocol)?,
        };
        if ports
            .iter()
            .any(|other| other.name == port.name || other.port == port.port)
        {
            return Err(error(&object, at("name"), "names or numbers an earlier port too"));
        }
        ports.push(port);
    }
    if ports.is_empty() {
        return Err(error(&object, "ports", "there is none"));
    }
    let addresses = message
        .addresses
        .iter()
        .map(|text| field(&object, "addresses", text))
        .collect::<Result<_>>()?;
    let policy = message
        .policy
        .map(|policy| traffic_policy(&object, &policy))
        .transpose()?
        .unwrap_or_default();
    Ok((
        name,
        ServiceHead {
            ports,
            hosts: message.hosts,
            addresses,
            policy,
        },
    ))
}

fn traffic_policy(object: &str, message: &wire::TrafficPolicy) -> Result<TrafficPolicy> {
    let kinds = [
        BalancerKind::PeakEwma,
        BalancerKind::LeastRequest,
        BalancerKind::RoundRobin,
        BalancerKind::Random,
    ];
    let balancer = kinds
        .into_iter()
        .find(|kind| balancer_word(*kind) == message.balancer);
    if !(1..=60_000).contains(&message.connect_timeout_ms) {
        let reason = format!("{} is not 1 to 60000", message.connect_timeout_ms);
        return Err(error(object, "policy.connect_timeout_ms", reason));
    }
    Ok(TrafficPolicy {
        balancer: balancer.ok_or_else(|| {
            error(
                object,
                "policy.balancer",
                format!("unknown algorithm {:?}", message.balancer),
            )
        })?,
        connect_timeout: Duration::from_millis(message.connect_timeout_ms),
        idle_timeout: Duration::from_millis(message.idle_timeout_ms),
    })
}

fn endpoints(message: &wire::Endpoints) -> Result<(ObjectName, Arc<[Endpoint]>)> {
    let object = format!("Endpoints {}", message.service);
    let name = field(&object, "service", &message.service)?;
    let mut list = Vec::with_capacity(message.endpoints.len());
    for (index, endpoint) in message.endpoints.iter().enumerate() {
        let at = |name: &str| format!("endpoints[{index}].{name}");
        let mut addresses = BTreeMap::new();
        for (port, address) in &endpoint.addresses {
            let port: Name = field(&object, &at("addresses"), port)?;
            addresses.insert(port, socket(&object, &at("addresses"), address)?);
        }
        list.push(Endpoint {
            workload: optional(&endpoint.workload)
                .map(|text| field(&object, &at("workload"), text))
                .transpose()?,
            identity: optional(&endpoint.identity)
                .map(|text| field(&object, &at("identity"), text))
                .transpose()?,
            addresses,
        });
    }
    Ok((name, list.into()))
}
