//! Where rules send requests: the Services they name, as far as these are there and may be named.

use std::sync::Arc;

use mesh_api::name::ObjectName;
use mesh_api::route::Backend;

use super::Services;
use super::grants::Grants;
use super::names::Names;
use super::parsed::{Parsed, PathFilters, RuleParts};
use super::status::Judgement;
use super::types::BackendRef;

/// A route with its backends.
#[derive(Debug)]
pub(super) struct Resolved<'a> {
    pub(super) route: &'a Parsed,
    /// Its rules; none when it can't be in force.
    pub(super) rules: Vec<ResolvedRule<'a>>,
    /// Whether all that it names is there.
    pub(super) judgement: Judgement,
}

#[derive(Debug)]
pub(super) struct ResolvedRule<'a> {
    pub(super) rule: &'a RuleParts,
    /// Without filters.
    pub(super) backends: Vec<(Backend, &'a PathFilters)>,
}

/// Why a reference leads nowhere.
struct Broken {
    reason: &'static str,
    why: String,
}

/// Resolves the backends of a route.
pub(super) fn resolve<'a>(route: &'a Parsed, services: &impl Services, grants: &Grants<'_>) -> Resolved<'a> {
    let mut broken: Vec<Broken> = Vec::new();
    let mut rules = Vec::new();
    for rule in route.rules.iter().flatten() {
        let mut names = Names::default();
        let backends = rule.backends.iter().map(|(said, filters)| {
            let found = reference(route, said, services, grants);
            let backend = Backend {
                name: names.unique(&said.name),
                service: found.service,
                port: found.port,
                weight: said.weight.unwrap_or(1).min(mesh_api::route::MAX_WEIGHT),
                rewrite: None,
                filters: None,
                invalid: found.broken.as_ref().map(|broken| Arc::from(broken.why.as_str())),
            };
            broken.extend(found.broken);
            (backend, filters)
        });
        let backends = backends.collect();
        rules.push(ResolvedRule { rule, backends });
    }
    let judgement = match broken.first() {
        None => Judgement::good("ResolvedRefs", "all backends are there".into()),
        Some(first) => {
            let mut all: Vec<&str> = broken.iter().map(|it| it.why.as_str()).collect();
            all.dedup();
            all.truncate(8);
            Judgement::bad(first.reason, all.join("; "))
        }
    };
    Resolved {
        route,
        rules,
        judgement,
    }
}

struct Found {
    service: ObjectName,
    port: Option<mesh_api::name::Name>,
    broken: Option<Broken>,
}

fn reference(route: &Parsed, said: &BackendRef, services: &impl Services, grants: &Grants<'_>) -> Found {
    let namespace = match said.namespace.as_deref().map(str::parse) {
        Some(Ok(namespace)) => Ok(namespace),
        Some(Err(_)) => Err("its namespace is none"),
        None => Ok(route.key.namespace.clone()),
    };
    let name = said
        .name
        .parse()
        .map_err(|_| "its name can't be one of a Service");
    let broken = |service: ObjectName, reason, why: String| Found {
        service,
        port: None,
        broken: Some(Broken { reason, why }),
    };
    let (kind, group) = (
        said.kind.as_deref().unwrap_or("Service"),
        said.group.as_deref().unwrap_or(""),
    );
    let service = match (namespace, name) {
        (Ok(namespace), Ok(name)) => ObjectName::new(namespace, name),
        (Err(why), _) | (_, Err(why)) => {
            let nowhere = ObjectName::new(route.key.namespace.clone(), Names::default().unique(&said.name));
            let why = format!("{kind} {:?} is not there: {why}", said.name);
            return broken(
                nowhere,
                if kind == "Service" {
                    "BackendNotFound"
                } else {
                    "InvalidKind"
                },
                why,
            );
        }
    };
    if kind != "Service" || !group.is_empty() {
        let kind = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind} of {group}")
        };
        let why = format!("{kind} {service} is no kind of backend: use a Service");
        return broken(service, "InvalidKind", why);
    }
    if !grants.permit(route, &service) {
        let why = format!(
            "no ReferenceGrant lets {} refer to Service {service}",
            route.origin()
        );
        return broken(service, "RefNotPermitted", why);
    }
    let (Some(ports), Some(number)) = (services.ports(&service), said.port) else {
        let why = match said.port {
            Some(_) => format!("there is no Service {service}"),
            None => format!("the reference to Service {service} says no port"),
        };
        return broken(service, "BackendNotFound", why);
    };
    match ports.into_iter().find(|(port, _)| *port == number) {
        Some((_, port)) => Found {
            service,
            port: Some(port),
            broken: None,
        },
        None => {
            let why = format!("Service {service} has no port {number}");
            broken(service, "BackendNotFound", why)
        }
    }
}
