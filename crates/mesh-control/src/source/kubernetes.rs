//! Objects of Kubernetes: watched, cut down to what the mesh needs as they come, and taken in as they change.
//!
//! What is needed of the API server is `list` and `watch` of pods, services and namespaces, of
//! endpointslices.discovery.k8s.io, of modelroutes, trafficpolicies and meshconfigs of mesh.dev, and of httproutes,
//! grpcroutes and referencegrants of gateway.networking.k8s.io.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, Resource};
use mesh_api::document::{API_VERSION, Kind};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::catalog::Event;
use crate::catalog::documents::KINDS;
use crate::catalog::object::Change;
use crate::objects::Objects;

pub mod gateway;
mod project;
mod watch;

use gateway::{Grant, GrpcRoute, HttpRoute, Parsed, ReferenceGrant};
use watch::{Projected, Watch};

/// The most events that are taken in at once.
const BATCH: usize = 1_024;
/// Pods that have finished are nobody's endpoints, and their addresses may be others' by now.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Follows the objects for as long as this is polled. Nothing is published until all of them have been listed.
pub async fn follow(objects: Arc<Objects>, client: Client) {
    let (events, mut seen) = mpsc::channel(BATCH);
    let mut watches = Watches {
        client,
        events,
        running: JoinSet::new(),
        kinds: BTreeSet::new(),
    };
    watches.start(
        Watch::of("namespaces"),
        |it: Namespace| project::namespace(&it),
        Event::Namespaces,
    );
    watches.start(Watch::of("services"), project::service, Event::Services);
    watches.start(Watch::of("pods").with(UNFINISHED), project::pod, Event::Pods);
    watches.start(
        Watch::of("endpointslices"),
        |it: EndpointSlice| project::slice(&it),
        Event::Slices,
    );
    for kind in KINDS {
        watches.start_own(kind, &objects);
    }
    watches.start(
        Watch::of_optional("httproutes"),
        |it: HttpRoute| Projected::named(Parsed::http(&it)),
        |change| Event::Routes(gateway::Kind::Http, change),
    );
    watches.start(
        Watch::of_optional("grpcroutes"),
        |it: GrpcRoute| Projected::named(Parsed::grpc(&it)),
        |change| Event::Routes(gateway::Kind::Grpc, change),
    );
    watches.start(
        Watch::of_optional("referencegrants"),
        |it: ReferenceGrant| Projected::named(Grant::new(it)),
        Event::Grants,
    );
    let Watches {
        // They end when this is dropped.
        running: _running,
        kinds: mut missing,
        ..
    } = watches;

    let mut first = Vec::new();
    let mut batch = Vec::with_capacity(BATCH);
    while seen.recv_many(&mut batch, BATCH).await > 0 {
        if missing.is_empty() {
            objects.apply(batch.drain(..).map(|seen: Seen| seen.event));
            continue;
        }
        for Seen { kind, event, listed } in batch.drain(..) {
            first.push(event);
            if listed {
                missing.remove(kind);
            }
        }
        if missing.is_empty() {
            objects.apply(std::mem::take(&mut first));
            tracing::info!("all objects are read");
        }
    }
}

/// What a watch saw.
#[derive(Debug)]
struct Seen {
    kind: &'static str,
    event: Event,
    /// Whether it is everything that there is of the kind.
    listed: bool,
}

struct Watches {
    client: Client,
    events: mpsc::Sender<Seen>,
    running: JoinSet<()>,
    kinds: BTreeSet<&'static str>,
}

impl Watches {
    /// A kind that has a type here.
    fn start<K, T>(&mut self, watch: Watch, project: fn(K) -> Projected<T>, event: fn(Change<T>) -> Event)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
        T: Send + 'static,
    {
        let api: Api<K> = Api::all(self.client.clone());
        self.run(watch, api, project, event);
    }

    /// One of the mesh's own kinds.
    fn start_own(&mut self, kind: Kind, objects: &Arc<Objects>) {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(kind));
        let objects = Arc::clone(objects);
        let project = move |object| project::document(kind, object, objects.settings());
        let watch = Watch::of_optional(plural(kind));
        self.run(watch, api, project, move |change| Event::Documents(kind, change));
    }

    fn run<K, T>(
        &mut self,
        watch: Watch,
        api: Api<K>,
        project: impl Fn(K) -> Projected<T> + Send + 'static,
        event: impl Fn(Change<T>) -> Event + Send + Sync + 'static,
    ) where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
        T: Send + 'static,
    {
        self.kinds.insert(watch.kind);
        self.running
            .spawn(watch.run(api, project, event, self.events.clone()));
    }
}

/// How the API server knows one of the mesh's own kinds.
pub fn resource(kind: Kind) -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: API_VERSION.into(),
        kind: kind.as_str().into(),
        plural: plural(kind).into(),
    }
}

const fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::MeshConfig => "meshconfigs",
        Kind::Service => "services",
        Kind::Workload => "workloads",
        Kind::ModelRoute => "modelroutes",
        Kind::TrafficPolicy => "trafficpolicies",
    }
}
