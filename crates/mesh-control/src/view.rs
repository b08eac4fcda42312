//! What all proxies are to do, of which each gets its part.
//!
//! A view is a value: a copy costs nothing, and one that differs in a service costs that service and a few nodes of a tree.
//! What says the same as before stays the same allocation, so that what changed for a proxy is told by comparing pointers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_api::document::{MeshConfigSpec, ObjectId};
use mesh_api::identity::{Identity, TrustDomain};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Route;
use mesh_api::snapshot::{Mesh, Service, Snapshot, Version, Workload};
use mesh_api::validate::Problem;
use rpds::HashTrieMapSync;

mod claims;

use claims::{Claims, Rank};

/// What all proxies are to do.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    mesh: Mesh,
    workloads: HashTrieMapSync<ObjectName, Arc<Compiled>>,
    services: HashTrieMapSync<ObjectName, Arc<Service>>,
    /// Services by the host names they claim further.
    hosts: Claims<String>,
    /// Services by their addresses and those of their endpoints.
    addresses: Claims<SocketAddr>,
    warnings: Vec<(ObjectId, Problem)>,
}

/// A workload, and what its proxy gets without asking.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// What its proxy is told of it.
    pub workload: Workload,
    /// The services it says it calls; none: every one.
    pub calls: Option<BTreeSet<ObjectName>>,
}

/// In what a view differs from the one before.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// Possibly in anything.
    Anything,
    /// In nothing but these, some of which may be new, or gone.
    These {
        /// Workloads.
        workloads: BTreeSet<ObjectName>,
        /// Services.
        services: BTreeSet<ObjectName>,
    },
}

impl Default for Difference {
    fn default() -> Self {
        Self::These {
            workloads: BTreeSet::new(),
            services: BTreeSet::new(),
        }
    }
}

impl Difference {
    /// A workload too.
    pub fn workload(&mut self, name: &ObjectName) {
        if let Self::These { workloads, .. } = self {
            workloads.insert(name.clone());
        }
    }

    /// A service too.
    pub fn service(&mut self, name: &ObjectName) {
        if let Self::These { services, .. } = self {
            services.insert(name.clone());
        }
    }
}

impl View {
    /// A mesh of nothing, with the default settings.
    pub fn empty(trust_domain: &TrustDomain) -> Self {
        Self {
            mesh: Mesh::new(&MeshConfigSpec::default(), trust_domain),
            workloads: HashTrieMapSync::new_sync(),
            services: HashTrieMapSync::new_sync(),
            hosts: Claims::default(),
            addresses: Claims::default(),
            warnings: Vec::new(),
        }
    }

    /// What the proxy of one workload is to do, when it uses these services on demand; none: there is no such Workload.
    pub fn snapshot(
        &self,
        workload: &ObjectName,
        version: Version,
        used: &BTreeSet<ObjectName>,
    ) -> Option<Snapshot> {
        let compiled = self.workloads.get(workload)?;
        let services = match &compiled.calls {
            None => self
                .services()
                .map(|(name, it)| (name.clone(), Arc::clone(it)))
                .collect(),
            Some(calls) if compiled.workload.on_demand => self.reachable(calls.union(used)),
            Some(calls) => self.reachable(calls),
        };
        Some(Snapshot {
            version,
            mesh: self.mesh.clone(),
            workload: compiled.workload.clone(),
            services,
        })
    }

    /// The service that a host name means to a workload in `home`, as its proxy would read it if it knew the service.
    pub fn resolve(&self, host: &str, home: &Name) -> Option<ObjectName> {
        let own = |host: &str| {
            let (name, namespace) = host.split_once('.')?;
            self.known(namespace.parse().ok()?, name)
        };
        let suffixes = [".svc.cluster.local", ".svc", ".mesh"];
        own(host)
            .or_else(|| self.known(home.clone(), host))
            .or_else(|| own(suffixes.iter().find_map(|suffix| host.strip_suffix(suffix))?))
            .or_else(|| self.hosts.last(host).cloned())
    }

    /// The service that an address stands for, as its proxy would read it if it knew all services.
    pub fn at(&self, address: SocketAddr) -> Option<&ObjectName> {
        self.addresses.first(&address)
    }

    fn known(&self, namespace: Name, name: &str) -> Option<ObjectName> {
        let name = ObjectName::new(namespace, name.parse().ok()?);
        self.services.contains_key(&name).then_some(name)
    }

