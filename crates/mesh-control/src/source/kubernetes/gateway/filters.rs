//! What routes change of requests and responses.

use http::{HeaderName, HeaderValue, StatusCode};
use mesh_api::route::{
    Filters, HeaderEdits, Host, PathRewrite, REDIRECT_STATUSES, Redirect, Scheme, untouchable,
};

use super::parsed::PathFilters;
use super::types::{BackendRef, Filter, Header, HeaderModifier, PathModifier, RequestRedirect};

impl PathFilters {
    pub(super) fn changes_path(&self) -> bool {
        self.filters.path.is_some() || self.replace_prefix.is_some()
    }

    /// The filters of requests whose path begins with `prefix`.
    pub(super) fn under(&self, prefix: &str) -> Filters {
        let mut filters = self.filters.clone();
        if let Some(to) = &self.replace_prefix {
            filters.path = Some(PathRewrite::prefix(prefix, to));
        }
        filters
    }
}

/// Reads the filters of a rule, and where it sends clients, if it does.
///
/// # Errors
/// The first thing that the mesh does not do, or that is wrong, with its field.
pub(super) fn of_rule(at: &str, list: &[Filter]) -> Result<(PathFilters, Option<Redirect>), String> {
    let mut found = PathFilters::default();
    let mut redirect = None;
    for (nth, filter) in list.iter().enumerate() {
        let at = format!("{at}[{nth}]");
        match filter.kind.as_str() {
            "RequestHeaderModifier" => {
                let at = format!("{at}.requestHeaderModifier");
                found.filters.request = edits(&at, filter.request_header_modifier.as_ref())?;
            }
            "ResponseHeaderModifier" => {
                let at = format!("{at}.responseHeaderModifier");
                found.filters.response = edits(&at, filter.response_header_modifier.as_ref())?;
            }
            "URLRewrite" => {
                let at = format!("{at}.urlRewrite");
                let rewrite = filter.url_rewrite.clone().unwrap_or_default();
                found.filters.host = rewrite.hostname.map(|name| host(&at, &name)).transpose()?;
                if let Some(modifier) = rewrite.path {
                    (found.filters.path, found.replace_prefix) = path(&format!("{at}.path"), modifier)?;
                }
            }
            "RequestRedirect" => {
                let at = format!("{at}.requestRedirect");
                let (to, replace) = sent(&at, filter.request_redirect.clone().unwrap_or_default())?;
                found.replace_prefix = replace;
                redirect = Some(to);
            }
            other => return Err(format!("{at}.type: {other} is not supported")),
        }
    }
    if redirect.is_some() && list.iter().any(|filter| filter.kind == "URLRewrite") {
        return Err(format!("{at}: a request is either redirected or rewritten"));
    }
    Ok((found, redirect))
}

/// Reads the filters of a rule's backends.
///
/// # Errors
/// The first thing that the mesh does not do, or that is wrong, with its field.
pub(super) fn of_backends(at: &str, list: &[BackendRef]) -> Result<Vec<(BackendRef, PathFilters)>, String> {
    let read = |(nth, backend): (usize, &BackendRef)| {
        let at = format!("{at}.backendRefs[{nth}]");
        let (filters, redirect) = of_rule(&format!("{at}.filters"), &backend.filters)?;
        match redirect {
            Some(_) => Err(format!(
                "{at}.filters: a backend can't redirect: let the rule do it"
            )),
            None => Ok((backend.clone(), filters)),
        }
    };
    list.iter().enumerate().map(read).collect()
}

fn edits(at: &str, modifier: Option<&HeaderModifier>) -> Result<HeaderEdits, String> {
    let Some(modifier) = modifier else {
        return Err(format!("{at}: missing"));
    };
    let name = |field: &str, text: &str| {
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| format!("{at}.{field}: {text:?} is not a header name"))?;
        match untouchable(&name) {
            Some(why) => Err(format!("{at}.{field}: {text:?} {why}")),
            None => Ok(name),
        }
    };
    let pairs = |field: &str, headers: &[Header]| {
        let mut pairs: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(headers.len());
        for header in headers {
            let name = name(field, &header.name)?;
            let value = HeaderValue::from_str(&header.value)
                .map_err(|_| format!("{at}.{field}: no header can have the value of {:?}", header.name))?;
            // Of several of one name, the first counts.
            if !pairs.iter().any(|(other, _)| *other == name) {
                pairs.push((name, value));
            }
        }
        Ok::<_, String>(pairs)
    };
    let remove = modifier.remove.iter();
    Ok(HeaderEdits {
        remove: remove
            .map(|text| name("remove", text))
            .collect::<Result<_, _>>()?,
        set: pairs("set", &modifier.set)?,
        add: pairs("add", &modifier.add)?,
    })
}

fn host(at: &str, name: &str) -> Result<Host, String> {
    Host::new(name).ok_or_else(|| format!("{at}.hostname: {name:?} is not a host"))
}

/// A path, or what the part of it becomes that the match asked for.
fn path(at: &str, modifier: PathModifier) -> Result<(Option<PathRewrite>, Option<String>), String> {
    match modifier.how.as_str() {
        "ReplaceFullPath" => {
            let full = modifier.replace_full_path.unwrap_or_default();
            let full = if full.is_empty() { "/".to_owned() } else { full };
            if !full.starts_with('/') {
                return Err(format!("{at}.replaceFullPath: {full:?} must begin with /"));
            }
            Ok((Some(PathRewrite::full(&full)), None))
        }
        "ReplacePrefixMatch" => {
            let to = modifier.replace_prefix_match.unwrap_or_default();
            if !to.is_empty() && !to.starts_with('/') {
                return Err(format!("{at}.replacePrefixMatch: {to:?} must begin with /"));
            }
            Ok((None, Some(to)))
        }
        other => Err(format!(
            "{at}.type: {other} is not supported: use ReplaceFullPath or ReplacePrefixMatch"
        )),
    }
}

/// Where a client is sent, and what the part of its path becomes that the match asked for.
fn sent(at: &str, said: RequestRedirect) -> Result<(Redirect, Option<String>), String> {
    let scheme = match said.scheme.as_deref() {
        None => None,
        Some("http") => Some(Scheme::Http),
        Some("https") => Some(Scheme::Https),
        Some(other) => return Err(format!("{at}.scheme: {other:?} is neither http nor https")),
    };
    let status = said.status_code.unwrap_or(302);
    let known = StatusCode::from_u16(status)
        .ok()
        .filter(|status| REDIRECT_STATUSES.contains(status));
    let (path, replace) = match said.path {
        Some(modifier) => path(&format!("{at}.path"), modifier)?,
        None => (None, None),
    };
    let host = said.hostname.map(|name| host(at, &name)).transpose()?;
    let to = Redirect {
        scheme,
        host: host.map(|host| host.authority().as_str().into()),
        port: said.port.filter(|port| *port > 0),
        path,
        status: known.ok_or_else(|| format!("{at}.statusCode: {status} is not supported"))?,
    };
    Ok((to, replace))
}
