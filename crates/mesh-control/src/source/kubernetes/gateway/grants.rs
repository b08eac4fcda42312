//! Which routes may lead to Services of other namespaces.

use std::collections::BTreeMap;

use mesh_api::name::{Name, ObjectName};

use super::parsed::Parsed;
use super::types::{GROUP, GrantFrom, GrantTo, ReferenceGrant};

/// That a namespace lets routes of others lead to its Services: a ReferenceGrant, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The namespace, which is that of the Services too.
    pub namespace: Name,
    /// Its name.
    pub name: Box<str>,
    from: Vec<GrantFrom>,
    to: Vec<GrantTo>,
}

impl Grant {
    /// Reads a ReferenceGrant; none: it has no name, or namespace, that could be one.
    pub fn new(object: ReferenceGrant) -> Option<Self> {
        Some(Self {
            namespace: object.metadata.namespace?.parse().ok()?,
            name: object.metadata.name?.into(),
            from: object.spec.from,
            to: object.spec.to,
        })
    }

    fn permits(&self, route: &Parsed, service: &ObjectName) -> bool {
        let from = |it: &GrantFrom| {
            it.group == GROUP
                && it.kind == route.key.kind.as_str()
                && it.namespace == route.key.namespace.as_str()
        };
        let to = |it: &GrantTo| {
            let name = it.name.as_deref();
            it.group.is_empty()
                && it.kind == "Service"
                && name.is_none_or(|name| name == service.name.as_str())
        };
        self.namespace == service.namespace && self.from.iter().any(from) && self.to.iter().any(to)
    }
}

/// All grants, by their namespaces.
#[derive(Debug)]
pub(super) struct Grants<'a>(BTreeMap<&'a Name, Vec<&'a Grant>>);

impl<'a> Grants<'a> {
    pub(super) fn new(grants: impl IntoIterator<Item = &'a Grant>) -> Self {
        let mut by_namespace: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for grant in grants {
            by_namespace.entry(&grant.namespace).or_default().push(grant);
        }
        Self(by_namespace)
    }

    /// Whether a route may lead there. What is for Services of one other namespace alone may lead back to that: its requests
    /// were going there.
    pub(super) fn permit(&self, route: &Parsed, service: &ObjectName) -> bool {
        let namespace = &service.namespace;
        let grants = || self.0.get(namespace).into_iter().flatten();
        route.key.namespace == *namespace
            || route.is_for_none_but(namespace)
            || grants().any(|grant| grant.permits(route, service))
    }
}
