//! What a route changes of a request and of the response to it, and the answer that sends a client elsewhere.

use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Response, Uri};
use mesh_api::route::{Asked, Filters, Host, Redirect, Scheme};

use crate::body::ResponseBody;
use crate::error::{Failure, Reason};
use crate::headers;
use crate::observe::Record;
use crate::table::ServicePort;

/// Changes a request. `target` is what is to be sent instead of its own target already; returned is what is to be.
///
/// # Errors
/// When the path that it is to have is none.
pub(super) fn request(
    parts: &mut Parts,
    mut target: Option<PathAndQuery>,
    filters: [Option<&Filters>; 2],
) -> Result<Option<PathAndQuery>, Failure> {
    for filters in filters.into_iter().flatten() {
        filters.request.apply(&mut parts.headers);
        if let Some(to) = &filters.host {
            host(parts, to);
        }
        if let Some(rewrite) = &filters.path {
            let mut text = rewrite.apply(parts.uri.path()).into_owned();
            if let Some(query) = parts.uri.query() {
                text.push('?');
                text.push_str(query);
            }
            let path = PathAndQuery::try_from(text).map_err(|why| {
                Failure::new(
                    Reason::CannotRewrite,
                    format!("the path that the route makes is none: {why}"),
                )
            })?;
            target = Some(path);
        }
    }
    Ok(target)
}

/// Makes a request one for another host, wherever it says which.
fn host(parts: &mut Parts, to: &Host) {
    if parts.uri.authority().is_none() {
        parts.headers.insert(HOST, to.value().clone());
        return;
    }
    parts.headers.remove(HOST);
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.authority = Some(to.authority().clone());
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}

/// Changes the headers of a response.
pub(super) fn response(headers: &mut HeaderMap, filters: [Option<&Filters>; 2]) {
    for filters in filters.into_iter().flatten() {
        filters.response.apply(headers);
    }
}

/// Sends the client elsewhere. The record goes with the answer.
///
/// # Errors
/// When no header can have the URL.
pub(super) fn redirect(
    redirect: &Redirect,
    port: &ServicePort,
    parts: &Parts,
    filters: [Option<&Filters>; 2],
    record: &mut Option<Record>,
) -> Result<Response<ResponseBody>, Failure> {
    let is_https = parts.uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let location = redirect.location(&Asked {
        scheme: if is_https { Scheme::Https } else { Scheme::Http },
        authority: headers::authority(parts).as_ref(),
        port: port.port,
        path: parts.uri.path(),
        query: parts.uri.query(),
    });
    let location = HeaderValue::from_maybe_shared(Bytes::from(location))
        .map_err(|_| Failure::new(Reason::BadRequest, "the request's target can't stand in a header"))?;
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = redirect.status;
    answer.headers_mut().insert(LOCATION, location);
    response(answer.headers_mut(), filters);
    Ok(match record.take() {
        Some(mut record) => {
            record.status(redirect.status);
            answer.map(|body| body.recorded(record))
        }
        None => answer,
    })
}
