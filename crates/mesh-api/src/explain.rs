//! Which backend answers a request, and why: the proxy's decision, taken from documents, with its reasons.
//!
//! Recognising, matching, splitting and rewriting are the functions that proxies call; only the order in which they
//! are asked stands here a second time, and a test that sends requests through a proxy keeps the two in step.

mod answer;
mod mesh;

use self::mesh::Mesh;
use crate::document::{BeyondReadAhead, Document, MeshConfigSpec};
use crate::inference::{
    AppProtocol, Head, ModelName, ModelRequest, ModelVersion, Operation, Recognition, Refusal, recognise,
};
use crate::matching;
use crate::route::{Action, Asked, Redirect, Route, Scheme, depend_on_model};

pub use self::answer::{
    Considered, Decision, Explanation, How, Place, Possible, Question, Recognised, Unanswerable,
};

/// Explains what happens to a request under these documents and routes, which stand for those of the documents that are about
/// the same services.
///
/// # Errors
/// When the service or its port is not there.
pub fn explain<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    routes: impl IntoIterator<Item = Route>,
    question: &Question<'_>,
) -> Result<Explanation, Unanswerable> {
    let mut mesh = Mesh::of(documents);
    let routes = routes.into_iter();
    mesh.routes
        .extend(routes.map(|route| (route.service.clone(), route)));
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
        route: route.map(|route| route.name().clone()),
        rules: Vec::new(),
        decision: Decision::Own {
            endpoints: Vec::new(),
        },
    };
    let rules = route.map(|route| route.rules.of_port(&port.name));
    let rules = &rules.unwrap_or_default();
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
        path: question.path(),
        query: question.query(),
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
            origin: rule.origin.clone(),
            takes: matching::takes(rule, &request),
            mismatches: rule
                .matches
                .iter()
                .map(|it| matching::mismatch(it, &request))
                .collect(),
        })
        .collect();
    explanation.decision = match taken.and_then(|taken| rules.get(taken)) {
        Some(rule) => match &rule.action {
            Action::Split(split) => mesh.split(rule, split, port, question, model),
            Action::Redirect(redirect) => Decision::Redirect {
                rule: rule.name.clone(),
                status: redirect.status.as_u16(),
                location: location(redirect, port.port, question),
            },
            Action::Refuse(why) => refused(why.reason.status(), why.reason.as_str(), &*why.detail),
        },
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

/// Where a redirect sends the request.
fn location(redirect: &Redirect, port: u16, question: &Question<'_>) -> String {
    let host = question
        .headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok());
    let named = format!("{}.{}", question.service.name, question.service.namespace);
    let authority = host.unwrap_or(&named).parse().ok();
    redirect.location(&Asked {
        scheme: Scheme::Http,
        authority: authority.as_ref(),
        port,
        path: question.path(),
        query: question.query(),
    })
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

#[cfg(test)]
mod tests;
