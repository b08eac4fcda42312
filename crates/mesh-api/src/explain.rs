//! Which backend answers a request, and why: the proxy's decision, taken from documents, with its reasons.
//!
//! Recognising, matching, splitting and rewriting are the functions that proxies call; only the order in which they
//! are asked stands here a second time, and a test that sends requests through a proxy keeps the two in step.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::{HeaderMap, Method};
use serde::Serialize;

use crate::document::{
    BeyondReadAhead, Document, MeshConfigSpec, ServicePortSpec, ServicePortTarget, ServiceSpec, WorkloadSpec,
};
use crate::identity::Identity;
use crate::inference::rewrite::rewrite;
use crate::inference::{
    AppProtocol, Head, ModelName, ModelRequest, ModelVersion, Operation, Recognition, Refusal, recognise,
};
use crate::matching;
use crate::name::{Name, ObjectName};
use crate::route::{Backend, Key, Route, Split, depend_on_model};
use crate::split::{self, Salt};

/// A request to be explained.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The service it is sent to.
    pub service: &'a ObjectName,
    /// The service's port; none: its only one, or its first.
    pub port: Option<&'a Name>,
    /// Its method.
    pub method: &'a Method,
    /// Its target: path and query.
    pub target: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, or as much of it as is known.
    pub body: &'a [u8],
    /// Who sends it.
    pub caller: Option<&'a Identity>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    /// No such service.
    #[error("there is no Service {0}")]
    NoService(ObjectName),
    /// No such port.
    #[error("Service {service} has no port {port:?}: it has {there}")]
    NoPort {
        /// The service.
        service: ObjectName,
        /// The port that was asked for.
        port: String,
        /// Those that it has.
        there: String,
    },
}

/// What happens to a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The service.
    pub service: ObjectName,
    /// Its port.
    pub port: Name,
    /// What the port speaks.
    pub protocol: AppProtocol,
    /// What was recognised; none: not a model request.
    pub model: Option<Recognised>,
    /// The ModelRoute of the service.
    pub route: Option<ObjectName>,
    /// The rules up to the one that takes the request, each with why it does not.
    pub rules: Vec<Considered>,
    /// What comes of it.
    pub decision: Decision,
}

/// What a request asks of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recognised {
    /// What is asked.
    pub operation: Operation,
    /// The model, if one is named.
    pub model: Option<String>,
    /// Its version, if one is named.
    pub version: Option<String>,
    /// What is to be known about the reading.
    pub note: Option<String>,
}

/// A rule that was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Considered {
    /// Its name.
    pub rule: Name,
    /// Whether it takes the request.
    pub takes: bool,
    /// For each of its matches, the first field that does not hold; none: all hold.
    pub mismatches: Vec<Option<&'static str>>,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Decision {
    /// The mesh answers it itself.
    Refused {
        /// The status.
        status: u16,
        /// The word in `mesh-error`.
        reason: String,
        /// What is wrong.
        detail: String,
    },
    /// A rule's split takes it.
    #[serde(rename_all = "camelCase")]
    Split {
        /// The rule.
        rule: Name,
        /// How the backend is chosen.
        how: How,
        /// The backends it can go to; one when it is certain.
        backends: Vec<Possible>,
    },
    /// No rule takes it: it goes to the service's own endpoints.
    Own {
        /// Where they are.
        endpoints: Vec<Place>,
    },
}

/// How a split chooses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "by")]
pub enum How {
    /// By weight, anew for each request.
    Draw {
        /// The key that would keep the caller on one backend, when the request lacks it.
        missing: Option<String>,
    },
    /// By a key: always the same.
    Key {
        /// What the key is: a header, or the caller.
        name: String,
        /// The key itself.
        value: String,
    },
}

/// A backend that a request can go to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Possible {
    /// Its name.
    pub name: Name,
    /// How likely it is, above 0 up to 1.
    pub probability: f64,
    /// Whose endpoints serve it.
    pub service: ObjectName,
    /// The target that is sent instead, when it is rewritten.
    pub target: Option<String>,
    /// The model asked for there, when it is rewritten.
    pub model: Option<String>,
    /// The version asked for there, when it is rewritten.
    pub version: Option<String>,
    /// Why it fails there, when it does.
    pub failure: Option<String>,
    /// Where it is served.
    pub endpoints: Vec<Place>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The workload; none: one without a sidecar.
    pub workload: Option<ObjectName>,
    /// Where it is called.
    pub address: SocketAddr,
}

