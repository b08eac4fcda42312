//! What Kubernetes says, as what all proxies are to do: a pure state machine, fed with what watches saw.
//!
//! Everything is kept by what it concerns, so that an event costs what it touches: a slice of endpoints its Service and the
//! pods in it, a pod its workload and the Services it is behind, a route the Service it is about. The order of events does
//! not matter: the same objects give the same view.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use mesh_api::document::Kind;
use mesh_api::name::{Name, ObjectName};

use crate::source::kubernetes::gateway;
use crate::view::{Difference, View};

pub mod documents;
pub mod object;
mod protocol;
mod remarks;
mod routes;
mod services;
mod workloads;

use documents::{Documents, Settings, Touched, Written};
use object::{Change, Key, Keyed, Namespace, Pod, Service, Slice};
pub use remarks::Remark;
use routes::Routes;

/// What a watch saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of Services.
    Services(Change<Service>),
    /// Of EndpointSlices.
    Slices(Change<Slice>),
    /// Of pods.
    Pods(Change<Pod>),
    /// Of Namespaces.
    Namespaces(Change<Namespace>),
    /// Of one of the mesh's own kinds.
    Documents(Kind, Change<Written>),
    /// Of one kind of the Gateway API's routes.
    Routes(gateway::Kind, Change<gateway::Parsed>),
    /// Of ReferenceGrants.
    Grants(Change<gateway::Grant>),
}

/// The objects of a Kubernetes cluster that matter to the mesh, and what follows from them.
#[derive(Debug)]
pub struct Catalog {
    settings: Settings,
    services: BTreeMap<ObjectName, Service>,
    slices: BTreeMap<Key, Slice>,
    pods: BTreeMap<Key, Pod>,
    namespaces: BTreeMap<Key, Namespace>,
    documents: Documents,
    routes: Routes,
    /// The slices of each Service.
    slices_of: BTreeMap<ObjectName, BTreeSet<Key>>,
    /// The slices that each pod is in.
    slices_with: BTreeMap<Key, BTreeSet<Key>>,
    /// What must be looked at again.
    stale: Stale,
    view: View,
    difference: Difference,
}

#[derive(Debug, Default)]
struct Stale {
    mesh: bool,
    routes: bool,
    services: BTreeSet<ObjectName>,
    pods: BTreeSet<Key>,
}

impl Catalog {
    /// A Kubernetes cluster without objects.
    pub fn new(settings: Settings) -> Self {
        Self {
            view: View::empty(&settings.trust_domain),
            documents: Documents::new(settings.clone()),
            routes: Routes::default(),
            settings,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            slices_with: BTreeMap::new(),
            stale: Stale {
                mesh: true,
                ..Stale::default()
            },
            difference: Difference::Anything,
        }
    }

    /// What all proxies are to do.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// In what the view differs from what it was when this was asked last.
    pub fn take_difference(&mut self) -> Difference {
        mem::take(&mut self.difference)
    }

