//! A service's route in the form requests are decided with: names checked, headers parsed, weights summed.
//!
//! [`Route::new`] is the one way in, for documents and for the wire alike, so that nothing can be in force in a proxy
//! that the control plane would have refused.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;

use crate::document::{
    BackendSpec, HeaderMatch, MatchSpec, ModelRewriteSpec, ModelRouteSpec, RuleSpec, SplitBy, SplitSpec,
    StringMatch,
};
use crate::identity::Identity;
use crate::inference::{ModelName, ModelVersion, Operation};
use crate::name::{Name, ObjectName};
use crate::validate::Problem;

/// The most rules of a route.
pub const MAX_RULES: usize = 10_000;
/// The most backends of a split.
pub const MAX_BACKENDS: usize = 100;
/// The largest weight of a backend.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// The most retries of a rule.
pub const MAX_RETRIES: u8 = 10;

/// How a service's requests are matched and split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The service whose requests it routes.
    pub service: ObjectName,
    /// The ModelRoute it was made from.
    pub object: ObjectName,
    /// In order; the first that matches takes the request.
    pub rules: Vec<Rule>,
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
    /// Makes the route of a service from what a document or the wire says.
    ///
    /// # Errors
    /// All that is wrong with it, each with its field.
    pub fn new(object: &ObjectName, spec: &ModelRouteSpec) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if spec.rules.len() > MAX_RULES {
            problems.push(Problem::new(
                "spec.rules",
                format!("{} rules are more than {MAX_RULES}", spec.rules.len()),
            ));
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(spec.rules.len().min(MAX_RULES));
        for (index, rule) in spec.rules.iter().take(MAX_RULES).enumerate() {
            let at = format!("spec.rules[{index}]");
            match Rule::new(&at, index, &object.namespace, rule, &mut problems) {
                Some(rule) if rules.iter().any(|other| other.name == rule.name) => {
                    problems.push(Problem::new(
                        format!("{at}.name"),
                        format!("{:?} names an earlier rule too", rule.name),
                    ));
                }
                Some(rule) => rules.push(rule),
                None => {}
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let service = ObjectName::new(object.namespace.clone(), spec.service.clone());
        Ok(Self {
            service,
            object: object.clone(),
            rules,
        })
    }

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

impl Rule {
    fn new(
        at: &str,
        index: usize,
        namespace: &Name,
        spec: &RuleSpec,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let matches: Vec<_> = spec
            .matches
            .iter()
            .enumerate()
            .map(|(nth, spec)| Match::new(&format!("{at}.matches[{nth}]"), spec, problems))
            .collect();
        let split = Split::new(&format!("{at}.split"), namespace, &spec.split, problems);
        if spec.retries.attempts > MAX_RETRIES {
            let reason = format!("{} is more than {MAX_RETRIES}", spec.retries.attempts);
            problems.push(Problem::new(format!("{at}.retries.attempts"), reason));
        }
        let timeouts = Timeouts {
            first_byte: positive(
                &format!("{at}.timeouts.firstByte"),
                spec.timeouts.first_byte,
                problems,
            ),
            idle: positive(&format!("{at}.timeouts.idle"), spec.timeouts.idle, problems),
            total: positive(&format!("{at}.timeouts.total"), spec.timeouts.total, problems),
        };
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => format!("rule-{index}").parse().ok()?,
        };
        Some(Self {
            name,
            matches: matches.into_iter().collect::<Option<_>>()?,
            split: split?,
            timeouts,
            retry_attempts: spec.retries.attempts,
        })
    }
}

fn positive(
    at: &str,
    duration: Option<crate::duration::Duration>,
    problems: &mut Vec<Problem>,
) -> Option<Duration> {
    let duration = duration?.get();
    if duration.is_zero() {
        problems.push(Problem::new(
            at,
            "0s would fail every request: leave it out for no timeout",
        ));
    }
    Some(duration)
}

impl Match {
    fn new(at: &str, spec: &MatchSpec, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        for (field, text) in [("model", &spec.model), ("version", &spec.version)] {
            if matches!(text, Some(StringMatch::Exact(text)) if text.is_empty()) {
                problems.push(Problem::new(
                    format!("{at}.{field}"),
                    "an empty text matches no request: leave it out",
                ));
            }
        }
        if let Some(StringMatch::Exact(path) | StringMatch::Prefix { prefix: path }) = &spec.path
            && !path.starts_with('/')
        {
            problems.push(Problem::new(
                format!("{at}.path"),
                format!("{path:?} must begin with /"),
            ));
        }
        let method = spec.method.as_ref().and_then(|method| {
            let parsed = Method::from_bytes(method.as_bytes())
                .ok()
                .filter(|_| *method == method.to_ascii_uppercase());
            if parsed.is_none() {
                let reason = format!("{method:?} is not a method: write it in upper case, such as POST");
                problems.push(Problem::new(format!("{at}.method"), reason));
            }
            parsed
        });
        let mut headers = Vec::with_capacity(spec.headers.len());
        for (name, value) in &spec.headers {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(parsed) if !headers.iter().any(|(other, _)| *other == parsed) => {
                    headers.push((parsed, value.clone()));
                }
                Ok(_) => problems.push(Problem::new(
                    format!("{at}.headers"),
                    format!("{name:?} stands twice"),
                )),
                Err(_) => problems.push(Problem::new(
                    format!("{at}.headers"),
                    format!("{name:?} is not a header name"),
                )),
            }
            if let HeaderMatch::Exact(text) | HeaderMatch::Prefix { prefix: text } = value
                && HeaderValue::from_str(text).is_err()
            {
                problems.push(Problem::new(
                    format!("{at}.headers.{name}"),
                    "no header can have this value",
                ));
            }
        }
        let caller = spec.caller.as_ref().and_then(|caller| {
            let parsed = parse_caller(caller);
            if parsed.is_none() {
                let reason =
                    format!("{caller:?} is not a caller: write namespace/serviceAccount or namespace/*");
                problems.push(Problem::new(format!("{at}.caller"), reason));
            }
            parsed
        });
        (problems.len() == before).then(|| Self {
            model: spec.model.clone(),
            version: spec.version.clone(),
            operations: spec.operation.clone(),
            method,
            path: spec.path.clone(),
            headers,
            caller,
        })
    }
}

