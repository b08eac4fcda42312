//! The objects of a large cluster, as the API server has them: what their controllers and the injection webhook write.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use mesh_api::inject::{Namespace, Outcome, Settings, inject};
use serde::Serialize;
use serde_json::{Value, json};

/// Where everything is but the control plane.
pub(crate) const NAMESPACE: &str = "ml";
/// How many Services a proxy uses.
const USED: usize = 10;
/// The Service that all use, which has the route, and the one that its route leads to as well.
pub(crate) const STABLE: usize = 0;
pub(crate) const CANARY: usize = 1;
/// The weight of the endpoints that are not the canary's.
const STABLE_WEIGHT: u32 = 100_000;
/// How many pods a node has, and in how many zones nodes are.
const PODS_OF_A_NODE: usize = 100;
const ZONES: usize = 3;

/// How much there is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) services: usize,
    /// Of each Service.
    pub(crate) endpoints: usize,
    pub(crate) proxies: usize,
}

/// A pod: one of the endpoints of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) service: usize,
    pub(crate) endpoint: usize,
}

impl Size {
    /// All pods. Those with a proxy come first: one of each Service, then another one of each.
    pub(crate) fn places(self) -> impl Iterator<Item = Place> {
        (0..self.services * self.endpoints).map(move |number| self.place(number))
    }

    /// The pod with this number.
    pub(crate) fn place(self, number: usize) -> Place {
        Place {
            service: number % self.services,
            endpoint: number / self.services,
        }
    }

    fn number(self, place: Place) -> usize {
        place.endpoint * self.services + place.service
    }

    /// Whether a pod has a proxy.
    pub(crate) fn has_proxy(self, place: Place) -> bool {
        self.number(place) < self.proxies
    }

    /// How many nodes the pods are on.
    pub(crate) fn nodes(self) -> usize {
        (self.services * self.endpoints).div_ceil(PODS_OF_A_NODE)
    }

    fn node(self, place: Place) -> usize {
        self.number(place) % self.nodes()
    }

    /// The Services that a proxy says it uses.
    pub(crate) fn uses(self, proxy: usize) -> BTreeSet<usize> {
        let others = (1..USED).map(|next| 2 + (proxy + next * 7) % (self.services - 2));
        std::iter::once(STABLE).chain(others).collect()
    }

    /// The proxies that are told of a Service: those that use it, or its route.
    pub(crate) fn users(self, service: usize) -> BTreeSet<usize> {
        (0..self.proxies)
            .filter(|proxy| service == CANARY || self.uses(*proxy).contains(&service))
            .collect()
    }

    /// The Services that some proxies use, and not all.
    pub(crate) fn used_by_few(self) -> Vec<usize> {
        let used: BTreeSet<_> = (0..self.proxies).flat_map(|proxy| self.uses(proxy)).collect();
        used.into_iter().filter(|service| *service != STABLE).collect()
    }
}

pub(crate) fn service_name(service: usize) -> String {
    format!("service-{service}")
}

pub(crate) fn pod_name(place: Place) -> String {
    format!("service-{}-{}", place.service, place.endpoint)
}

fn node_name(node: usize) -> String {
    format!("node-{node}")
}

fn zone(node: usize) -> String {
    format!("zone-{}", node % ZONES)
}

/// Where a pod is reached.
pub(crate) fn address(place: Place) -> String {
    let Place { service, endpoint } = place;
    format!("10.{endpoint}.{}.{}", service >> 8, service & 0xff)
}

pub(crate) fn namespace() -> Value {
    json!({"metadata": {"name": NAMESPACE, "labels": {"mesh.dev/inject": "enabled"}}})
}

pub(crate) fn node(node: usize) -> Value {
    json!({"metadata": {"name": node_name(node), "labels": {"topology.kubernetes.io/zone": zone(node)}}})
}

pub(crate) fn account(service: usize) -> Value {
    json!({"metadata": {"name": service_name(service)}})
}

pub(crate) fn service(service: usize) -> Value {
    let name = service_name(service);
    json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8000, "appProtocol": "mesh.dev/open-inference"}],
        },
    })
}

