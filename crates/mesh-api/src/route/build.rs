//! From what a document or the wire says to a route that requests are decided with: everything is checked, and all
//! that is wrong is said, each with its field.

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::{Backend, CallerMatch, Key, Match, ModelRewrite, Route, Rule, Rules, Split, Timeouts};
use crate::document::{
    BackendSpec, HeaderMatch, MatchSpec, ModelRewriteSpec, ModelRouteSpec, RuleSpec, SplitBy, SplitSpec,
    StringMatch,
};
use crate::inference::{ModelName, ModelVersion};
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
        let mut names = HashSet::with_capacity(rules.capacity());
        for (index, rule) in spec.rules.iter().take(MAX_RULES).enumerate() {
            let at = format!("spec.rules[{index}]");
            match Rule::new(&at, index, &object.namespace, rule, &mut problems) {
                Some(rule) if !names.insert(rule.name.clone()) => {
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
            rules: Rules::new(rules),
        })
    }
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

#[cfg(test)]
mod tests;
