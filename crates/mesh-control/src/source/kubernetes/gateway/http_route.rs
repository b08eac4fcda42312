//! Rules of HTTPRoutes.

use http::{HeaderName, HeaderValue, Method};
use mesh_api::document::{HeaderMatch, PathMatch, StringMatch};
use mesh_api::route::{Match, Timeouts};

use super::filters;
use super::parsed::{PathFilters, RuleParts};
use super::precedence::Rank;
use super::types::{HttpMatch, HttpRule, HttpTimeouts, ValueMatch};

/// Reads the rules of a route.
///
/// # Errors
/// The first thing that the mesh does not do, or that is wrong, with its field.
pub(super) fn rules(rules: &[HttpRule]) -> Result<Vec<RuleParts>, String> {
    rules
        .iter()
        .enumerate()
        .map(|(index, it)| rule(index, it))
        .collect()
}

fn rule(index: usize, rule: &HttpRule) -> Result<RuleParts, String> {
    let at = format!("spec.rules[{index}]");
    for (field, value) in [
        ("retry", &rule.retry),
        ("sessionPersistence", &rule.session_persistence),
    ] {
        if value.is_some() {
            return Err(format!("{at}.{field}: is not supported"));
        }
    }
    let all = [HttpMatch::default()];
    let asked = if rule.matches.is_empty() {
        &all[..]
    } else {
        &rule.matches
    };
    let matches = asked.iter().enumerate();
    let matches = matches.map(|(nth, it)| wanted(&format!("{at}.matches[{nth}]"), it));
    let matches: Vec<(Rank, Match)> = matches.collect::<Result<_, _>>()?;
    let (filters, redirect) = filters::of_rule(&format!("{at}.filters"), &rule.filters)?;
    let backends = filters::of_backends(&at, &rule.backend_refs)?;
    let replaces = |filters: &PathFilters| filters.replace_prefix.is_some();
    let replaces = replaces(&filters) || backends.iter().any(|(_, filters)| replaces(filters));
    if replaces && matches.iter().any(|(rank, _)| rank.exact_path) {
        return Err(format!(
            "{at}.filters: ReplacePrefixMatch needs matches of paths by prefix"
        ));
    }
    Ok(RuleParts {
        label: rule.name.clone().unwrap_or_else(|| index.to_string()),
        matches,
        filters,
        redirect,
        backends,
        timeouts: timeouts(&at, rule.timeouts.as_ref())?,
    })
}

fn wanted(at: &str, wanted: &HttpMatch) -> Result<(Rank, Match), String> {
    let value = wanted
        .path
        .as_ref()
        .and_then(|path| path.value.as_deref())
        .unwrap_or("/");
    if !value.starts_with('/') {
        return Err(format!("{at}.path.value: {value:?} must begin with /"));
    }
    let under = value.trim_end_matches('/');
    let how = wanted.path.as_ref().and_then(|path| path.how.as_deref());
    let path = match how.unwrap_or("PathPrefix") {
        "Exact" => Some(PathMatch::Exact(value.into())),
        "PathPrefix" if under.is_empty() => None,
        "PathPrefix" => Some(PathMatch::Under { under: under.into() }),
        other => {
            return Err(format!(
                "{at}.path.type: {other} is not supported: use Exact or PathPrefix"
            ));
        }
    };
    let method = wanted.method.as_deref().map(|text| {
        Method::from_bytes(text.as_bytes()).map_err(|_| format!("{at}.method: {text:?} is not a method"))
    });
    let mut query: Vec<(Box<str>, StringMatch)> = Vec::with_capacity(wanted.query_params.len());
    for (nth, parameter) in wanted.query_params.iter().enumerate() {
        exact(&format!("{at}.queryParams[{nth}].type"), parameter)?;
        // Of several of one name, the first counts.
        if !query.iter().any(|(name, _)| **name == *parameter.name) {
            query.push((
                parameter.name.as_str().into(),
                StringMatch::Exact(parameter.value.clone()),
            ));
        }
    }
    let headers = headers(&format!("{at}.headers"), &wanted.headers)?;
    let rank = Rank {
        exact_path: how == Some("Exact"),
        path: if how == Some("Exact") {
            value.len()
        } else {
            under.len()
        },
        method: usize::from(wanted.method.is_some()),
        headers: headers.len(),
        query: query.len(),
    };
    let wanted = Match {
        path,
        method: method.transpose()?,
        headers,
        query,
        ..Match::default()
    };
    Ok((rank, wanted))
}

/// Reads the headers that are asked for. Of several of one name, the first counts.
pub(super) fn headers(at: &str, wanted: &[ValueMatch]) -> Result<Vec<(HeaderName, HeaderMatch)>, String> {
    let mut headers: Vec<(HeaderName, HeaderMatch)> = Vec::with_capacity(wanted.len());
    for (nth, header) in wanted.iter().enumerate() {
        exact(&format!("{at}[{nth}].type"), header)?;
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| format!("{at}[{nth}].name: {:?} is not a header name", header.name))?;
        if HeaderValue::from_str(&header.value).is_err() {
            return Err(format!("{at}[{nth}].value: no header can have this value"));
        }
        if !headers.iter().any(|(other, _)| *other == name) {
            headers.push((name, HeaderMatch::Exact(header.value.clone())));
        }
    }
    Ok(headers)
}

fn exact(at: &str, wanted: &ValueMatch) -> Result<(), String> {
    match wanted.how.as_deref() {
        None | Some("Exact") => Ok(()),
        Some(other) => Err(format!("{at}: {other} is not supported: use Exact")),
    }
}

/// A timeout of zero is none at all (Gateway API, HTTPRouteTimeouts).
fn timeouts(at: &str, timeouts: Option<&HttpTimeouts>) -> Result<Timeouts, String> {
    let read = |field: &str, text: Option<&String>| {
        let Some(text) = text else { return Ok(None) };
        let duration: mesh_api::duration::Duration = text
            .parse()
            .map_err(|why| format!("{at}.timeouts.{field}: {why}"))?;
        Ok::<_, String>(Some(duration.get()).filter(|duration| !duration.is_zero()))
    };
    Ok(Timeouts {
        total: read("request", timeouts.and_then(|it| it.request.as_ref()))?,
        per_try: read(
            "backendRequest",
            timeouts.and_then(|it| it.backend_request.as_ref()),
        )?,
        ..Timeouts::default()
    })
}
