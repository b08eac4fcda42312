//! Routes. What a document can say of a rule becomes that document again and goes through the same checks.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{Result, error, field, optional};
use crate::document::{
    BackendSpec, HeaderMatch, HeadersSpec, MatchSpec, ModelRewriteSpec, PathMatch, SplitBy, SplitSpec,
    StringMatch, TimeoutsSpec,
};
use crate::name::ObjectName;
use crate::route::{
    Action, Filters, HeaderEdits, Host, MAX_RETRIES, Match, Origin, PathRewrite, REDIRECT_STATUSES, Redirect,
    Refused, Route, Rule, Scheme, Scope, Split, Timeouts, Unroutable, untouchable,
};
use crate::validate::Problem;
use crate::wire::WireError;
use crate::wire::config as wire;

/// The route of a message.
///
/// # Errors
/// When it is none that could be written in documents.
pub fn route(message: wire::Route) -> Result<Route> {
    let object = format!("Route {}", message.service);
    let service: ObjectName = field(&object, "service", &message.service)?;
    let model_route = optional(&message.object)
        .map(|text| field::<ObjectName>(&object, "object", text))
        .transpose()?;
    if let Some(name) = model_route
        .as_ref()
        .filter(|name| name.namespace != service.namespace)
    {
        return Err(error(
            &object,
            "object",
            format!("{name} is of another namespace"),
        ));
    }
    let own = model_route.as_ref().map(Origin::model_route);
    let mut rules = Vec::with_capacity(message.rules.len());
    for (index, message) in message.rules.into_iter().enumerate() {
        let reader = Reader {
            object: &object,
            at: format!("rules[{index}]"),
        };
        rules.push(reader.rule(own.as_ref(), &service, message)?);
    }
    Route::of(service, model_route, rules).map_err(|problems| first(&object, problems))
}

/// The first of some problems.
fn first(object: &str, problems: Vec<Problem>) -> WireError {
    let first = problems.into_iter().next();
    let (at, reason) = first
        .map(|problem| (problem.field, problem.reason))
        .unwrap_or_default();
    error(object, at.trim_start_matches("spec."), reason)
}

/// Reads a part of an object.
struct Reader<'a> {
    object: &'a str,
    /// Where the part stands in it.
    at: String,
}

