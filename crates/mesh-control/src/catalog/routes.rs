//! Routes of the Gateway API: compiled together when one of them, a ReferenceGrant or a Service changes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use mesh_api::name::{Name, ObjectName};
use mesh_api::route::{MAX_RULES, Route};

use super::Catalog;
use super::object::{Key, Keyed, Service};
use crate::source::kubernetes::gateway::{self, Compiled, Grant, Judgement, Parsed, Verdict};

/// The routes, what they may refer to, and what they come to.
#[derive(Debug, Default)]
pub(super) struct Routes {
    parsed: BTreeMap<(gateway::Kind, Key), Parsed>,
    grants: BTreeMap<Key, Grant>,
    compiled: Compiled,
}

impl Keyed for Parsed {
    fn key(&self) -> Key {
        Key {
            namespace: self.key.namespace.clone(),
            name: (&*self.key.name).into(),
        }
    }
}

impl Keyed for Grant {
    fn key(&self) -> Key {
        Key {
            namespace: self.namespace.clone(),
            name: (&*self.name).into(),
        }
    }
}

impl Routes {
    pub(super) fn is_empty(&self) -> bool {
        self.parsed.is_empty()
    }

    pub(super) fn keys(&self, kind: gateway::Kind) -> BTreeSet<Key> {
        let all = self.parsed.keys().filter(|(there, _)| *there == kind);
        all.map(|(_, key)| key.clone()).collect()
    }

    /// Whether it says something else than before; what others say on its status is nothing to what it says.
    pub(super) fn put(&mut self, route: Parsed) -> bool {
        let at = (route.key.kind, Keyed::key(&route));
        let before = self.parsed.get(&at);
        let other = before.is_none_or(|before| !before.compiles_as(&route));
        self.parsed.insert(at, route);
        other
    }

    /// Whether there was one.
    pub(super) fn delete(&mut self, kind: gateway::Kind, key: &Key) -> bool {
        self.parsed.remove(&(kind, key.clone())).is_some()
    }

    pub(super) fn grants(&self) -> BTreeSet<Key> {
        self.grants.keys().cloned().collect()
    }

    /// Whether it says something else than before.
    pub(super) fn put_grant(&mut self, grant: Grant) -> bool {
        let at = grant.key();
        let other = self.grants.get(&at) != Some(&grant);
        self.grants.insert(at, grant);
        other
    }

    /// Whether there was one.
    pub(super) fn delete_grant(&mut self, key: &Key) -> bool {
        self.grants.remove(key).is_some()
    }
}

/// Services as the routes see them.
struct Known<'a>(&'a BTreeMap<ObjectName, Service>);

impl gateway::Services for Known<'_> {
    fn ports(&self, service: &ObjectName) -> Option<Vec<(u16, Name)>> {
        let ports = self.0.get(service)?.ports.iter();
        Some(ports.map(|port| (port.number, port.name.clone())).collect())
    }

    fn is_routable(&self, service: &ObjectName) -> bool {
        let service = self.0.get(service);
        service.is_some_and(|service| !service.addresses.is_empty())
    }
}

impl Catalog {
    /// Compiles the routes anew. The Services whose rules are others now.
    pub(super) fn compile_routes(&mut self) -> Vec<ObjectName> {
        let (routes, grants) = (self.routes.parsed.values(), self.routes.grants.values());
        let compiled = gateway::compile(routes, &Known(&self.services), grants);
        let before = mem::replace(&mut self.routes.compiled, compiled);
        let after = &self.routes.compiled;
        let names: BTreeSet<_> = before.rules.keys().chain(after.rules.keys()).collect();
        let changed = names
            .into_iter()
            .filter(|name| before.rules.get(*name) != after.rules.get(*name));
        changed.cloned().collect()
    }

    /// How a Service's requests are routed: by its ModelRoute first, and then by the rules of routes of the Gateway API,
    /// unless these are too many together.
    pub(super) fn route(&self, service: &ObjectName) -> Option<Route> {
        let own = self.documents.route(service).cloned();
        match self.routes.compiled.rules.get(service) {
            Some(rules) if self.too_many(service).is_none() => {
                gateway::combine(service, own.clone(), rules.clone()).unwrap_or(own)
            }
            _ => own,
        }
    }

    /// How many rules a Service has, if they are too many.
    fn too_many(&self, service: &ObjectName) -> Option<usize> {
        let own = self.documents.route(service).map_or(0, |route| route.rules.len());
        let rules = self.routes.compiled.rules.get(service).map_or(0, Vec::len);
        Some(own + rules).filter(|all| *all > MAX_RULES)
    }

    /// Each route of the Gateway API, with what is to be said of it for each of its parents that is a Service.
    pub(crate) fn route_verdicts(&self) -> impl Iterator<Item = (&Parsed, Cow<'_, [Verdict]>)> {
        self.routes.parsed.values().map(move |route| {
            let verdicts = self.routes.compiled.verdicts.get(&route.key);
            let mut verdicts = Cow::from(verdicts.map_or(&[][..], Vec::as_slice));
            for (at, parent) in route.parents.iter().enumerate() {
                let Some(service) = &parent.service else { continue };
                let Some(rules) = self.too_many(service) else {
                    continue;
                };
                if let Some(verdict) = verdicts.to_mut().get_mut(at).filter(|it| it.accepted.holds) {
                    let why = format!(
                        "all routes of Service {service} come to {rules} rules, more than {MAX_RULES}"
                    );
                    verdict.accepted = Judgement::bad("UnsupportedValue", why);
                }
            }
            (route, verdicts)
        })
    }
}