/// Explains what happens to a request under these documents.
///
/// # Errors
/// When the service or its port is not there.
pub fn explain<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    question: &Question<'_>,
) -> Result<Explanation, Unanswerable> {
    let mesh = Mesh::of(documents);
    let spec = mesh
        .services
        .get(question.service)
        .ok_or_else(|| Unanswerable::NoService(question.service.clone()))?;
    let port = match question.port {
        Some(name) => spec.ports.iter().find(|port| port.name == *name),
        None => spec.ports.first(),
    };
    let port = port.ok_or_else(|| Unanswerable::NoPort {
        service: question.service.clone(),
        port: question.port.map(ToString::to_string).unwrap_or_default(),
        there: spec
            .ports
            .iter()
            .map(|port| port.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let route = mesh.routes.get(question.service);
    let mut explanation = Explanation {
        service: question.service.clone(),
        port: port.name.clone(),
        protocol: port.app_protocol,
        model: None,
        route: route.map(|route| route.object.clone()),
        rules: Vec::new(),
        decision: Decision::Own {
            endpoints: Vec::new(),
        },
    };
    let rules = route.map(|route| route.rules.as_slice()).unwrap_or_default();
    let read = match read(&mesh.config, port.app_protocol, question, depend_on_model(rules)) {
        Ok(read) => read,
        Err(refused) => {
            explanation.decision = refused;
            return Ok(explanation);
        }
    };
    explanation.model = read.as_ref().map(|(model, note)| Recognised {
        operation: model.operation,
        model: model.model.as_ref().map(ToString::to_string),
        version: model.version.as_ref().map(ToString::to_string),
        note: note.clone(),
    });
    let model = read.as_ref().map(|(model, _)| model);
    let request = matching::Request {
        method: question.method,
        path: question.target.split(['?', '#']).next().unwrap_or_default(),
        headers: question.headers,
        model: model.and_then(|it| it.model.as_ref()).map(ModelName::as_str),
        version: model.and_then(|it| it.version.as_ref()).map(ModelVersion::as_str),
        operation: model.map(|it| it.operation),
        caller: question.caller,
    };
    let taken = matching::find(rules, &request);
    explanation.rules = rules
        .iter()
        .take(taken.map_or(rules.len(), |taken| taken + 1))
        .map(|rule| Considered {
            rule: rule.name.clone(),
            takes: matching::takes(rule, &request),
            mismatches: rule
                .matches
                .iter()
                .map(|it| matching::mismatch(it, &request))
                .collect(),
        })
        .collect();
    explanation.decision = match taken.and_then(|taken| rules.get(taken)) {
        Some(rule) => mesh.split(rule.name.clone(), &rule.split, port, question, model),
        None => {
            let endpoints = mesh.endpoints(question.service, port);
            if endpoints.is_empty() && !rules.is_empty() {
                refused(
                    404,
                    "no-rule",
                    "no rule takes the request, and the service has no endpoints",
                )
            } else {
                Decision::Own { endpoints }
            }
        }
    };
    Ok(explanation)
}

fn refused(status: u16, reason: &str, detail: impl Into<String>) -> Decision {
    Decision::Refused {
        status,
        reason: reason.into(),
        detail: detail.into(),
    }
}

/// What the request asks of which model, as a proxy would read it.
fn read(
    config: &MeshConfigSpec,
    protocol: AppProtocol,
    question: &Question<'_>,
    needed: bool,
) -> Result<Option<(ModelRequest, Option<String>)>, Decision> {
    let turned_away =
        |refusal: Refusal| refused(refusal.status().as_u16(), refusal.reason.as_str(), refusal.detail);
    let head = Head {
        method: question.method,
        target: question.target,
        headers: question.headers,
    };
    let mut scanner = match recognise(protocol, &head).map_err(turned_away)? {
        Recognition::Plain => return Ok(None),
        Recognition::Known(model) => return Ok(Some((model, None))),
        Recognition::Body(scanner) => scanner,
    };
    if !needed {
        let note = "no rule depends on the model: its name is read as the body passes";
        return Ok(Some((
            ModelRequest::unnamed(scanner.operation()),
            Some(note.into()),
        )));
    }
    let ahead = config.inference.read_ahead_bytes as usize;
    let (near, far) = question.body.split_at(question.body.len().min(ahead));
    scanner.push(near).map_err(turned_away)?;
    let found = match scanner.found().cloned() {
        Some(found) => {
            // What passes by is read too.
            scanner.push(far).map_err(turned_away)?;
            found
        }
        None if far.is_empty() => scanner.finish().map_err(turned_away)?,
        None => {
            let why = format!("no model name within the first {ahead} bytes");
            return unread(config, 413, "beyond-read-ahead", why, scanner.operation());
        }
    };
    match found.unreadable {
        Some(why) => unread(config, 415, "unreadable", why.as_str().into(), found.operation),
        None => Ok(Some((found, None))),
    }
}

fn unread(
    config: &MeshConfigSpec,
    status: u16,
    reason: &str,
    why: String,
    operation: Operation,
) -> Result<Option<(ModelRequest, Option<String>)>, Decision> {
    match config.inference.beyond_read_ahead {
        BeyondReadAhead::Refuse => Err(refused(status, reason, why)),
        BeyondReadAhead::RouteWithoutModel => Ok(Some((ModelRequest::unnamed(operation), Some(why)))),
    }
}

/// The documents by name.
struct Mesh<'a> {
    config: MeshConfigSpec,
    services: BTreeMap<ObjectName, &'a ServiceSpec>,
    routes: BTreeMap<ObjectName, Route>,
    workloads: BTreeMap<ObjectName, (&'a BTreeMap<String, String>, &'a WorkloadSpec)>,
}

impl<'a> Mesh<'a> {
    fn of(documents: impl IntoIterator<Item = &'a Document>) -> Self {
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

    fn split(
        &self,
        rule: Name,
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
            rule,
            how,
            backends: backends
                .filter_map(|(at, probability)| Some((split.backends.get(at)?, probability)))
                .map(|(backend, probability)| self.possible(backend, probability, called, question, model))
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
            failure: None,
            endpoints: port
                .map(|port| self.endpoints(&backend.service, port))
                .unwrap_or_default(),
        };
        if port.is_none() {
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
    fn endpoints(&self, service: &ObjectName, port: &ServicePortSpec) -> Vec<Place> {
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
                address: SocketAddr::new(spec.address, there.listen),
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

fn key_name(key: Option<&Key>) -> String {
    match key {
        Some(Key::Header(name)) => format!("header {name}"),
        Some(Key::Caller) | None => "caller".into(),
    }
}

#[cfg(test)]
mod tests;
