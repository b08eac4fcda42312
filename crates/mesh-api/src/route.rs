//! A service's route in the form requests are decided with: names checked, headers parsed, weights summed.
//!
//! [`Route::new`] is the one way in, for documents and for the wire alike, so that nothing can be in force in a proxy
//! that the control plane would have refused.

use std::time::Duration;

use http::{HeaderName, Method};
use serde::Serialize;

use crate::document::{HeaderMatch, StringMatch};
use crate::identity::Identity;
use crate::inference::{ModelName, ModelVersion, Operation};
use crate::name::{Name, ObjectName};

mod build;
mod index;

pub use build::{MAX_BACKENDS, MAX_RETRIES, MAX_RULES, MAX_WEIGHT};
pub use index::Rules;

/// How a service's requests are matched and split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The service whose requests it routes.
    pub service: ObjectName,
    /// The ModelRoute it was made from.
    pub object: ObjectName,
    /// In order; the first that matches takes the request.
    pub rules: Rules,
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Unique in the route.
    pub name: Name,
    /// Any of these takes the request; none at all: every request.
    pub matches: Vec<Match>,
    /// Where it goes.
    pub split: Split,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How often a request that no server saw is tried again.
    pub retry_attempts: u8,
}

/// What a request must be: everything that is said must hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Match {
    /// The model it asks for.
    pub model: Option<StringMatch>,
    /// The version it asks for.
    pub version: Option<StringMatch>,
    /// What it asks of the model; none: anything.
    pub operations: Vec<Operation>,
    /// Its method.
    #[serde(serialize_with = "method_as_text")]
    pub method: Option<Method>,
    /// Its path, without the query.
    pub path: Option<StringMatch>,
    /// Its headers.
    #[serde(serialize_with = "headers_as_map")]
    pub headers: Vec<(HeaderName, HeaderMatch)>,
    /// Who sends it.
    pub caller: Option<CallerMatch>,
}

/// Which callers: one account, or a whole namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallerMatch {
    /// The caller's namespace.
    pub namespace: Name,
    /// The caller's account; none: any.
    pub account: Option<Name>,
}

impl CallerMatch {
    /// Whether the caller is one of these.
    pub fn matches(&self, caller: &Identity) -> bool {
        caller.namespace == self.namespace
            && self
                .account
                .as_ref()
                .is_none_or(|account| *account == caller.account)
    }
}

/// How a rule's requests are shared out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Split {
    /// What keeps a caller on one backend.
    pub by: Option<Key>,
    /// At least one, names unique, weights not all zero.
    pub backends: Vec<Backend>,
    /// The sum of all weights, at least 1.
    pub total: u64,
}

/// What keeps a caller on one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Key {
    /// The value of this header.
    #[serde(serialize_with = "header_as_text")]
    Header(HeaderName),
    /// The identity of the caller.
    Caller,
}

/// A weighted reference to a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backend {
    /// Unique in the split.
    pub name: Name,
    /// Whose endpoints serve it.
    pub service: ObjectName,
    /// On which of the service's ports; none: as called.
    pub port: Option<Name>,
    /// Its part of the split's total, 0 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// What the request asks for there instead.
    pub rewrite: Option<ModelRewrite>,
}

/// The model a request asks for instead. At least one of the two is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelRewrite {
    /// Another model.
    #[serde(serialize_with = "name_as_text")]
    pub name: Option<ModelName>,
    /// Another version.
    #[serde(serialize_with = "version_as_text")]
    pub version: Option<ModelVersion>,
}

/// How long things may take; none: as long as they want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// Until the response's head.
    pub first_byte: Option<Duration>,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
    /// Until the response's last byte.
    pub total: Option<Duration>,
}

impl Route {
    /// The services its backends name, each once.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.rules.iter().flat_map(|rule| &rule.split.backends)
    }
}

/// Whether where a request goes by these rules, or what it asks for there, depends on the model it names.
pub fn depend_on_model(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| {
        rule.matches
            .iter()
            .any(|wanted| wanted.model.is_some() || wanted.version.is_some())
            || rule
                .split
                .backends
                .iter()
                .any(|backend| backend.rewrite.is_some())
    })
}

fn method_as_text<S: serde::Serializer>(method: &Option<Method>, serializer: S) -> Result<S::Ok, S::Error> {
    method.as_ref().map(Method::as_str).serialize(serializer)
}

fn header_as_text<S: serde::Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn headers_as_map<S: serde::Serializer>(
    headers: &[(HeaderName, HeaderMatch)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name.as_str(), value)))
}

fn name_as_text<S: serde::Serializer>(name: &Option<ModelName>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_ref().map(ModelName::as_str).serialize(serializer)
}

fn version_as_text<S: serde::Serializer>(
    version: &Option<ModelVersion>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    version.as_ref().map(ModelVersion::as_str).serialize(serializer)
}