    /// Takes in what watches saw. Whether proxies are to do something else now.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> bool {
        for event in events {
            match event {
                Event::Services(change) => {
                    self.change(change, Self::service_keys, Self::put_service, Self::drop_service);
                }
                Event::Slices(change) => {
                    self.change(change, Self::slice_keys, Self::put_slice, Self::drop_slice);
                }
                Event::Pods(change) => self.change(change, Self::pod_keys, Self::put_pod, Self::drop_pod),
                Event::Namespaces(change) => {
                    self.change(
                        change,
                        Self::namespace_keys,
                        Self::put_namespace,
                        Self::drop_namespace,
                    );
                }
                Event::Documents(kind, change) => self.change(
                    change,
                    |catalog| catalog.documents.keys(kind).cloned().collect(),
                    Self::put_document,
                    |catalog, key| catalog.drop_document(kind, key),
                ),
                Event::Routes(kind, change) => self.change(
                    change,
                    |catalog| catalog.routes.keys(kind),
                    |catalog, route| catalog.stale.routes |= catalog.routes.put(route),
                    |catalog, key| catalog.stale.routes |= catalog.routes.delete(kind, key),
                ),
                Event::Grants(change) => self.change(
                    change,
                    |catalog| catalog.routes.grants(),
                    |catalog, grant| catalog.stale.routes |= catalog.routes.put_grant(grant),
                    |catalog, key| catalog.stale.routes |= catalog.routes.delete_grant(key),
                ),
            }
        }
        self.settle()
    }

    fn change<T: Keyed>(
        &mut self,
        change: Change<T>,
        keys: impl Fn(&Self) -> BTreeSet<Key>,
        put: impl Fn(&mut Self, T),
        drop: impl Fn(&mut Self, &Key),
    ) {
        match change {
            Change::Apply(object) => put(self, object),
            Change::Delete(key) => drop(self, &key),
            Change::Reset(objects) => {
                let mut gone = keys(self);
                for object in objects {
                    gone.remove(&object.key());
                    put(self, object);
                }
                for key in gone {
                    drop(self, &key);
                }
            }
        }
    }

    /// Looks at what is stale. Whether the view says something else after it.
    fn settle(&mut self) -> bool {
        let mut stale = mem::take(&mut self.stale);
        if stale.routes {
            stale.services.extend(self.compile_routes());
        }
        let mut changed = stale.mesh && self.view.set_mesh(self.documents.mesh());
        if changed {
            self.difference = Difference::Anything;
        }
        for name in &stale.services {
            let other = match self.compile_service(name) {
                Some(service) => self.view.put_service(name, service),
                None => self.view.remove_service(name),
            };
            if other {
                self.difference.service(name);
            }
            changed |= other;
        }
        for key in &stale.pods {
            let Some(name) = key.object_name() else { continue };
            let other = match self.compile_workload(key) {
                Some(compiled) => self.view.put_workload(compiled),
                None => self.view.remove_workload(&name),
            };
            if other {
                self.difference.workload(&name);
            }
            changed |= other;
        }
        changed
    }
}

/// What each event makes stale.
impl Catalog {
    fn service_keys(&self) -> BTreeSet<Key> {
        self.services.keys().map(Key::from).collect()
    }

    fn put_service(&mut self, service: Service) {
        let name = service.name.clone();
        if self.services.get(&name) != Some(&service) {
            self.services.insert(name.clone(), service);
            self.service_changed(name);
        }
    }

    fn drop_service(&mut self, key: &Key) {
        if let Some(name) = key.object_name()
            && self.services.remove(&name).is_some()
        {
            self.service_changed(name);
        }
    }

    /// What pods behind it speak, its ports say, and routes may be for it.
    fn service_changed(&mut self, name: ObjectName) {
        self.stale.routes |= !self.routes.is_empty();
        let slices = self.slices_of.get(&name).into_iter().flatten();
        let endpoints = slices
            .filter_map(|key| self.slices.get(key))
            .flat_map(|slice| &slice.endpoints);
        let pods = endpoints.filter_map(|endpoint| endpoint.pod.clone());
        self.stale.pods.extend(pods);
        self.stale.services.insert(name);
    }

    fn slice_keys(&self) -> BTreeSet<Key> {
        self.slices.keys().cloned().collect()
    }

    fn put_slice(&mut self, slice: Slice) {
        let key = slice.key.clone();
        if self.slices.get(&key) == Some(&slice) {
            return;
        }
        let before = self.slices.insert(key.clone(), slice);
        self.slice_changed(&key, before.as_ref());
    }

    fn drop_slice(&mut self, key: &Key) {
        if let Some(before) = self.slices.remove(key) {
            self.slice_changed(key, Some(&before));
        }
    }