/// The EndpointSlice of a Service, of which the first endpoint may not be ready.
pub(crate) fn slice(service: usize, size: Size) -> Value {
    let name = service_name(service);
    json!({
        "metadata": {
            "name": slice_name(service),
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP", "appProtocol": "mesh.dev/open-inference"}],
        "endpoints": endpoints(service, size, true),
    })
}

pub(crate) fn slice_name(service: usize) -> String {
    format!("service-{service}-x7k2p")
}

/// The endpoints of a Service, of which the first may not be ready.
pub(crate) fn endpoints(service: usize, size: Size, ready: bool) -> Value {
    let endpoints = (0..size.endpoints).map(|endpoint| {
        let place = Place { service, endpoint };
        let (ready, node) = (ready || endpoint > 0, size.node(place));
        json!({
            "addresses": [address(place)],
            "conditions": {"ready": ready, "serving": ready, "terminating": false},
            "nodeName": node_name(node),
            "zone": zone(node),
            "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod_name(place)},
        })
    });
    endpoints.collect()
}

/// A pod, with the sidecar that the webhook gives it where it has one.
pub(crate) fn pod(place: Place, size: Size) -> Result<Value> {
    let service = service_name(place.service);
    let pod = json!({
        "metadata": {"name": pod_name(place), "namespace": NAMESPACE, "labels": {"app": service}},
        "spec": {
            "serviceAccountName": service,
            "nodeName": node_name(size.node(place)),
            "containers": [{
                "name": "model",
                "image": "tritonserver:25.10",
                "args": ["--model-repository=/models", "--http-port=8000"],
                "ports": [{"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 8002}],
                "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}},
                "resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
            }],
        },
    });
    if !size.has_proxy(place) {
        return Ok(pod);
    }
    match inject(&pod, &Namespace::enabled(), &Settings::default()) {
        Outcome::Injected { pod, .. } => Ok(pod),
        other => bail!("pod {}: {other:?}", pod_name(place)),
    }
}

/// What the kubelet says of a pod.
pub(crate) fn running(place: Place) -> Value {
    let ip = address(place);
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .map(|condition| json!({"type": condition, "status": "True"}));
    json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}})
}

/// The route of the Service that all use, with this weight for its canary.
pub(crate) fn route(canary: u32) -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": service_name(STABLE), "namespace": NAMESPACE},
        "spec": {
            "service": service_name(STABLE),
            "rules": [{"name": "all", "split": {"backends": [
                {"name": "stable", "service": service_name(STABLE), "weight": STABLE_WEIGHT},
                {"name": "canary", "service": service_name(CANARY), "weight": canary},
            ]}}],
        },
    })
}

/// The weights of that route alone, as `meshctl split` writes them.
pub(crate) fn weights(canary: u32) -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": service_name(STABLE), "namespace": NAMESPACE},
        "spec": {"rules": [{"name": "all", "split": {"backends": [
            {"name": "stable", "weight": STABLE_WEIGHT},
            {"name": "canary", "weight": canary},
        ]}}]},
    })
}

/// Those weights as status tells them.
pub(crate) fn told(canary: u32) -> String {
    format!("stable={STABLE_WEIGHT} canary={canary}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_uses_ten_services_of_which_all_use_one_and_few_each_other() {
        let size = Size {
            services: 100,
            endpoints: 3,
            proxies: 120,
        };
        for proxy in 0..size.proxies {
            let uses = size.uses(proxy);
            assert_eq!((uses.len(), uses.contains(&CANARY)), (USED, false));
            assert!(uses.iter().all(|service| size.users(*service).contains(&proxy)));
        }
        for everyones in [STABLE, CANARY] {
            assert_eq!(size.users(everyones).len(), size.proxies);
        }
        for few in size.used_by_few() {
            assert!((1..20).contains(&size.users(few).len()), "{few}");
        }
    }

    #[test]
    fn so_many_pods_have_a_proxy_and_all_have_addresses_of_their_own() {
        let size = Size {
            services: 300,
            endpoints: 3,
            proxies: 310,
        };
        assert_eq!(
            size.places().filter(|place| size.has_proxy(*place)).count(),
            size.proxies
        );
        let addresses: BTreeSet<_> = size.places().map(address).collect();
        assert_eq!(addresses.len(), size.services * size.endpoints);
    }
}
