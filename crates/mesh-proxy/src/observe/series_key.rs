//! What tells the series of requests apart: the path a request takes, borrowed for lookups and owned for the cache.

use std::hash::{Hash, Hasher};

use hashbrown::Equivalent;
use mesh_api::identity::Identity;
use mesh_api::inference::{ModelName, ModelRequest, ModelVersion, Operation};

use super::Direction;

/// The path a request takes, borrowed: what a lookup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesKeyRef<'a> {
    /// Which listener it came to.
    pub direction: Direction,
    /// The service called, as namespace/name; empty: none.
    pub service: &'a str,
    /// The rule that matched; empty: none.
    pub rule: &'a str,
    /// The backend the rule's split gave; empty: none.
    pub backend: &'a str,
    /// The model asked for; empty: none.
    pub model: &'a str,
    /// The model's version asked for; empty: none.
    pub version: &'a str,
    /// What is asked of the model.
    pub operation: Option<Operation>,
    /// Who calls, inbound.
    pub peer: Option<&'a Identity>,
}

impl<'a> SeriesKeyRef<'a> {
    /// The same path, for what a request asks of a model.
    #[must_use]
    pub fn asks(self, request: Option<&'a ModelRequest>) -> Self {
        Self {
            model: request
                .and_then(|it| it.model.as_ref())
                .map_or("", ModelName::as_str),
            version: request
                .and_then(|it| it.version.as_ref())
                .map_or("", ModelVersion::as_str),
            operation: request.map(|it| it.operation),
            ..self
        }
    }

    /// Of requests about which nothing is known yet.
    pub const fn unrouted(direction: Direction) -> Self {
        Self {
            direction,
            service: "",
            rule: "",
            backend: "",
            model: "",
            version: "",
            operation: None,
            peer: None,
        }
    }
}

/// The path a request takes, owned: what a worker's cache holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeriesKey {
    direction: Direction,
    service: Box<str>,
    rule: Box<str>,
    backend: Box<str>,
    model: Box<str>,
    version: Box<str>,
    operation: Option<Operation>,
    peer: Option<Identity>,
}

impl SeriesKey {
    pub(super) fn borrowed(&self) -> SeriesKeyRef<'_> {
        SeriesKeyRef {
            direction: self.direction,
            service: &self.service,
            rule: &self.rule,
            backend: &self.backend,
            model: &self.model,
            version: &self.version,
            operation: self.operation,
            peer: self.peer.as_ref(),
        }
    }
}

impl From<&SeriesKeyRef<'_>> for SeriesKey {
    fn from(key: &SeriesKeyRef<'_>) -> Self {
        Self {
            direction: key.direction,
            service: key.service.into(),
            rule: key.rule.into(),
            backend: key.backend.into(),
            model: key.model.into(),
            version: key.version.into(),
            operation: key.operation,
            peer: key.peer.cloned(),
        }
    }
}

impl Hash for SeriesKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<SeriesKey> for SeriesKeyRef<'_> {
    fn equivalent(&self, key: &SeriesKey) -> bool {
        *self == key.borrowed()
    }
}
