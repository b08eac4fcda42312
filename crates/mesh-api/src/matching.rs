//! Which rule takes a request: the first, in the route's order, one of whose matches holds.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Method};

use percent_encoding::percent_decode_str;

use crate::document::{HeaderMatch, PathMatch, StringMatch};
use crate::identity::Identity;
use crate::inference::Operation;
use crate::route::{Match, Rule, Rules};

/// What is known of a request when it is matched.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, without the query.
    pub path: &'a str,
    /// Its query, if it has one.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The model it asks for, if it asks for one.
    pub model: Option<&'a str>,
    /// The version, or version label, it asks for.
    pub version: Option<&'a str>,
    /// What it asks of the model; none: it is not a model request.
    pub operation: Option<Operation>,
    /// Who sends it.
    pub caller: Option<&'a Identity>,
}

/// The position of the rule that takes the request; none when no rule does.
pub fn find(rules: &Rules, request: &Request<'_>) -> Option<usize> {
    rules.find(request)
}

/// Whether the rule takes the request.
pub fn takes(rule: &Rule, request: &Request<'_>) -> bool {
    rule.matches.is_empty()
        || rule
            .matches
            .iter()
            .any(|wanted| mismatch(wanted, request).is_none())
}

/// The first field of a match that does not hold, in the words documents use; none when all hold.
///
/// The cheapest and most telling fields are asked first.
pub fn mismatch(wanted: &Match, request: &Request<'_>) -> Option<&'static str> {
    if !optional(wanted.model.as_ref(), request.model) {
        return Some("model");
    }
    if !optional(wanted.version.as_ref(), request.version) {
        return Some("version");
    }
    if !wanted.operations.is_empty()
        && !request
            .operation
            .is_some_and(|it| wanted.operations.contains(&it))
    {
        return Some("operation");
    }
    if wanted
        .method
        .as_ref()
        .is_some_and(|method| method != request.method)
    {
        return Some("method");
    }
    if !wanted
        .path
        .as_ref()
        .is_none_or(|wanted| path(wanted, request.path))
    {
        return Some("path");
    }
    if wanted
        .caller
        .as_ref()
        .is_some_and(|wanted| !request.caller.is_some_and(|caller| wanted.matches(caller)))
    {
        return Some("caller");
    }
    if !wanted
        .headers
        .iter()
        .all(|(name, wanted)| header(wanted, request.headers.get(name).map(HeaderValue::as_bytes)))
    {
        return Some("headers");
    }
    let parameters = &wanted.query;
    if !parameters
        .iter()
        .all(|(name, wanted)| optional(Some(wanted), parameter(request.query, name).as_deref()))
    {
        return Some("query");
    }
    None
}

fn path(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(wanted) => wanted == path,
        PathMatch::Prefix { prefix } => path.starts_with(prefix.as_str()),
        PathMatch::Suffix { suffix } => path.ends_with(suffix.as_str()),
        PathMatch::Under { under } => {
            let rest = path.strip_prefix(under.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

/// A parameter of a query, as forms write them (<https://url.spec.whatwg.org/#application/x-www-form-urlencoded>). Of one
/// that stands several times, the first counts.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    let pairs = query?.split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(given, _)| decoded(given) == name)?;
    Some(decoded(value))
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

fn optional(wanted: Option<&StringMatch>, value: Option<&str>) -> bool {
    match (wanted, value) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(StringMatch::Exact(wanted)), Some(value)) => wanted == value,
        (Some(StringMatch::Prefix { prefix }), Some(value)) => value.starts_with(prefix.as_str()),
    }
}

/// Of a header that stands several times, the first counts.
fn header(wanted: &HeaderMatch, value: Option<&[u8]>) -> bool {
    match wanted {
        HeaderMatch::Present { present } => *present == value.is_some(),
        HeaderMatch::Exact(wanted) => value == Some(wanted.as_bytes()),
        HeaderMatch::Prefix { prefix } => value.is_some_and(|value| value.starts_with(prefix.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;

    fn rules(matches: &serde_json::Value) -> Rules {
        let spec = serde_json::json!({"service": "s", "rules": [{"matches": matches, "split": {"backends": [{"name": "a", "service": "a"}]}}]});
        Route::new(&"ml/r".parse().unwrap(), &serde_json::from_value(spec).unwrap())
            .unwrap()
            .rules
    }

    #[test]
    fn every_field_is_compared() {
        let caller = "spiffe://mesh.local/ns/ml/sa/client".parse().unwrap();
        let headers = HeaderMap::from_iter([
            (http::header::USER_AGENT, http::HeaderValue::from_static("curl/8")),
            (
                http::HeaderName::from_static("x-tier"),
                http::HeaderValue::from_static("gold"),
            ),
        ]);
        let request = Request {
            method: &Method::POST,
            path: "/v2/models/fraud/infer",
            query: Some("tier=gold&a%20b=c+d&tier=silver&empty=&flag"),
            headers: &headers,
            model: Some("fraud"),
            version: None,
            operation: Some(Operation::Infer),
            caller: Some(&caller),
        };
        for (matches, taken) in [
            (serde_json::json!([]), true),
            (serde_json::json!([{}]), true),
            (serde_json::json!([{"model": "fraud"}]), true),
            (serde_json::json!([{"model": "fraud-2"}]), false),
            (serde_json::json!([{"model": {"prefix": "fra"}}]), true),
            (serde_json::json!([{"model": {"prefix": "Fra"}}]), false),
            (serde_json::json!([{"version": "1"}]), false),
            (serde_json::json!([{"version": {"prefix": ""}}]), false),
            (serde_json::json!([{"operation": ["generate", "infer"]}]), true),
            (serde_json::json!([{"operation": ["admin"]}]), false),
            (serde_json::json!([{"method": "POST"}]), true),
            (serde_json::json!([{"method": "GET"}]), false),
            (serde_json::json!([{"path": "/v2/models/fraud/infer"}]), true),
            (serde_json::json!([{"path": {"prefix": "/v2/"}}]), true),
            (serde_json::json!([{"path": "/v2"}]), false),
            (serde_json::json!([{"path": {"under": "/v2"}}]), true),
            (serde_json::json!([{"path": {"under": "/v2/"}}]), true),
            (serde_json::json!([{"path": {"under": "/"}}]), true),
            (
                serde_json::json!([{"path": {"under": "/v2/models/fraud/infer"}}]),
                true,
            ),
            (serde_json::json!([{"path": {"under": "/v2/models/fra"}}]), false),
            (serde_json::json!([{"path": {"under": "/V2"}}]), false),
            (serde_json::json!([{"path": {"suffix": "/infer"}}]), true),
            (serde_json::json!([{"path": {"suffix": "/generate"}}]), false),
            (serde_json::json!([{"query": {"tier": "gold"}}]), true),
            (serde_json::json!([{"query": {"tier": "silver"}}]), false),
            (serde_json::json!([{"query": {"tier": {"prefix": "go"}}}]), true),
            (serde_json::json!([{"query": {"Tier": "gold"}}]), false),
            (
                serde_json::json!([{"query": {"a b": "c d", "tier": "gold"}}]),
                true,
            ),
            (serde_json::json!([{"query": {"empty": "", "flag": ""}}]), true),
            (serde_json::json!([{"query": {"absent": ""}}]), false),
            (serde_json::json!([{"query": {"absent": {"prefix": ""}}}]), false),
            (serde_json::json!([{"headers": {"X-Tier": "gold"}}]), true),
            (serde_json::json!([{"headers": {"x-tier": "silver"}}]), false),
            (
                serde_json::json!([{"headers": {"x-tier": {"prefix": "go"}}}]),
                true,
            ),
            (
                serde_json::json!([{"headers": {"x-tier": {"present": true}}}]),
                true,
            ),
            (
                serde_json::json!([{"headers": {"x-tier": {"present": false}}}]),
                false,
            ),
            (
                serde_json::json!([{"headers": {"x-other": {"present": false}}}]),
                true,
            ),
            (serde_json::json!([{"caller": "ml/client"}]), true),
            (serde_json::json!([{"caller": "ml/*"}]), true),
            (serde_json::json!([{"caller": "ml/other"}]), false),
            (serde_json::json!([{"caller": "other/*"}]), false),
            (
                serde_json::json!([{"model": "other"}, {"model": "fraud", "method": "POST"}]),
                true,
            ),
            (serde_json::json!([{"model": "fraud", "method": "GET"}]), false),
        ] {
            assert_eq!(find(&rules(&matches), &request).is_some(), taken, "{matches}");
        }
    }

    #[test]
    fn a_caller_nobody_knows_matches_no_caller() {
        let headers = HeaderMap::new();
        let request = Request {
            method: &Method::GET,
            path: "/",
            query: None,
            headers: &headers,
            model: None,
            version: None,
            operation: None,
            caller: None,
        };
        assert_eq!(
            find(&rules(&serde_json::json!([{"caller": "ml/*"}])), &request),
            None
        );
        assert_eq!(
            find(&rules(&serde_json::json!([{"operation": ["other"]}])), &request),
            None
        );
    }
}
