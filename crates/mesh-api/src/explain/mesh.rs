//! The documents by name, and where they send a request.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Decision, How, Place, Possible, Question};
use crate::document::{
    Document, MeshConfigSpec, ServicePortSpec, ServicePortTarget, ServiceSpec, WorkloadSpec,
};
use crate::inference::ModelRequest;
use crate::inference::rewrite::rewrite;
use crate::name::{Name, ObjectName};
use crate::route::{Backend, Filters, Key, Route, Rule, Split};
use crate::split::{self, Salt};

/// The documents by name.
pub(super) struct Mesh<'a> {
    pub(super) config: MeshConfigSpec,
    pub(super) services: BTreeMap<ObjectName, &'a ServiceSpec>,
    pub(super) routes: BTreeMap<ObjectName, Route>,
    workloads: BTreeMap<ObjectName, (&'a BTreeMap<String, String>, &'a WorkloadSpec)>,
}

impl<'a> Mesh<'a> {
    pub(super) fn of(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let mut mesh = Self {
            config: MeshConfigSpec::default(),
            services: BTreeMap::new(),
            routes: BTreeMap::new(),
            workloads: BTreeMap::new(),
        };
        for document in documents {
            let name = document.id().name;
            match document {
                Document::MeshConfig(object) => mesh.config = object.spec.clone(),
                Document::Service(object) => {
                    mesh.services.insert(name, &object.spec);
                }
                Document::Workload(object) => {
                    mesh.workloads
                        .insert(name, (&object.metadata.labels, &object.spec));
                }
                Document::ModelRoute(object) => {
                    if let Ok(route) = Route::new(&name, &object.spec) {
                        mesh.routes.entry(route.service.clone()).or_insert(route);
                    }
                }
                Document::TrafficPolicy(_) => {}
            }
        }
        mesh
    }

    pub(super) fn split(
        &self,
        rule: &Rule,
        split: &Split,
        called: &ServicePortSpec,
        question: &Question<'_>,
        model: Option<&ModelRequest>,
    ) -> Decision {
        let key = split::key(split, question.headers, question.caller);
        let (how, chosen) = match (&key, &split.by) {
            (Some(key), by) => {
                let placed = split::place(split, Salt::of(question.service), key);
                let how = How::Key {
                    name: key_name(by.as_ref()),
                    value: String::from_utf8_lossy(key).into_owned(),
                };
                (how, vec![(placed, 1.0)])
            }
            (None, by) => {
                let missing = by.as_ref().map(|by| key_name(Some(by)));
                let parts = split.backends.iter().enumerate();
                let parts = parts.filter(|(_, backend)| backend.weight > 0);
                let chosen = parts.map(|(at, it)| (at, f64::from(it.weight) / split.total as f64));
                (How::Draw { missing }, chosen.collect())
            }
        };
        let backends = chosen.into_iter();
        Decision::Split {
            rule: rule.name.clone(),
            how,
            backends: backends
                .filter_map(|(at, probability)| Some((split.backends.get(at)?, probability)))
                .map(|(backend, probability)| {
                    let filters = [rule.filters.as_deref(), backend.filters.as_deref()];
                    let mut possible = self.possible(backend, probability, called, question, model);
                    filter(&mut possible, filters.into_iter().flatten(), question);
                    possible
                })
                .collect(),
        }
    }

    fn possible(
        &self,
        backend: &Backend,
        probability: f64,
        called: &ServicePortSpec,
        question: &Question<'_>,
        model: Option<&ModelRequest>,
    ) -> Possible {
        let port = self.services.get(&backend.service).and_then(|spec| {
            let by_name = |name: &Name| spec.ports.iter().find(|port| port.name == *name);
            match (&backend.port, spec.ports.as_slice()) {
                (Some(name), _) => by_name(name),
                (None, [only]) => Some(only),
                (None, _) => by_name(&called.name),
            }
        });
        let mut possible = Possible {
            name: backend.name.clone(),
            probability,
            service: backend.service.clone(),
            target: None,
            model: None,
            version: None,
            changes: Vec::new(),
            failure: None,
            endpoints: port
                .map(|port| self.endpoints(&backend.service, port))
                .unwrap_or_default(),
        };
        if let Some(why) = &backend.invalid {
            possible.failure = Some(why.to_string());
        } else if port.is_none() {
            possible.failure = Some("the service, or its port, is not there".into());
        } else if possible.endpoints.is_empty() {
            possible.failure = Some("the service has no endpoints".into());
        }
        if let (Some(to), Some(model)) = (&backend.rewrite, model) {
            match rewrite(model, question.target, to) {
                Ok(rewritten) => {
                    possible.target = rewritten.target;
                    possible.model = to.name.as_ref().map(ToString::to_string);
                    possible.version = to.version.as_ref().map(ToString::to_string);
                }
                Err(error) => possible.failure = Some(error.to_string()),
            }
        }
        possible
    }

    /// Where the port of a service is served.
    pub(super) fn endpoints(&self, service: &ObjectName, port: &ServicePortSpec) -> Vec<Place> {
        let Some(spec) = self.services.get(service) else {
            return Vec::new();
        };
        let selected = self.workloads.iter().filter(|(workload, (labels, _))| {
            let all = spec
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value));
            !spec.selector.is_empty() && workload.namespace == service.namespace && all
        });
        let meshed = selected.filter_map(|(workload, (_, spec))| {
            let there = spec.ports.iter().find(|there| match &port.target_port {
                None => there.name == port.name,
                Some(ServicePortTarget::Name(name)) => there.name == *name,
                Some(ServicePortTarget::Number(number)) => there.port == *number,
            })?;
            Some(Place {
                workload: Some(workload.clone()),
                address: SocketAddr::new(spec.address, there.reached_at()),
            })
        });
        let external = spec
            .external
            .iter()
            .filter(|it| it.port == port.name)
            .map(|it| Place {
                workload: None,
                address: it.address,
            });
        meshed.chain(external).collect()
    }
}

/// What filters make of a request on its way to a backend.
fn filter<'a>(possible: &mut Possible, filters: impl Iterator<Item = &'a Filters>, question: &Question<'_>) {
    for filters in filters {
        possible.changes.extend(filters.in_words());
        if let Some(path) = &filters.path {
            let path = path.apply(question.path());
            let query = question.query().map(|query| format!("?{query}"));
            possible.target = Some(format!("{path}{}", query.unwrap_or_default()));
        }
    }
}

fn key_name(key: Option<&Key>) -> String {
    match key {
        Some(Key::Header(name)) => format!("header {name}"),
        Some(Key::Caller) | None => "caller".into(),
    }
}