impl Reader<'_> {
    fn error(&self, of: &str, reason: impl std::fmt::Display) -> WireError {
        error(self.object, format!("{}.{of}", self.at), reason)
    }

    fn field<T: std::str::FromStr<Err: std::fmt::Display>>(&self, of: &str, text: &str) -> Result<T> {
        field(self.object, &format!("{}.{of}", self.at), text)
    }

    fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        of: &str,
        text: &str,
    ) -> Result<Option<T>> {
        optional(text).map(|text| self.field(of, text)).transpose()
    }

    fn within(&self, of: &str) -> Self {
        Self {
            object: self.object,
            at: format!("{}.{of}", self.at),
        }
    }

    /// What goes through the checks of documents.
    fn checked<T>(&self, check: impl FnOnce(&mut Vec<Problem>) -> Option<T>) -> Result<T> {
        let mut problems = Vec::new();
        match check(&mut problems) {
            Some(checked) if problems.is_empty() => Ok(checked),
            _ => Err(first(self.object, problems)),
        }
    }

    fn rule(&self, own: Option<&Origin>, service: &ObjectName, message: wire::Rule) -> Result<Rule> {
        let action = message.action.ok_or_else(|| self.error("split", "missing"))?;
        let attempts = u8::try_from(message.retry_attempts)
            .ok()
            .filter(|it| *it <= MAX_RETRIES);
        let retry_attempts = attempts.ok_or_else(|| {
            self.error(
                "retry_attempts",
                format!("{} is too many", message.retry_attempts),
            )
        })?;
        let origin = match (optional(&message.origin), own) {
            (Some(origin), _) => Origin::from(origin.to_owned()),
            (None, Some(own)) => own.clone(),
            (None, None) => return Err(self.error("origin", "missing, and the route has no object")),
        };
        let matches = message.matches.into_iter().enumerate();
        let millis = crate::duration::Duration::from_millis;
        let timeouts = TimeoutsSpec {
            first_byte: message.first_byte_timeout_ms.map(millis),
            idle: message.idle_timeout_ms.map(millis),
            total: message.total_timeout_ms.map(millis),
            per_try: message.per_try_timeout_ms.map(millis),
        };
        let at = format!("{}.timeouts", self.at);
        Ok(Rule {
            name: self.field("name", &message.name)?,
            origin,
            scope: Scope {
                port: self.optional("port", &message.port)?,
                service_alone: message.service_alone,
            },
            matches: matches
                .map(|(index, message)| self.within(&format!("matches[{index}]")).wanted(message))
                .collect::<Result<_>>()?,
            filters: self.within("filters").filters(message.filters)?,
            action: match action {
                wire::rule::Action::Split(split) => {
                    Action::Split(self.within("split").split(service, split)?)
                }
                wire::rule::Action::Redirect(redirect) => {
                    Action::Redirect(Box::new(self.within("redirect").redirect(redirect)?))
                }
                wire::rule::Action::Refused(refused) => {
                    Action::Refuse(self.within("refused").refused(refused)?)
                }
            },
            timeouts: self.checked(|problems| Some(Timeouts::new(&at, &timeouts, problems)))?,
            retry_attempts,
        })
    }

    fn wanted(&self, message: wire::Match) -> Result<Match> {
        let text = |of: &str, message: Option<wire::StringMatch>| {
            message.map(|message| self.string_match(of, message)).transpose()
        };
        let mut headers = BTreeMap::new();
        for (name, message) in message.headers {
            let value = self.header_match("headers", message)?;
            headers.insert(name, value);
        }
        let query = message.query.into_iter();
        let spec = MatchSpec {
            model: text("model", message.model)?,
            version: text("version", message.version)?,
            operation: message
                .operations
                .iter()
                .map(|text| self.field("operations", text))
                .collect::<Result<_>>()?,
            method: Some(message.method).filter(|method| !method.is_empty()),
            path: message
                .path
                .map(|message| self.path_match("path", message))
                .transpose()?,
            query: query
                .map(|(name, message)| Ok((name, self.string_match("query", message)?)))
                .collect::<Result<_>>()?,
            headers,
            caller: Some(message.caller).filter(|caller| !caller.is_empty()),
        };
        self.checked(|problems| Match::new(&self.at, &spec, problems))
    }

    /// A match that says nothing must not match everything: it is refused.
    fn string_match(&self, of: &str, message: wire::StringMatch) -> Result<StringMatch> {
        use wire::string_match::How;
        match message.how {
            Some(How::Exact(text)) => Ok(StringMatch::Exact(text)),
            Some(How::Prefix(prefix)) => Ok(StringMatch::Prefix { prefix }),
            Some(How::Present(_)) => Err(self.error(of, "only headers can be asked to be present")),
            Some(How::Suffix(_) | How::Under(_)) => Err(self.error(of, "only paths are compared so")),
            None => Err(self.error(of, "says nothing to compare with")),
        }
    }

    fn path_match(&self, of: &str, message: wire::StringMatch) -> Result<PathMatch> {
        use wire::string_match::How;
        match message.how {
            Some(How::Exact(text)) => Ok(PathMatch::Exact(text)),
            Some(How::Prefix(prefix)) => Ok(PathMatch::Prefix { prefix }),
            Some(How::Suffix(suffix)) => Ok(PathMatch::Suffix { suffix }),
            Some(How::Under(under)) => Ok(PathMatch::Under { under }),
            Some(How::Present(_)) => Err(self.error(of, "only headers can be asked to be present")),
            None => Err(self.error(of, "says nothing to compare with")),
        }
    }

    fn header_match(&self, of: &str, message: wire::StringMatch) -> Result<HeaderMatch> {
        use wire::string_match::How;
        match message.how {
            Some(How::Exact(text)) => Ok(HeaderMatch::Exact(text)),
            Some(How::Prefix(prefix)) => Ok(HeaderMatch::Prefix { prefix }),
            Some(How::Present(present)) => Ok(HeaderMatch::Present { present }),
            Some(How::Suffix(_) | How::Under(_)) => Err(self.error(of, "only paths are compared so")),
            None => Err(self.error(of, "says nothing to compare with")),
        }
    }

    fn split(&self, service: &ObjectName, message: wire::Split) -> Result<Split> {
        let by = match message.by {
            None => None,
            Some(wire::split::By::Header(name)) => Some(SplitBy::Header(name)),
            Some(wire::split::By::Caller(true)) => Some(SplitBy::Caller {}),
            Some(wire::split::By::Caller(false)) => return Err(self.error("by.caller", "is false")),
        };
        let mut backends = Vec::with_capacity(message.backends.len());
        let mut beyond = Vec::with_capacity(message.backends.len());
        for (index, message) in message.backends.into_iter().enumerate() {
            let reader = self.within(&format!("backends[{index}]"));
            let filters = reader.within("filters").filters(message.filters.clone())?;
            beyond.push((filters, optional(&message.invalid).map(Into::into)));
            backends.push(reader.backend(message)?);
        }
        let spec = SplitSpec { by, backends };
        let mut split = self.checked(|problems| Split::new(&self.at, &service.namespace, &spec, problems))?;
        for (backend, (filters, invalid)) in split.backends.iter_mut().zip(beyond) {
            (backend.filters, backend.invalid) = (filters, invalid);
        }
        Ok(split)
    }

    fn backend(&self, message: wire::Backend) -> Result<BackendSpec> {
        let rewrite = ModelRewriteSpec {
            name: Some(message.model_name).filter(|text| !text.is_empty()),
            version: Some(message.model_version).filter(|text| !text.is_empty()),
        };
        // A bare name would be read in the route's namespace; the wire always says which.
        if !message.service.contains('/') {
            return Err(self.error("service", format!("{:?} has no namespace", message.service)));
        }
        Ok(BackendSpec {
            name: self.field("name", &message.name)?,
            service: message.service,
            port: self.optional("port", &message.port)?,
            weight: message.weight,
            model: (rewrite != ModelRewriteSpec::default()).then_some(rewrite),
            headers: HeadersSpec::default(),
        })
    }

    fn filters(&self, message: Option<wire::Filters>) -> Result<Option<Box<Filters>>> {
        let Some(message) = message else { return Ok(None) };
        let host = optional(&message.host)
            .map(|host| Host::new(host).ok_or_else(|| self.error("host", format!("{host:?} is no host"))));
        let filters = Filters {
            request: self.within("request").edits(message.request)?,
            response: self.within("response").edits(message.response)?,
            host: host.transpose()?,
            path: message.path.map(|path| self.path_rewrite(path)).transpose()?,
        };
        Ok(filters.boxed())
    }

    fn edits(&self, message: Option<wire::HeaderEdits>) -> Result<HeaderEdits> {
        let message = message.unwrap_or_default();
        let name = |of: &str, text: &str| {
            let name: HeaderName = self.field(of, text)?;
            match untouchable(&name) {
                Some(why) => Err(self.error(of, format!("{text:?} {why}"))),
                None => Ok(name),
            }
        };
        let pairs = |of: &str, headers: &[wire::Header]| {
            let pairs = headers
                .iter()
                .map(|it| Ok((name(of, &it.name)?, self.field(of, &it.value)?)));
            pairs.collect::<Result<Vec<(HeaderName, HeaderValue)>>>()
        };
        Ok(HeaderEdits {
            remove: message
                .remove
                .iter()
                .map(|text| name("remove", text))
                .collect::<Result<_>>()?,
            set: pairs("set", &message.set)?,
            add: pairs("add", &message.add)?,
        })
    }

    fn path_rewrite(&self, message: wire::PathRewrite) -> Result<PathRewrite> {
        match message.how {
            Some(wire::path_rewrite::How::Full(path)) if path.starts_with('/') => {
                Ok(PathRewrite::full(&path))
            }
            Some(wire::path_rewrite::How::Full(path)) => {
                Err(self.error("path.full", format!("{path:?} must begin with /")))
            }
            Some(wire::path_rewrite::How::Prefix(it)) => {
                for path in [&it.from, &it.to] {
                    if !path.is_empty() && !path.starts_with('/') {
                        return Err(self.error("path.prefix", format!("{path:?} must begin with /")));
                    }
                }
                Ok(PathRewrite::prefix(&it.from, &it.to))
            }
            None => Err(self.error("path", "says nothing")),
        }
    }

    fn redirect(&self, message: wire::Redirect) -> Result<Redirect> {
        let scheme = match message.scheme.as_str() {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            other => return Err(self.error("scheme", format!("{other:?} is neither http nor https"))),
        };
        let status = u16::try_from(message.status)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.filter(|status| REDIRECT_STATUSES.contains(status));
        let port = u16::try_from(message.port)
            .map_err(|_| self.error("port", format!("{} is not a port", message.port)));
        Ok(Redirect {
            scheme,
            host: optional(&message.host).map(Into::into),
            port: Some(port?).filter(|port| *port > 0),
            path: message.path.map(|path| self.path_rewrite(path)).transpose()?,
            status: status
                .ok_or_else(|| self.error("status", format!("{} is no redirect", message.status)))?,
        })
    }

    fn refused(&self, message: wire::Refused) -> Result<Refused> {
        let reason = Unroutable::ALL
            .into_iter()
            .find(|reason| reason.as_str() == message.reason);
        Ok(Refused {
            reason: reason.ok_or_else(|| self.error("reason", format!("{:?} is unknown", message.reason)))?,
            detail: message.detail.into(),
        })
    }
}
