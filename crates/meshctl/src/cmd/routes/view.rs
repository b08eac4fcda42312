//! Documents and traffic put together: services, their callers, rules, backends, and the models seen on each way.

use std::collections::BTreeMap;

use mesh_api::document::{Document, ServicePortSpec, ServiceSpec};
use mesh_api::name::ObjectName;
use mesh_api::route::{Backend, Route};
use mesh_api::wire::admin::{Path, Traffic};
use serde::Serialize;

use crate::documents::InForce;
use crate::traffic::{self, Counts, Figures};
use crate::words;

/// All services, routed ones first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// The span the numbers are about.
    pub(crate) seconds: f64,
    /// The services.
    pub(crate) services: Vec<Service>,
}

/// A service that is called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Service {
    /// What it is called.
    pub(crate) name: ObjectName,
    /// What its ports speak, each protocol once.
    pub(crate) protocols: Vec<String>,
    /// What its route is called, if it has one: as its ModelRoute or, without one, as the service.
    pub(crate) route: Option<ObjectName>,
    /// Whether it only is a backend of others: nobody was seen calling it by its own name.
    pub(crate) only_backend: bool,
    /// All of its requests.
    #[serde(flatten)]
    pub(crate) way: Way,
    /// Who calls it.
    pub(crate) callers: Vec<Caller>,
    /// Its rules, in their order.
    pub(crate) rules: Vec<Rule>,
    /// What no rule takes, when there was any, or when there is no rule.
    pub(crate) otherwise: Option<Otherwise>,
}

/// Counts of one way, for people and for machines.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Way {
    #[serde(skip)]
    pub(crate) counts: Counts,
    /// The counts, for machines.
    traffic: Figures,
}

/// A workload that calls a service.
#[derive(Debug, Serialize)]
pub(crate) struct Caller {
    /// The workload.
    pub(crate) workload: String,
    #[serde(flatten)]
    pub(crate) way: Way,
}

/// A rule of a route.
#[derive(Debug, Serialize)]
pub(crate) struct Rule {
    /// Its name.
    pub(crate) name: String,
    /// What else than a ModelRoute it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<String>,
    /// What it takes, in words.
    pub(crate) takes: String,
    /// How it answers by itself, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<String>,
    /// What keeps a caller on one backend, in words.
    pub(crate) by: Option<String>,
    #[serde(flatten)]
    pub(crate) way: Way,
    /// Where its requests go.
    pub(crate) backends: Vec<Weighted>,
}

/// A backend of a rule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Weighted {
    /// Its name.
    pub(crate) name: String,
    /// Whose endpoints serve it.
    pub(crate) service: ObjectName,
    /// Its weight.
    pub(crate) weight: u32,
    /// The sum of all weights.
    pub(crate) total: u64,
    /// What is rewritten on the way, in words.
    pub(crate) rewrite: Option<String>,
    /// How many endpoints it has.
    pub(crate) endpoints: usize,
    #[serde(flatten)]
    pub(crate) way: Way,
    /// What was asked for.
    pub(crate) models: Vec<Model>,
}

/// What no rule takes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Otherwise {
    /// How many endpoints the service itself has.
    pub(crate) endpoints: usize,
    #[serde(flatten)]
    pub(crate) way: Way,
    /// What was asked for.
    pub(crate) models: Vec<Model>,
}

/// A model, version and operation that were seen.
#[derive(Debug, Serialize)]
pub(crate) struct Model {
    /// The model; empty: none was named.
    pub(crate) model: String,
    /// Its version; empty: none was named.
    pub(crate) version: String,
    /// What was asked of it; empty: no model request.
    pub(crate) operation: String,
    #[serde(flatten)]
    pub(crate) way: Way,
}

impl View {
    /// Puts documents, routes that not they alone say, and traffic together.
    pub(crate) fn of(listed: &[InForce], routes: Vec<Route>, seen: &Traffic) -> Self {
        let mut mesh = Mesh::of(listed);
        let routes = routes.into_iter();
        mesh.routes
            .extend(routes.map(|route| (route.service.clone(), route)));
        let outbound: Vec<(ObjectName, &Path)> = seen
            .paths
            .iter()
            .filter(|path| !path.inbound)
            .filter_map(|path| Some((traffic::service(path)?, path)))
            .collect();
        let mut services: Vec<Service> = mesh
            .services
            .iter()
            .map(|(name, spec)| {
                let own = outbound.iter().filter(|(service, _)| service == name);
                let paths: Vec<&Path> = own.map(|(_, path)| *path).collect();
                service(&mesh, name, spec, &paths, seen.seconds)
            })
            .collect();
        services.sort_by_key(|it| (it.only_backend, it.route.is_none(), it.name.clone()));
        Self {
            seconds: seen.seconds,
            services,
        }
    }
}

/// The documents by name.
struct Mesh<'a> {
    services: BTreeMap<ObjectName, &'a ServiceSpec>,
    routes: BTreeMap<ObjectName, Route>,
    labels: Vec<(ObjectName, &'a BTreeMap<String, String>)>,
}