    fn slice_changed(&mut self, key: &Key, before: Option<&Slice>) {
        let after = self.slices.get(key);
        let (service_before, service) = (before.map(Slice::service), after.map(Slice::service));
        let (pods_before, pods) = (pods_of(before), pods_of(after));
        let ports = |slice: Option<&Slice>| slice.map(|slice| slice.ports.clone());
        // Whether endpoints are ready is nothing to their workloads.
        let same_ports = ports(before) == ports(after) && service_before == service;
        let concerned = pods_before.symmetric_difference(&pods);
        self.stale.pods.extend(concerned.cloned());
        if !same_ports {
            self.stale.pods.extend(pods_before.iter().chain(&pods).cloned());
        }
        for pod in pods_before.difference(&pods) {
            unlist(&mut self.slices_with, pod, key);
        }
        for pod in pods.difference(&pods_before) {
            self.slices_with
                .entry(pod.clone())
                .or_default()
                .insert(key.clone());
        }
        if let Some(gone) = service_before.filter(|gone| Some(gone) != service.as_ref()) {
            unlist(&mut self.slices_of, &gone, key);
            self.stale.services.insert(gone);
        }
        if let Some(service) = service {
            self.slices_of
                .entry(service.clone())
                .or_default()
                .insert(key.clone());
            self.stale.services.insert(service);
        }
    }

    fn pod_keys(&self) -> BTreeSet<Key> {
        self.pods.keys().cloned().collect()
    }

    fn put_pod(&mut self, pod: Pod) {
        let key = pod.key.clone();
        if self.pods.get(&key) == Some(&pod) {
            return;
        }
        let before = self.pods.insert(key.clone(), pod);
        self.pod_changed(key, before.as_ref());
    }

    fn drop_pod(&mut self, key: &Key) {
        if let Some(before) = self.pods.remove(key) {
            self.pod_changed(key.clone(), Some(&before));
        }
    }

    fn pod_changed(&mut self, key: Key, before: Option<&Pod>) {
        // How others call it.
        let called = |pod: Option<&Pod>| pod.map(|pod| (pod.has_sidecar(), Arc::clone(&pod.account)));
        if called(before) != called(self.pods.get(&key)) {
            let slices = self.slices_with.get(&key).into_iter().flatten();
            let services = slices.filter_map(|key| self.slices.get(key)).map(Slice::service);
            self.stale.services.extend(services);
        }
        self.stale.pods.insert(key);
    }

    fn namespace_keys(&self) -> BTreeSet<Key> {
        self.namespaces.keys().cloned().collect()
    }

    fn put_namespace(&mut self, namespace: Namespace) {
        let (key, name) = (namespace.key(), namespace.name.clone());
        if self.namespaces.get(&key) != Some(&namespace) {
            self.namespaces.insert(key, namespace);
            self.namespace_changed(&name);
        }
    }

    fn drop_namespace(&mut self, key: &Key) {
        if self.namespaces.remove(key).is_some() {
            self.namespace_changed(&key.namespace);
        }
    }

    fn namespace_changed(&mut self, name: &Name) {
        let first = Key {
            namespace: name.clone(),
            name: "".into(),
        };
        let pods = self.pods.range(first..).map(|(key, _)| key);
        let pods = pods.take_while(|key| key.namespace == *name).cloned();
        self.stale.pods.extend(pods);
    }

    fn put_document(&mut self, written: Written) {
        let touched = self.documents.put(written);
        self.touched(touched);
    }

    fn drop_document(&mut self, kind: Kind, key: &Key) {
        let touched = self.documents.delete(kind, key);
        self.touched(touched);
    }

    fn touched(&mut self, touched: Touched) {
        self.stale.mesh |= touched.mesh;
        self.stale.services.extend(touched.services);
    }
}

fn pods_of(slice: Option<&Slice>) -> BTreeSet<Key> {
    let endpoints = slice.into_iter().flat_map(|slice| &slice.endpoints);
    endpoints.filter_map(|endpoint| endpoint.pod.clone()).collect()
}

/// Takes a key out of a list, and the list away with its last one.
fn unlist<K: Ord>(lists: &mut BTreeMap<K, BTreeSet<Key>>, of: &K, key: &Key) {
    if let Some(list) = lists.get_mut(of) {
        list.remove(key);
        if list.is_empty() {
            lists.remove(of);
        }
    }
}

impl Slice {
    fn service(&self) -> ObjectName {
        ObjectName::new(self.key.namespace.clone(), self.service.clone())
    }
}

#[cfg(test)]
mod tests;
