//! Routes.

use http::{HeaderName, HeaderValue};

use crate::document::{HeaderMatch, PathMatch, StringMatch};
use crate::route::{
    Action, Backend, Filters, HeaderEdits, Key, Match, Origin, PathRewrite, Redirect, Refused, Route, Rule,
    Split, header_text,
};
use crate::wire::config as wire;

impl From<&Route> for wire::Route {
    fn from(route: &Route) -> Self {
        let own = route.object.as_ref().map(Origin::model_route);
        Self {
            service: route.service.to_string(),
            object: route.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            rules: route.rules.iter().map(|it| rule(it, own.as_ref())).collect(),
        }
    }
}

/// `own`: what the rules were made from that do not say it.
fn rule(rule: &Rule, own: Option<&Origin>) -> wire::Rule {
    let millis = |duration: std::time::Duration| duration.as_millis() as u64;
    let origin = Some(&rule.origin).filter(|origin| own != Some(origin));
    wire::Rule {
        name: rule.name.to_string(),
        matches: rule.matches.iter().map(Into::into).collect(),
        first_byte_timeout_ms: rule.timeouts.first_byte.map(millis),
        idle_timeout_ms: rule.timeouts.idle.map(millis),
        total_timeout_ms: rule.timeouts.total.map(millis),
        per_try_timeout_ms: rule.timeouts.per_try.map(millis),
        retry_attempts: rule.retry_attempts.into(),
        origin: origin.map(ToString::to_string).unwrap_or_default(),
        port: rule
            .scope
            .port
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        service_alone: rule.scope.service_alone,
        filters: rule.filters.as_deref().map(Into::into),
        action: Some(match &rule.action {
            Action::Split(split) => wire::rule::Action::Split(split.into()),
            Action::Redirect(redirect) => wire::rule::Action::Redirect(redirect.as_ref().into()),
            Action::Refuse(refused) => wire::rule::Action::Refused(refused.into()),
        }),
    }
}

impl From<&Filters> for wire::Filters {
    fn from(filters: &Filters) -> Self {
        let edits = |edits: &HeaderEdits| (!edits.is_empty()).then(|| edits.into());
        Self {
            request: edits(&filters.request),
            response: edits(&filters.response),
            host: filters
                .host
                .as_ref()
                .map(|host| host.authority().to_string())
                .unwrap_or_default(),
            path: filters.path.as_ref().map(Into::into),
        }
    }
}

impl From<&HeaderEdits> for wire::HeaderEdits {
    fn from(edits: &HeaderEdits) -> Self {
        let pairs = |pairs: &[(HeaderName, HeaderValue)]| {
            let pairs = pairs.iter().map(|(name, value)| wire::Header {
                name: name.to_string(),
                value: header_text(value).into_owned(),
            });
            pairs.collect()
        };
        Self {
            remove: edits.remove.iter().map(ToString::to_string).collect(),
            set: pairs(&edits.set),
            add: pairs(&edits.add),
        }
    }
}

impl From<&PathRewrite> for wire::PathRewrite {
    fn from(rewrite: &PathRewrite) -> Self {
        let how = match rewrite {
            PathRewrite::Full(path) => wire::path_rewrite::How::Full(path.to_string()),
            PathRewrite::Prefix { from, to } => wire::path_rewrite::How::Prefix(wire::PrefixRewrite {
                from: from.to_string(),
                to: to.to_string(),
            }),
        };
        Self { how: Some(how) }
    }
}

impl From<&Redirect> for wire::Redirect {
    fn from(redirect: &Redirect) -> Self {
        Self {
            scheme: redirect
                .scheme
                .map(|it| it.as_str().to_owned())
                .unwrap_or_default(),
            host: redirect.host.as_deref().unwrap_or_default().to_owned(),
            port: redirect.port.unwrap_or_default().into(),
            path: redirect.path.as_ref().map(Into::into),
            status: redirect.status.as_u16().into(),
        }
    }
}

impl From<&Refused> for wire::Refused {
    fn from(refused: &Refused) -> Self {
        Self {
            reason: refused.reason.as_str().into(),
            detail: refused.detail.to_string(),
        }
    }
}

impl From<&Match> for wire::Match {
    fn from(wanted: &Match) -> Self {
        let header = |wanted: &HeaderMatch| match wanted {
            HeaderMatch::Exact(text) => wire::string_match::How::Exact(text.clone()),
            HeaderMatch::Prefix { prefix } => wire::string_match::How::Prefix(prefix.clone()),
            HeaderMatch::Present { present } => wire::string_match::How::Present(*present),
        };
        Self {
            model: wanted.model.as_ref().map(string_match),
            version: wanted.version.as_ref().map(string_match),
            operations: wanted.operations.iter().map(ToString::to_string).collect(),
            method: wanted
                .method
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            path: wanted.path.as_ref().map(path_match),
            query: wanted
                .query
                .iter()
                .map(|(name, value)| (name.to_string(), string_match(value)))
                .collect(),
            headers: wanted
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        wire::StringMatch {
                            how: Some(header(value)),
                        },
                    )
                })
                .collect(),
            caller: wanted.caller.as_ref().map_or_else(String::new, |caller| {
                let account = caller.account.as_ref().map_or("*", |account| account.as_str());
                format!("{}/{account}", caller.namespace)
            }),
        }
    }
}

fn path_match(wanted: &PathMatch) -> wire::StringMatch {
    let how = match wanted {
        PathMatch::Exact(text) => wire::string_match::How::Exact(text.clone()),
        PathMatch::Prefix { prefix } => wire::string_match::How::Prefix(prefix.clone()),
        PathMatch::Suffix { suffix } => wire::string_match::How::Suffix(suffix.clone()),
        PathMatch::Under { under } => wire::string_match::How::Under(under.clone()),
    };
    wire::StringMatch { how: Some(how) }
}

fn string_match(wanted: &StringMatch) -> wire::StringMatch {
    let how = match wanted {
        StringMatch::Exact(text) => wire::string_match::How::Exact(text.clone()),
        StringMatch::Prefix { prefix } => wire::string_match::How::Prefix(prefix.clone()),
    };
    wire::StringMatch { how: Some(how) }
}

impl From<&Split> for wire::Split {
    fn from(split: &Split) -> Self {
        Self {
            by: split.by.as_ref().map(|by| match by {
                Key::Header(name) => wire::split::By::Header(name.to_string()),
                Key::Caller => wire::split::By::Caller(true),
            }),
            backends: split.backends.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Backend> for wire::Backend {
    fn from(backend: &Backend) -> Self {
        let rewrite = backend.rewrite.as_ref();
        Self {
            name: backend.name.to_string(),
            service: backend.service.to_string(),
            port: backend.port.as_ref().map(ToString::to_string).unwrap_or_default(),
            weight: backend.weight,
            model_name: rewrite
                .and_then(|it| it.name.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            model_version: rewrite
                .and_then(|it| it.version.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            filters: backend.filters.as_deref().map(Into::into),
            invalid: backend.invalid.as_deref().unwrap_or_default().to_owned(),
        }
    }
}
