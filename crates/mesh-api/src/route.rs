//! A service's route in the form requests are decided with: names checked, headers parsed, weights summed.
//!
//! [`Route::new`] is the one way in, for documents and for the wire alike, so that nothing can be in force in a proxy
//! that the control plane would have refused.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::Serialize;

use crate::document::{HeaderMatch, PathMatch, StringMatch};
use crate::identity::Identity;
use crate::inference::{ModelName, ModelVersion, Operation};
use crate::name::{Name, ObjectName};

mod build;
mod filters;
mod index;
mod redirect;

pub use build::{MAX_BACKENDS, MAX_RETRIES, MAX_RULES, MAX_WEIGHT};
pub use filters::{Filters, HeaderEdits, Host, PathRewrite, untouchable};
pub use index::Rules;
pub use redirect::{Asked, REDIRECT_STATUSES, Redirect, Scheme};

pub(crate) use filters::text as header_text;

/// How a service's requests are matched and split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The service whose requests it routes.
    pub service: ObjectName,
    /// The ModelRoute it was made from; none: there is none, and its rules have other origins.
    pub object: Option<ObjectName>,
    /// In order; the first that matches takes the request.
    pub rules: Rules,
}

/// The object that a rule was made from, as messages name it: `ModelRoute ml/fraud`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Origin(Arc<str>);

impl Origin {
    /// A ModelRoute.
    pub fn model_route(object: &ObjectName) -> Self {
        Self::new("ModelRoute", object.namespace.as_str(), object.name.as_str())
    }

    /// An object of some kind.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self(format!("{kind} {namespace}/{name}").into())
    }

    /// As a message names it. Clones share the text.
    pub fn label(&self) -> &Arc<str> {
        &self.0
    }
}

impl From<String> for Origin {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Unique in the route.
    pub name: Name,
    /// What it was made from.
    pub origin: Origin,
    /// Which requests it can take.
    pub scope: Scope,
    /// Any of these takes the request; none at all: every request.
    pub matches: Vec<Match>,
    /// What is changed on the way; none: nothing.
    pub filters: Option<Box<Filters>>,
    /// What comes of it.
    pub action: Action,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How often a request that no server saw is tried again.
    pub retry_attempts: u8,
}

impl Rule {
    /// How its requests are shared out; none: they are answered without asking any server.
    pub fn split(&self) -> Option<&Split> {
        match &self.action {
            Action::Split(split) => Some(split),
            Action::Redirect(_) | Action::Refuse(_) => None,
        }
    }

    /// The sum of its backends' weights; 0: it has none.
    pub fn total(&self) -> u64 {
        self.split().map_or(0, |split| split.total)
    }

    /// The backends its requests go to.
    pub fn backends(&self) -> &[Backend] {
        self.split().map_or(&[], |split| &split.backends)
    }
}

/// Which of a service's requests a rule can take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// Those to this port; none: to any.
    pub port: Option<Name>,
    /// Only those that are addressed to the service: none that are addressed to one of its endpoints.
    pub service_alone: bool,
}

/// What comes of a rule's requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// They go to backends.
    Split(Split),
    /// They are answered with where to go instead.
    Redirect(Box<Redirect>),
    /// They are refused.
    Refuse(Refused),
}

/// An answer of the mesh's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Why, in one word.
    pub reason: Unroutable,
    /// Why, for people.
    pub detail: Arc<str>,
}

/// Why a rule refuses its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unroutable {
    /// No other rule takes them, and there is nothing else for them to go to.
    NoRule,
    /// It has no backend that could take one.
    NoBackend,
}

impl Unroutable {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::NoRule, Self::NoBackend];

    /// The stable word for headers, labels, logs and the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::NoBackend => "no-backend",
        }
    }

    /// The status of the answer (Gateway API, HTTPRouteRule: 404 where no match is met, 500 where there is no backend).
    pub const fn status(self) -> u16 {
        match self {
            Self::NoRule => 404,
            Self::NoBackend => 500,
        }
    }
}

/// What a request must be: everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
    pub path: Option<PathMatch>,
    /// The parameters of its query.
    pub query: Vec<(Box<str>, StringMatch)>,
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
    /// What is changed on the way there, after what the rule changes; none: nothing.
    pub filters: Option<Box<Filters>>,
    /// Why it can't be called, whatever the service: its part of the requests is refused, for this reason.
    pub invalid: Option<Arc<str>>,
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
    /// As `total`, of each try by itself.
    pub per_try: Option<Duration>,
}

impl Route {
    /// What it is called: as its ModelRoute or, without one, as the service.
    pub fn name(&self) -> &ObjectName {
        self.object.as_ref().unwrap_or(&self.service)
    }

    /// All backends of its rules.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.rules.iter().flat_map(Rule::backends)
    }
}

/// Whether where a request goes by these rules, or what it asks for there, depends on the model it names.
pub fn depend_on_model(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| {
        rule.matches
            .iter()
            .any(|wanted| wanted.model.is_some() || wanted.version.is_some())
            || rule.backends().iter().any(|backend| backend.rewrite.is_some())
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