fn parse_caller(text: &str) -> Option<CallerMatch> {
    let (namespace, account) = text.split_once('/')?;
    let account = if account == "*" {
        None
    } else {
        Some(account.parse().ok()?)
    };
    Some(CallerMatch {
        namespace: namespace.parse().ok()?,
        account,
    })
}

impl Split {
    fn new(at: &str, namespace: &Name, spec: &SplitSpec, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let count = spec.backends.len();
        if count == 0 || count > MAX_BACKENDS {
            let reason = format!("{count} backends: write 1 to {MAX_BACKENDS}");
            problems.push(Problem::new(format!("{at}.backends"), reason));
        }
        let by = spec.by.as_ref().and_then(|by| match by {
            SplitBy::Caller {} => Some(Key::Caller),
            SplitBy::Header(name) => {
                let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
                if parsed.is_none() {
                    problems.push(Problem::new(
                        format!("{at}.by.header"),
                        format!("{name:?} is not a header name"),
                    ));
                }
                parsed.map(Key::Header)
            }
        });
        let mut backends: Vec<Backend> = Vec::with_capacity(count.min(MAX_BACKENDS));
        for (index, spec) in spec.backends.iter().take(MAX_BACKENDS).enumerate() {
            let at = format!("{at}.backends[{index}]");
            if backends.iter().any(|other| other.name == spec.name) {
                problems.push(Problem::new(
                    format!("{at}.name"),
                    format!("{:?} names an earlier backend too", spec.name),
                ));
            }
            backends.extend(Backend::new(&at, namespace, spec, problems));
        }
        let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        if total == 0 && problems.len() == before {
            problems.push(Problem::new(
                format!("{at}.backends"),
                "all weights are 0: no backend would take a request",
            ));
        }
        (problems.len() == before).then_some(Self { by, backends, total })
    }
}

impl Backend {
    fn new(at: &str, namespace: &Name, spec: &BackendSpec, problems: &mut Vec<Problem>) -> Option<Self> {
        if spec.weight > MAX_WEIGHT {
            let reason = format!("{} is more than {MAX_WEIGHT}", spec.weight);
            problems.push(Problem::new(format!("{at}.weight"), reason));
        }
        let service = ObjectName::parse_in(&spec.service, namespace)
            .map_err(|error| problems.push(Problem::new(format!("{at}.service"), error.to_string())))
            .ok()?;
        let rewrite = match &spec.model {
            Some(model) => Some(ModelRewrite::new(&format!("{at}.model"), model, problems)?),
            None => None,
        };
        Some(Self {
            name: spec.name.clone(),
            service,
            port: spec.port.clone(),
            weight: spec.weight,
            rewrite,
        })
    }
}

