//! From what a document or the wire says to a route that requests are decided with: everything is checked, and all
//! that is wrong is said, each with its field.

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::{
    Action, Backend, CallerMatch, Filters, Key, Match, ModelRewrite, Origin, Route, Rule, Rules, Scope,
    Split, Timeouts,
};
use crate::document::{
    BackendSpec, HeaderMatch, MatchSpec, ModelRewriteSpec, ModelRouteSpec, PathMatch, RuleSpec, SplitBy,
    SplitSpec, StringMatch, TimeoutsSpec,
};
use crate::inference::{ModelName, ModelVersion};
use crate::name::{Name, ObjectName};
use crate::validate::Problem;

mod filters;

/// The most rules of a route.
pub const MAX_RULES: usize = 10_000;
/// The most backends of a split.
pub const MAX_BACKENDS: usize = 100;
/// The largest weight of a backend.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// The most retries of a rule.
pub const MAX_RETRIES: u8 = 10;

impl Route {
    /// Makes the route of a service from what a document says.
    ///
    /// # Errors
    /// All that is wrong with it, each with its field.
    pub fn new(object: &ObjectName, spec: &ModelRouteSpec) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let origin = Origin::model_route(object);
        let mut rules: Vec<Rule> = Vec::with_capacity(spec.rules.len().min(MAX_RULES));
        for (index, rule) in spec.rules.iter().enumerate().take(MAX_RULES) {
            let at = format!("spec.rules[{index}]");
            rules.extend(Rule::new(
                &at,
                index,
                &origin,
                &object.namespace,
                rule,
                &mut problems,
            ));
        }
        let service = ObjectName::new(object.namespace.clone(), spec.service.clone());
        let all_read = rules.len() == spec.rules.len().min(MAX_RULES);
        if spec.rules.len() > MAX_RULES {
            problems.push(too_many(spec.rules.len()));
        }
        match Self::of(service, Some(object.clone()), rules) {
            // Fields are counted by position: what is wrong with some rules would shift those after them.
            Err(more) if all_read => problems.extend(more),
            Err(_) => {}
            Ok(route) if problems.is_empty() => return Ok(route),
            Ok(_) => {}
        }
        Err(problems)
    }

    /// Makes the route of a service from rules that are each valid: of a ModelRoute, of other objects, or both.
    ///
    /// # Errors
    /// All that is wrong with them together, each with its field.
    pub fn of(
        service: ObjectName,
        object: Option<ObjectName>,
        rules: Vec<Rule>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if rules.len() > MAX_RULES {
            problems.push(too_many(rules.len()));
        }
        let mut names = HashSet::with_capacity(rules.len());
        let mut service_alone = false;
        for (index, rule) in rules.iter().enumerate() {
            let mut problem = |field: &str, reason: String| {
                problems.push(Problem::new(format!("spec.rules[{index}].{field}"), reason));
            };
            if !names.insert(&rule.name) {
                problem("name", format!("{:?} names an earlier rule too", rule.name));
            }
            if service_alone && !rule.scope.service_alone {
                problem("scope", "stands after a rule for the service alone".into());
            }
            service_alone |= rule.scope.service_alone;
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            service,
            object,
            rules: Rules::new(rules),
        })
    }
}

fn too_many(rules: usize) -> Problem {
    Problem::new("spec.rules", format!("{rules} rules are more than {MAX_RULES}"))
}

impl Rule {
    fn new(
        at: &str,
        index: usize,
        origin: &Origin,
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
        let filters = Filters::new(&format!("{at}.headers"), &spec.headers, problems);
        if spec.retries.attempts > MAX_RETRIES {
            let reason = format!("{} is more than {MAX_RETRIES}", spec.retries.attempts);
            problems.push(Problem::new(format!("{at}.retries.attempts"), reason));
        }
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => format!("rule-{index}").parse().ok()?,
        };
        Some(Self {
            name,
            origin: origin.clone(),
            scope: Scope::default(),
            matches: matches.into_iter().collect::<Option<_>>()?,
            filters: filters.boxed(),
            action: Action::Split(split?),
            timeouts: Timeouts::new(&format!("{at}.timeouts"), &spec.timeouts, problems),
            retry_attempts: spec.retries.attempts,
        })
    }
}

impl Timeouts {
    pub(crate) fn new(at: &str, spec: &TimeoutsSpec, problems: &mut Vec<Problem>) -> Self {
        let mut positive = |field: &str, duration| positive(&format!("{at}.{field}"), duration, problems);
        Self {
            first_byte: positive("firstByte", spec.first_byte),
            idle: positive("idle", spec.idle),
            total: positive("total", spec.total),
            per_try: positive("perTry", spec.per_try),
        }
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
    pub(crate) fn new(at: &str, spec: &MatchSpec, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        for (field, text) in [("model", &spec.model), ("version", &spec.version)] {
            if matches!(text, Some(StringMatch::Exact(text)) if text.is_empty()) {
                problems.push(Problem::new(
                    format!("{at}.{field}"),
                    "an empty text matches no request: leave it out",
                ));
            }
        }
        match &spec.path {
            Some(
                PathMatch::Exact(path)
                | PathMatch::Prefix { prefix: path }
                | PathMatch::Under { under: path },
            ) if !path.starts_with('/') => {
                problems.push(Problem::new(
                    format!("{at}.path"),
                    format!("{path:?} must begin with /"),
                ));
            }
            _ => {}
        }
        if spec.query.contains_key("") {
            problems.push(Problem::new(format!("{at}.query"), "a parameter needs a name"));
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
            query: spec
                .query
                .iter()
                .map(|(name, value)| (name.as_str().into(), value.clone()))
                .collect(),
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
    pub(crate) fn new(
        at: &str,
        namespace: &Name,
        spec: &SplitSpec,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
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
        let filters = Filters::new(&format!("{at}.headers"), &spec.headers, problems);
        Some(Self {
            name: spec.name.clone(),
            service,
            port: spec.port.clone(),
            weight: spec.weight,
            rewrite,
            filters: filters.boxed(),
            invalid: None,
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
