//! From the model to the wire. Nothing here can fail.

use crate::document::{BalancerKind, BeyondReadAhead, MtlsMode};
use crate::name::ObjectName;
use crate::snapshot::{Delta, Endpoint, Mesh, ServiceHead, ServicePort, TrafficPolicy, Workload};

use super::config as wire;

mod route;

impl From<&Delta> for wire::Delta {
    fn from(delta: &Delta) -> Self {
        Self {
            version: delta.version.0,
            full: delta.full,
            mesh: delta.mesh.as_ref().map(Into::into),
            workload: delta.workload.as_ref().map(Into::into),
            services: delta
                .services
                .iter()
                .map(|(name, head)| service(name, head))
                .collect(),
            endpoints: delta
                .endpoints
                .iter()
                .map(|(name, list)| endpoints(name, list))
                .collect(),
            routes: delta.routes.values().map(Into::into).collect(),
            removed_services: delta.removed_services.iter().map(ToString::to_string).collect(),
            removed_routes: delta.removed_routes.iter().map(ToString::to_string).collect(),
            uses: 0,
            trust: String::new(),
        }
    }
}

impl From<&Mesh> for wire::Mesh {
    fn from(mesh: &Mesh) -> Self {
        Self {
            trust_domain: mesh.trust_domain.to_string(),
            permissive: mesh.mtls == MtlsMode::Permissive,
            read_ahead_bytes: u32::try_from(mesh.read_ahead_bytes).unwrap_or(u32::MAX),
            refuse_beyond_read_ahead: mesh.beyond_read_ahead == BeyondReadAhead::Refuse,
            detection_wait_ms: mesh.detection_wait.as_millis().try_into().unwrap_or(u32::MAX),
            access_log: mesh.access_log_percent.map(|percent| wire::AccessLog { percent }),
            tracing: mesh.tracing.as_ref().map(|tracing| wire::Tracing {
                endpoint: tracing.endpoint.clone(),
                percent: tracing.percent,
            }),
        }
    }
}

impl From<&Workload> for wire::Workload {
    fn from(workload: &Workload) -> Self {
        Self {
            name: workload.name.to_string(),
            identity: workload.identity.to_string(),
            ports: workload
                .ports
                .iter()
                .map(|port| wire::InboundPort {
                    name: port.name.to_string(),
                    listen: port.listen.to_string(),
                    local: port.local.to_string(),
                    app_protocol: port.app_protocol.to_string(),
                    service: port.service.as_ref().map(ToString::to_string).unwrap_or_default(),
                })
                .collect(),
            proxy_listen: workload
                .proxy_listen
                .map(|listen| listen.to_string())
                .unwrap_or_default(),
            local_ports: workload
                .local_ports
                .iter()
                .map(|local| wire::LocalPort {
                    listen: local.listen.to_string(),
                    service: local.service.to_string(),
                    port: local.port.to_string(),
                })
                .collect(),
            interception: workload.interception.map(|ports| wire::Interception {
                inbound: ports.inbound.into(),
                outbound: ports.outbound.into(),
            }),
            on_demand: workload.on_demand,
            permissive: workload.mtls.map(|mode| mode == MtlsMode::Permissive),
        }
    }
}

fn service(name: &ObjectName, head: &ServiceHead) -> wire::Service {
    wire::Service {
        name: name.to_string(),
        ports: head.ports.iter().map(Into::into).collect(),
        hosts: head.hosts.clone(),
        addresses: head.addresses.iter().map(ToString::to_string).collect(),
        policy: Some((&head.policy).into()),
    }
}

impl From<&ServicePort> for wire::ServicePort {
    fn from(port: &ServicePort) -> Self {
        Self {
            name: port.name.to_string(),
            port: port.port.into(),
            app_protocol: port.app_protocol.to_string(),
        }
    }
}

impl From<&TrafficPolicy> for wire::TrafficPolicy {
    fn from(policy: &TrafficPolicy) -> Self {
        Self {
            balancer: balancer_word(policy.balancer).into(),
            connect_timeout_ms: policy.connect_timeout.as_millis() as u64,
            idle_timeout_ms: policy.idle_timeout.as_millis() as u64,
        }
    }
}

pub(super) fn balancer_word(kind: BalancerKind) -> &'static str {
    match kind {
        BalancerKind::PeakEwma => "peak-ewma",
        BalancerKind::LeastRequest => "least-request",
        BalancerKind::RoundRobin => "round-robin",
        BalancerKind::Random => "random",
    }
}

fn endpoints(service: &ObjectName, endpoints: &[Endpoint]) -> wire::Endpoints {
    wire::Endpoints {
        service: service.to_string(),
        endpoints: endpoints.iter().map(Into::into).collect(),
    }
}

impl From<&Endpoint> for wire::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            workload: endpoint
                .workload
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            identity: endpoint
                .identity
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            addresses: endpoint
                .addresses
                .iter()
                .map(|(port, at)| (port.to_string(), at.to_string()))
                .collect(),
        }
    }
}