impl<'a> Mesh<'a> {
    fn of(listed: &'a [InForce]) -> Self {
        let mut mesh = Self {
            services: BTreeMap::new(),
            routes: BTreeMap::new(),
            labels: Vec::new(),
        };
        for it in listed {
            let name = it.document.id().name;
            match &it.document {
                Document::Service(object) => {
                    mesh.services.insert(name, &object.spec);
                }
                Document::ModelRoute(object) => {
                    if let Ok(route) = Route::new(&name, &object.spec) {
                        mesh.routes.insert(route.service.clone(), route);
                    }
                }
                // What serves nothing is nobody's endpoint.
                Document::Workload(object) if object.spec.ports.is_empty() => {}
                Document::Workload(object) => mesh.labels.push((name, &object.metadata.labels)),
                Document::MeshConfig(_) | Document::TrafficPolicy(_) => {}
            }
        }
        mesh
    }

    fn endpoints(&self, service: &ObjectName) -> usize {
        let Some(spec) = self.services.get(service) else {
            return 0;
        };
        let selected = self.labels.iter().filter(|(workload, labels)| {
            let all = spec
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value));
            !spec.selector.is_empty() && workload.namespace == service.namespace && all
        });
        let external =
            |port: &ServicePortSpec| spec.external.iter().filter(|it| it.port == port.name).count();
        selected.count() + spec.ports.iter().map(external).max().unwrap_or_default()
    }

    fn is_backend(&self, service: &ObjectName) -> bool {
        let mut routes = self.routes.values();
        routes.any(|route| route.backends().any(|backend| backend.service == *service))
    }
}

fn service(mesh: &Mesh<'_>, name: &ObjectName, spec: &ServiceSpec, paths: &[&Path], seconds: f64) -> Service {
    let route = mesh.routes.get(name);
    let mut protocols: Vec<String> = Vec::new();
    for port in &spec.ports {
        let protocol = port.app_protocol.to_string();
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    let rules: Vec<Rule> = route
        .iter()
        .flat_map(|route| &route.rules)
        .map(|it| rule(mesh, it, paths, seconds))
        .collect();
    let unruled: Vec<&Path> = paths
        .iter()
        .copied()
        .filter(|path| !rules.iter().any(|rule| rule.name == path.rule))
        .collect();
    let otherwise = (rules.is_empty() || !unruled.is_empty()).then(|| Otherwise {
        endpoints: mesh.endpoints(name),
        way: way(&unruled, seconds),
        models: models(&unruled, seconds),
    });
    Service {
        name: name.clone(),
        protocols,
        route: route.map(|route| route.name().clone()),
        only_backend: paths.is_empty() && route.is_none() && mesh.is_backend(name),
        way: way(paths, seconds),
        callers: grouped(paths, |path| path.workload.clone())
            .into_iter()
            .map(|(workload, paths)| Caller {
                workload,
                way: way(&paths, seconds),
            })
            .collect(),
        rules,
        otherwise,
    }
}

fn rule(mesh: &Mesh<'_>, rule: &mesh_api::route::Rule, paths: &[&Path], seconds: f64) -> Rule {
    let own = paths
        .iter()
        .copied()
        .filter(|path| path.rule == rule.name.as_str());
    let paths: Vec<&Path> = own.collect();
    let backend = |backend: &Backend| {
        let own = paths
            .iter()
            .copied()
            .filter(|path| path.backend == backend.name.as_str());
        let paths: Vec<&Path> = own.collect();
        Weighted {
            name: backend.name.to_string(),
            service: backend.service.clone(),
            weight: backend.weight,
            total: rule.total(),
            rewrite: words::rewrite(backend),
            endpoints: mesh.endpoints(&backend.service),
            way: way(&paths, seconds),
            models: models(&paths, seconds),
        }
    };
    Rule {
        name: rule.name.to_string(),
        origin: words::foreign(&rule.origin),
        takes: words::rule(rule),
        answer: words::answer(rule),
        by: words::key(rule),
        way: way(&paths, seconds),
        backends: rule.backends().iter().map(backend).collect(),
    }
}

fn models(paths: &[&Path], seconds: f64) -> Vec<Model> {
    let by = |path: &Path| (path.model.clone(), path.version.clone(), path.operation.clone());
    let groups = grouped(paths, by).into_iter();
    groups
        .map(|((model, version, operation), paths)| Model {
            model,
            version,
            operation,
            way: way(&paths, seconds),
        })
        .collect()
}

fn way(paths: &[&Path], seconds: f64) -> Way {
    let counts = Counts::of(paths.iter().copied());
    Way {
        traffic: counts.figures(seconds),
        counts,
    }
}

fn grouped<'a, K: Ord>(paths: &[&'a Path], key: impl Fn(&Path) -> K) -> BTreeMap<K, Vec<&'a Path>> {
    let mut groups: BTreeMap<K, Vec<&Path>> = BTreeMap::new();
    for path in paths {
        groups.entry(key(path)).or_default().push(path);
    }
    groups
}
