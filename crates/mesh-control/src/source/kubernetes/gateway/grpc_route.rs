//! Rules of GRPCRoutes: a call of a method is a request to the path `/service/method`.

use mesh_api::document::PathMatch;
use mesh_api::route::{Match, Timeouts};

use super::parsed::RuleParts;
use super::precedence::Rank;
use super::types::{GrpcMatch, GrpcRule};
use super::{filters, http_route};

/// Reads the rules of a route.
///
/// # Errors
/// The first thing that the mesh does not do, or that is wrong, with its field.
pub(super) fn rules(rules: &[GrpcRule]) -> Result<Vec<RuleParts>, String> {
    rules
        .iter()
        .enumerate()
        .map(|(index, it)| rule(index, it))
        .collect()
}

fn rule(index: usize, rule: &GrpcRule) -> Result<RuleParts, String> {
    let at = format!("spec.rules[{index}]");
    if rule.session_persistence.is_some() {
        return Err(format!("{at}.sessionPersistence: is not supported"));
    }
    let all = [GrpcMatch::default()];
    let asked = if rule.matches.is_empty() {
        &all[..]
    } else {
        &rule.matches
    };
    let matches = asked.iter().enumerate();
    let matches = matches.map(|(nth, it)| wanted(&format!("{at}.matches[{nth}]"), it));
    let (filters, redirect) = filters::of_rule(&format!("{at}.filters"), &rule.filters)?;
    if redirect.is_some() || filters.filters.host.is_some() || filters.changes_path() {
        return Err(format!("{at}.filters: only headers of calls can be changed"));
    }
    Ok(RuleParts {
        label: rule.name.clone().unwrap_or_else(|| index.to_string()),
        matches: matches.collect::<Result<_, _>>()?,
        filters,
        redirect: None,
        backends: filters::of_backends(&at, &rule.backend_refs)?,
        timeouts: Timeouts::default(),
    })
}

/// The longest service counts first, then the longest method, then headers (Gateway API, GRPCRouteRule).
fn wanted(at: &str, wanted: &GrpcMatch) -> Result<(Rank, Match), String> {
    let method = wanted.method.as_ref();
    match method.and_then(|method| method.how.as_deref()) {
        None | Some("Exact") => {}
        Some(other) => return Err(format!("{at}.method.type: {other} is not supported: use Exact")),
    }
    let service = method.and_then(|method| said(method.service.as_ref()));
    let name = method.and_then(|method| said(method.method.as_ref()));
    let path = match (service, name) {
        (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
        (Some(service), None) => Some(PathMatch::Prefix {
            prefix: format!("/{service}/"),
        }),
        (None, Some(method)) => Some(PathMatch::Suffix {
            suffix: format!("/{method}"),
        }),
        (None, None) => None,
    };
    let headers = http_route::headers(&format!("{at}.headers"), &wanted.headers)?;
    let rank = Rank {
        exact_path: false,
        path: service.map_or(0, str::len),
        method: name.map_or(0, str::len),
        headers: headers.len(),
        query: 0,
    };
    let wanted = Match {
        path,
        headers,
        ..Match::default()
    };
    Ok((rank, wanted))
}

/// A text that says something.
fn said(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}
