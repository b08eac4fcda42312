//! Where Services are served now, as their EndpointSlices say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// The label that tells which Service a slice is of.
const SERVICE: &str = "kubernetes.io/service-name";

/// A namespace, and a name in it.
type Place = (String, String);

/// The endpoints that are ready.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    /// The ports behind those of each Service, by what the Service calls them; empty: they have no name.
    behind: BTreeMap<(Place, String), u16>,
    /// The ports at which each workload is an endpoint.
    workloads: BTreeMap<Place, BTreeSet<u16>>,
    /// The endpoints of each Service that are no workloads, each with what the Service calls the port.
    others: BTreeMap<Place, BTreeSet<(String, SocketAddr)>>,
}

impl Endpoints {
    /// Those of these slices, some of which are workloads: these pods.
    pub(super) fn of<'a>(
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
        pods: &BTreeSet<Place>,
    ) -> Self {
        let mut all = Self::default();
        for slice in slices {
            all.add(slice, pods);
        }
        all
    }

    fn add(&mut self, slice: &EndpointSlice, pods: &BTreeSet<Place>) {
        let labels = slice.metadata.labels.as_ref();
        let (Some(namespace), Some(service)) = (
            &slice.metadata.namespace,
            labels.and_then(|labels| labels.get(SERVICE)),
        ) else {
            return;
        };
        let service = (namespace.clone(), service.clone());
        let ports = slice.ports.iter().flatten();
        for port in ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")) {
            let Some(number) = port.port.and_then(|number| u16::try_from(number).ok()) else {
                continue;
            };
            let called = port.name.clone().unwrap_or_default();
            self.behind
                .entry((service.clone(), called.clone()))
                .or_insert(number);
            for endpoint in slice.endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
                let pod = endpoint
                    .target_ref
                    .as_ref()
                    .filter(|it| it.kind.as_deref() == Some("Pod"));
                let pod = pod.and_then(|pod| Some((namespace.clone(), pod.name.clone()?)));
                if let Some(pod) = pod.filter(|pod| pods.contains(pod)) {
                    self.workloads.entry(pod).or_default().insert(number);
                    continue;
                }
                let address = endpoint
                    .addresses
                    .first()
                    .and_then(|text| text.parse::<IpAddr>().ok());
                let address = address.map(|address| (called.clone(), SocketAddr::new(address, number)));
                self.others.entry(service.clone()).or_default().extend(address);
            }
        }
    }

    /// The port behind a Service's.
    pub(super) fn behind(&self, service: &Place, called: &str) -> Option<u16> {
        self.behind.get(&(service.clone(), called.to_owned())).copied()
    }

    /// The ports at which a workload is an endpoint of any Service.
    pub(super) fn of_workload(&self, workload: &Place) -> impl Iterator<Item = u16> {
        self.workloads.get(workload).into_iter().flatten().copied()
    }

    /// The endpoints of a Service that are no workloads, each with what the Service calls the port.
    pub(super) fn others(&self, service: &Place) -> impl Iterator<Item = &(String, SocketAddr)> {
        self.others.get(service).into_iter().flatten()
    }
}

/// Whether it may be called. Who does not say counts as ready (EndpointConditions, "ready").
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .is_none_or(|conditions| conditions.ready != Some(false))
}