    /// Whether a workload says that it calls a service, if there is such a workload.
    pub fn calls(&self, workload: &ObjectName, service: &ObjectName) -> bool {
        let calls = self.workloads.get(workload).map(|compiled| &compiled.calls);
        calls.is_some_and(|calls| calls.as_ref().is_none_or(|calls| calls.contains(service)))
    }

    /// Who a workload is; none: there is no such Workload.
    pub fn identity(&self, workload: &ObjectName) -> Option<&Identity> {
        Some(&self.workloads.get(workload)?.workload.identity)
    }

    /// What holds for the whole mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// A service.
    pub fn service(&self, name: &ObjectName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = (&ObjectName, &Arc<Service>)> {
        self.services.iter()
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.values().map(|compiled| &compiled.workload)
    }

    /// What documents say that comes to nothing.
    pub fn warnings(&self) -> &[(ObjectId, Problem)] {
        &self.warnings
    }

    /// The services called, and those their routes lead to.
    fn reachable<'a>(
        &'a self,
        calls: impl IntoIterator<Item = &'a ObjectName>,
    ) -> BTreeMap<ObjectName, Arc<Service>> {
        let mut open: Vec<&ObjectName> = calls.into_iter().collect();
        let mut found = BTreeMap::new();
        while let Some(name) = open.pop() {
            let Some(service) = self.services.get(name) else {
                continue;
            };
            if found.insert(name.clone(), Arc::clone(service)).is_none() {
                let backends = service.route.iter().flat_map(Route::backends);
                open.extend(backends.map(|backend| &backend.service));
            }
        }
        found
    }
}

/// Changes. Each tells whether the view says something else after it.
impl View {
    /// Sets what holds for the whole mesh.
    pub fn set_mesh(&mut self, mesh: Mesh) -> bool {
        let changed = self.mesh != mesh;
        self.mesh = mesh;
        changed
    }

    /// Sets what documents say that comes to nothing.
    pub fn set_warnings(&mut self, warnings: Vec<(ObjectId, Problem)>) -> bool {
        let changed = self.warnings != warnings;
        self.warnings = warnings;
        changed
    }

    /// Puts a service in the place of the one of that name.
    pub fn put_service(&mut self, name: &ObjectName, mut service: Service) -> bool {
        let old = self.services.get(name).cloned();
        if let Some(old) = &old {
            if **old == service {
                return false;
            }
            if old.endpoints == service.endpoints {
                service.endpoints = Arc::clone(&old.endpoints);
            }
        }
        self.claim(name, old.as_deref(), Some(&service));
        self.services.insert_mut(name.clone(), Arc::new(service));
        true
    }

    /// Takes a service away.
    pub fn remove_service(&mut self, name: &ObjectName) -> bool {
        let Some(old) = self.services.get(name).cloned() else {
            return false;
        };
        self.claim(name, Some(&old), None);
        self.services.remove_mut(name)
    }

    /// Puts a workload in the place of the one of that name.
    pub fn put_workload(&mut self, compiled: Compiled) -> bool {
        let name = compiled.workload.name.clone();
        if self.workloads.get(&name).is_some_and(|old| **old == compiled) {
            return false;
        }
        self.workloads.insert_mut(name, Arc::new(compiled));
        true
    }

    /// Takes a workload away.
    pub fn remove_workload(&mut self, name: &ObjectName) -> bool {
        self.workloads.remove_mut(name)
    }

    /// What a service claimed is no longer its, and what it claims now is.
    fn claim(&mut self, name: &ObjectName, old: Option<&Service>, new: Option<&Service>) {
        fn hosts(service: Option<&Service>) -> BTreeSet<(String, Rank)> {
            let hosts = service.into_iter().flat_map(|service| &service.hosts);
            hosts.map(|host| (host.clone(), Rank::Own)).collect()
        }
        self.hosts.change(name, &hosts(old), &hosts(new));
        let (old, new) = (old.map(addresses), new.map(addresses));
        self.addresses
            .change(name, &old.unwrap_or_default(), &new.unwrap_or_default());
    }
}

/// The addresses that stand for a service: its own, which come before any service's endpoints, and those of its endpoints.
fn addresses(service: &Service) -> BTreeSet<(SocketAddr, Rank)> {
    let own = service.addresses.iter().flat_map(|address| {
        let ports = service.ports.iter();
        ports.map(|port| (SocketAddr::new(*address, port.port), Rank::Own))
    });
    let endpoints = service.endpoints.iter();
    let endpoints = endpoints.flat_map(|endpoint| endpoint.addresses.values());
    own.chain(endpoints.map(|address| (*address, Rank::Endpoint)))
        .collect()
}
