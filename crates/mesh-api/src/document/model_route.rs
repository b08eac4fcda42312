//! `ModelRoute`: how a service's requests are matched and split over backends.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::inference::Operation;
use crate::name::Name;

/// How requests to a Service are matched and split over backends. A Service has at most one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelRouteSpec {
    /// The Service of this namespace whose requests it routes
    pub service: Name,
    /// The rules; the first that matches takes the request. What no rule matches goes to the Service's own endpoints
    pub rules: Vec<RuleSpec>,
}

/// Which requests go where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// The rule's name, unique in the route; default: `rule-0`, `rule-1`, … by position
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The rule takes a request when any of these matches it; empty: it takes every request
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<MatchSpec>,
    /// Where it goes
    pub split: SplitSpec,
    /// What is changed of its headers, and of the answer's
    #[serde(default, skip_serializing_if = "HeadersSpec::is_empty")]
    pub headers: HeadersSpec,
    /// How long things may take
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
    /// When it is tried again
    #[serde(default)]
    pub retries: RetriesSpec,
}

/// What a request must be: everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MatchSpec {
    /// The model it asks for
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<StringMatch>,
    /// The version, or version label, it asks for. A request that asks for none matches no version
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<StringMatch>,
    /// What it asks of the model: any of these
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operation: Vec<Operation>,
    /// Its HTTP method
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Its path, without the query
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// The parameters of its query, by name: all of these. Of one that stands several times, the first counts
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, StringMatch>,
    /// Its headers, by name: all of these
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderMatch>,
    /// The Workload that sends it, by `namespace/serviceAccount` or, for a whole namespace, `namespace/*`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

/// A text that must be equal (`fraud`) or begin so (`{prefix: fraud-}`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a text, or {prefix: text}"
)]
pub enum StringMatch {
    /// Equal, to the letter
    Exact(String),
    /// Begins so
    Prefix {
        /// The beginning
        prefix: String,
    },
}

/// A path that must be equal (`/v1/models`), begin so (`{prefix: /v1/mod}`), end so (`{suffix: /infer}`), or be this one or
/// one below it (`{under: /v1}`: `/v1` and `/v1/models`, not `/v10`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a text, {prefix: text}, {suffix: text} or {under: text}"
)]
pub enum PathMatch {
    /// Equal, to the letter
    Exact(String),
    /// Begins so
    Prefix {
        /// The beginning
        prefix: String,
    },
    /// Ends so
    Suffix {
        /// The end
        suffix: String,
    },
    /// Is it, or goes on after it with a `/`
    Under {
        /// The path above
        under: String,
    },
}

/// A header that must be equal (`gold`), begin so (`{prefix: g}`) or be there at all (`{present: true}`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a text, {prefix: text} or {present: true}"
)]
pub enum HeaderMatch {
    /// Equal, to the letter
    Exact(String),
    /// Begins so
    Prefix {
        /// The beginning
        prefix: String,
    },
    /// There (`true`) or not there (`false`)
    Present {
        /// Whether it must be there
        present: bool,
    },
}

/// How a rule's requests are shared out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SplitSpec {
    /// What keeps a caller on one backend; default: each request is drawn anew
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<SplitBy>,
    /// Where requests go, by weight
    pub backends: Vec<BackendSpec>,
}

/// What keeps a caller on one backend: the same key goes to the same backend from every proxy, and raising a
/// backend's weight moves no key away from it. A request without the key is drawn anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SplitBy {
    /// The value of this header
    Header(String),
    /// The identity of the calling workload
    Caller {},
}

/// A weighted reference to a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendSpec {
    /// The backend's name, unique in the split, such as `stable` or `canary`; `meshctl split` speaks of it by this name
    pub name: Name,
    /// The Service of this namespace, or `namespace/name`, whose endpoints serve it
    pub service: String,
    /// The Service's port, by name; default: the port of the same name as the one called, or its only port
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Name>,
    /// Its part of the requests, 0 to 1000000, relative to the sum of all weights; default: 1
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000000))]
    pub weight: u32,
    /// What the request asks for on this backend, written into it on the way
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRewriteSpec>,
    /// What is changed of headers on this backend, after what the rule changes
    #[serde(default, skip_serializing_if = "HeadersSpec::is_empty")]
    pub headers: HeadersSpec,
}

/// What is changed of headers on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeadersSpec {
    /// The request's
    #[serde(skip_serializing_if = "HeaderEditsSpec::is_empty")]
    pub request: HeaderEditsSpec,
    /// The response's
    #[serde(skip_serializing_if = "HeaderEditsSpec::is_empty")]
    pub response: HeaderEditsSpec,
}

/// Headers that are removed, set or added, in this order. What belongs to the connection, the body's framing or the mesh
/// itself can't be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderEditsSpec {
    /// Headers by name with the one value that they have from then on
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Headers by name with a value that they have beside those that are there
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    /// Headers that are gone, by name
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl HeadersSpec {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl HeaderEditsSpec {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn one() -> u32 {
    1
}

/// The model a backend is asked for. The response passes untouched: the client sees what served it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ModelRewriteSpec {
    /// Another model name
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Another version
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// How long things may take. There is no timeout for a request by default: a generation may run for an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimeoutsSpec {
    /// From the end of the request's head to the response's head; default: none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// Without a byte in either direction; default: 1h
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// From the request's head to the response's last byte; default: none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Duration>,
    /// As `total`, of each try by itself; default: none
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Duration>,
}

/// When a request is tried again: only where the server provably did not see it (connection refused or timed out,
/// HTTP/2 stream refused, GOAWAY below the stream), each time on another endpoint where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetriesSpec {
    /// How often it is tried again at most, 0 to 10; default: 2
    #[schemars(range(min = 0, max = 10))]
    pub attempts: u8,
}

impl Default for RetriesSpec {
    fn default() -> Self {
        Self { attempts: 2 }
    }
}