impl ModelRewrite {
    fn new(at: &str, spec: &ModelRewriteSpec, problems: &mut Vec<Problem>) -> Option<Self> {
        if spec.name.is_none() && spec.version.is_none() {
            problems.push(Problem::new(
                at,
                "says neither name nor version: leave it out to change nothing",
            ));
            return None;
        }
        let mut check = |field: &str, reason: String| {
            problems.push(Problem::new(format!("{at}.{field}"), reason));
        };
        let name = spec
            .name
            .as_deref()
            .map(ModelName::new)
            .transpose()
            .map_err(|error| check("name", error.to_string()));
        let version = spec
            .version
            .as_deref()
            .map(ModelVersion::exact)
            .transpose()
            .map_err(|error| check("version", error.to_string()));
        Some(Self {
            name: name.ok()?,
            version: version.ok()?,
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn route(rules: serde_json::Value) -> Result<Route, Vec<String>> {
        let spec = serde_json::from_value(serde_json::json!({"service": "fraud", "rules": rules})).unwrap();
        Route::new(&"ml/fraud".parse().unwrap(), &spec)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rules_are_named_by_position_when_nobody_names_them() {
        let backends = serde_json::json!({"backends": [{"name": "a", "service": "other/a"}]});
        let route =
            route(serde_json::json!([{"split": backends}, {"name": "rest", "split": backends}])).unwrap();
        assert_eq!(route.rules[0].name.as_str(), "rule-0");
        assert_eq!(route.rules[1].name.as_str(), "rest");
        assert_eq!(route.rules[0].split.backends[0].service.to_string(), "other/a");
        assert_eq!(route.rules[0].split.total, 1);
    }

    #[test]
    fn what_is_wrong_is_named_by_field() {
        let split = serde_json::json!({"backends": [{"name": "a", "service": "a"}]});
        for (rule, expected) in [
            (
                serde_json::json!({"split": {"backends": []}}),
                "spec.rules[0].split.backends: 0 backends",
            ),
            (
                serde_json::json!({"split": {"backends": [{"name": "a", "service": "a", "weight": 0}]}}),
                "spec.rules[0].split.backends: all weights are 0",
            ),
            (
                serde_json::json!({"split": {"backends": [{"name": "a", "service": "a"}, {"name": "a", "service": "b"}]}}),
                "spec.rules[0].split.backends[1].name: \"a\" names an earlier backend too",
            ),
            (
                serde_json::json!({"split": {"backends": [{"name": "a", "service": "a", "weight": 1000001}]}}),
                "spec.rules[0].split.backends[0].weight: 1000001 is more than 1000000",
            ),
            (
                serde_json::json!({"split": {"backends": [{"name": "a", "service": "A!"}]}}),
                "spec.rules[0].split.backends[0].service: ",
            ),
            (
                serde_json::json!({"split": {"backends": [{"name": "a", "service": "a", "model": {}}]}}),
                "spec.rules[0].split.backends[0].model: says neither",
            ),
            (
                serde_json::json!({"split": {"by": {"header": "x y"}, "backends": [{"name": "a", "service": "a"}]}}),
                "spec.rules[0].split.by.header: \"x y\" is not a header name",
            ),
            (
                serde_json::json!({"split": split, "matches": [{"path": "v2"}]}),
                "spec.rules[0].matches[0].path: ",
            ),
            (
                serde_json::json!({"split": split, "matches": [{"method": "post"}]}),
                "spec.rules[0].matches[0].method: ",
            ),
            (
                serde_json::json!({"split": split, "matches": [{"caller": "ml"}]}),
                "spec.rules[0].matches[0].caller: ",
            ),
            (
                serde_json::json!({"split": split, "matches": [{"model": ""}]}),
                "spec.rules[0].matches[0].model: ",
            ),
            (
                serde_json::json!({"split": split, "matches": [{"headers": {"a b": "x"}}]}),
                "spec.rules[0].matches[0].headers: \"a b\" is not a header name",
            ),
            (
                serde_json::json!({"split": split, "matches": [{"headers": {"X-A": "x", "x-a": "y"}}]}),
                "spec.rules[0].matches[0].headers: \"x-a\" stands twice",
            ),
            (
                serde_json::json!({"split": split, "matches": [{"headers": {"x-a": "x\n"}}]}),
                "spec.rules[0].matches[0].headers.x-a: no header can have this value",
            ),
            (
                serde_json::json!({"split": split, "timeouts": {"total": "0s"}}),
                "spec.rules[0].timeouts.total: 0s",
            ),
            (
                serde_json::json!({"split": split, "retries": {"attempts": 11}}),
                "spec.rules[0].retries.attempts: ",
            ),
        ] {
            let problems = route(serde_json::json!([rule])).unwrap_err();
            assert!(
                problems.iter().any(|problem| problem.starts_with(expected)),
                "{expected}: {problems:?}"
            );
        }
    }
}
