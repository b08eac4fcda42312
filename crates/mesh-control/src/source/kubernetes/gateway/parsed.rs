//! A route in the form it is compiled from: read once, when it changes, whatever becomes of the Services it names.

use kube::api::ObjectMeta;
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::{Filters, Match, Origin, Redirect, Timeouts};

use super::precedence::Rank;
use super::types::{BackendRef, GrpcRoute, HttpRoute, ParentRef, ParentStatus};
use super::{grpc_route, http_route};

/// Which route, in the order of `namespace/name`, by which routes of one age come before each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: Name,
    /// Its name, which may be longer than names of the mesh are, and have dots.
    pub name: Box<str>,
    /// Its kind.
    pub kind: Kind,
}

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `GRPCRoute`, which comes before the other one where both are for one port (GEP-1294, "Route types").
    Grpc,
    /// `HTTPRoute`
    Http,
}

impl Kind {
    /// The kind as objects write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "GRPCRoute",
            Self::Http => "HTTPRoute",
        }
    }
}

/// A route, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// Which one.
    pub key: Key,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// Its `metadata.resourceVersion`.
    pub version: Box<str>,
    /// Since when it is there, in seconds since 1970.
    pub created: i64,
    /// Its parents that are Services.
    pub parents: Vec<Parent>,
    /// What its status says of its parents, by all controllers.
    pub said: Vec<ParentStatus>,
    /// What it says; or why it can't be in force: with the field, and what is wrong with it.
    pub(super) rules: Result<Vec<RuleParts>, String>,
}

/// A Service that a route is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// As the route says it.
    pub said: ParentRef,
    /// The Service; none: its name can't be one.
    pub service: Option<ObjectName>,
}

/// A rule of a route.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RuleParts {
    /// Its name or, without one, its position.
    pub(super) label: String,
    /// What it asks for, each by itself, with how much that is; never empty.
    pub(super) matches: Vec<(Rank, Match)>,
    /// What is changed on the way.
    pub(super) filters: PathFilters,
    /// Where the client is sent, if it is.
    pub(super) redirect: Option<Redirect>,
    /// Where requests go, with what is changed on the way there.
    pub(super) backends: Vec<(BackendRef, PathFilters)>,
    pub(super) timeouts: Timeouts,
}

/// Filters whose path may hang on what the match asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PathFilters {
    pub(super) filters: Filters,
    /// What the part of the path becomes that the match asked for.
    pub(super) replace_prefix: Option<String>,
}

impl Parsed {
    /// Reads an HTTPRoute; none: it has no name, or namespace, that could be one.
    pub fn http(route: &HttpRoute) -> Option<Self> {
        let rules = http_route::rules(&route.spec.rules);
        Self::new(
            Kind::Http,
            &route.metadata,
            &route.spec.parent_refs,
            rules,
            &route.status.parents,
        )
    }

    /// Reads a GRPCRoute; none: it has no name, or namespace, that could be one.
    pub fn grpc(route: &GrpcRoute) -> Option<Self> {
        let rules = grpc_route::rules(&route.spec.rules);
        Self::new(
            Kind::Grpc,
            &route.metadata,
            &route.spec.parent_refs,
            rules,
            &route.status.parents,
        )
    }

    fn new(
        kind: Kind,
        metadata: &ObjectMeta,
        parents: &[ParentRef],
        rules: Result<Vec<RuleParts>, String>,
        said: &[ParentStatus],
    ) -> Option<Self> {
        let namespace: Name = metadata.namespace.as_deref()?.parse().ok()?;
        let service = |parent: &ParentRef| {
            let of = match &parent.namespace {
                Some(namespace) => namespace.parse().ok()?,
                None => namespace.clone(),
            };
            Some(ObjectName::new(of, parent.name.parse().ok()?))
        };
        let parents = parents
            .iter()
            .filter(|parent| is_service(parent))
            .map(|parent| Parent {
                said: parent.clone(),
                service: service(parent),
            });
        Some(Self {
            parents: parents.collect(),
            key: Key {
                namespace,
                name: metadata.name.as_deref()?.into(),
                kind,
            },
            generation: metadata.generation,
            version: metadata.resource_version.as_deref().unwrap_or_default().into(),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |time| time.0.as_second()),
            said: said.to_vec(),
            rules,
        })
    }

    /// Whether the same rules come of it as of this one of the same name, whatever their status says.
    pub fn compiles_as(&self, other: &Self) -> bool {
        self.created == other.created && self.parents == other.parents && self.rules == other.rules
    }

    /// Whether all its parents that are Services are in this namespace, and there are some.
    pub(super) fn is_for_none_but(&self, namespace: &Name) -> bool {
        let mut services = self.parents.iter().map(|parent| parent.service.as_ref());
        !self.parents.is_empty()
            && services.all(|service| service.is_some_and(|service| service.namespace == *namespace))
    }

    /// As messages name it.
    pub fn origin(&self) -> Origin {
        let Key {
            namespace,
            name,
            kind,
        } = &self.key;
        Origin::new(kind.as_str(), namespace.as_str(), name)
    }
}

/// Parents of other kinds, such as Gateways, are for other controllers. What a parent does not say is `Gateway`.
fn is_service(parent: &ParentRef) -> bool {
    parent.kind.as_deref() == Some("Service") && parent.group.as_deref() == Some("")
}
