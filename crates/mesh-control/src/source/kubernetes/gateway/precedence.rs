//! In which order a Service's rules are asked. The Gateway API gives the order to matches, whatever route or rule they
//! stand in; here each becomes a rule of its own, and neighbours that come to the same are one.

use std::cmp::Reverse;

use mesh_api::document::{PathMatch, RetriesSpec};
use mesh_api::name::ObjectName;
use mesh_api::route::{
    Action, CallerMatch, Match, Origin, PathRewrite, Refused, Rule, Scope, Split, Timeouts, Unroutable,
};

use super::attach::Group;
use super::backends::{Resolved, ResolvedRule};
use super::names::Names;

/// How much a match asks for; more comes first (Gateway API, HTTPRouteRule and GRPCRouteRule, "matches").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// The path to the letter.
    pub(super) exact_path: bool,
    /// So many characters of the path or, of calls, of the service.
    pub(super) path: usize,
    /// A method: any, or so many characters of a call's.
    pub(super) method: usize,
    /// So many headers.
    pub(super) headers: usize,
    /// So many parameters of the query.
    pub(super) query: usize,
}

/// A match with what comes of it.
struct Draft<'a> {
    rank: Rank,
    resolved: &'a Resolved<'a>,
    rule: &'a ResolvedRule<'a>,
    wanted: &'a Match,
}

/// The rules of a Service, in order. Where no rule takes a request that routes are for, it is refused.
pub(super) fn rules<'a>(
    service: &ObjectName,
    groups: impl Iterator<Item = &'a Group>,
    resolved: &[Resolved<'_>],
) -> Vec<Rule> {
    let mut names = Names::default();
    let mut rules = Vec::new();
    for group in groups {
        let of: Vec<&Resolved<'_>> = group.routes.iter().filter_map(|at| resolved.get(*at)).collect();
        let mut drafts: Vec<Draft<'_>> = of.iter().flat_map(|resolved| drafts(resolved)).collect();
        // A stable sort: what ranks alike stays in the order of routes, rules and matches.
        drafts.sort_by_key(|draft| Reverse(draft.rank));
        for drafts in drafts.chunk_by(Draft::comes_to_the_same) {
            rules.extend(drafts.first().map(|first| first.rule(group, drafts, &mut names)));
        }
        rules.push(otherwise(service, group, &of, &mut names));
    }
    rules
}

fn drafts<'a>(resolved: &'a Resolved<'a>) -> impl Iterator<Item = Draft<'a>> {
    let rules = resolved.rules.iter();
    rules.flat_map(move |rule| {
        let matches = rule.rule.matches.iter();
        matches.map(move |(rank, wanted)| Draft {
            rank: *rank,
            resolved,
            rule,
            wanted,
        })
    })
}

impl Draft<'_> {
    fn comes_to_the_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.rule, other.rule) && !self.rule.replaces_prefix()
    }

    /// The rule of this match and others that come to the same.
    fn rule(&self, group: &Group, all: &[Draft<'_>], names: &mut Names) -> Rule {
        let (route, parts) = (self.resolved.route, self.rule.rule);
        let prefix = match &self.wanted.path {
            Some(PathMatch::Under { under }) => under.as_str(),
            _ => "",
        };
        let origin = route.origin();
        let action = match &parts.redirect {
            Some(redirect) => {
                let mut redirect = redirect.clone();
                if let Some(to) = &parts.filters.replace_prefix {
                    redirect.path = Some(PathRewrite::prefix(prefix, to));
                }
                Action::Redirect(Box::new(redirect))
            }
            None => self.rule.split(prefix, &origin),
        };
        let mut filters = parts.filters.under(prefix);
        if parts.redirect.is_some() {
            filters.path = None;
        }
        Rule {
            name: names.unique(&format!("{}-{}", route.key.name, parts.label)),
            origin,
            scope: scope(group),
            matches: matches(group, all.iter().map(|draft| draft.wanted)),
            filters: filters.boxed(),
            action,
            timeouts: parts.timeouts,
            retry_attempts: RetriesSpec::default().attempts,
        }
    }
}

impl ResolvedRule<'_> {
    fn replaces_prefix(&self) -> bool {
        let backends = self.backends.iter().map(|(_, filters)| *filters);
        backends
            .chain([&self.rule.filters])
            .any(|filters| filters.replace_prefix.is_some())
    }

    fn split(&self, prefix: &str, origin: &Origin) -> Action {
        let backends = self
            .backends
            .iter()
            .map(|(backend, filters)| mesh_api::route::Backend {
                filters: filters.under(prefix).boxed(),
                ..backend.clone()
            });
        let backends: Vec<_> = backends.collect();
        let total = backends.iter().map(|backend| u64::from(backend.weight)).sum();
        if total == 0 {
            let what = if backends.is_empty() {
                "names no backend"
            } else {
                "gives no backend a weight"
            };
            return Action::Refuse(Refused {
                reason: Unroutable::NoBackend,
                detail: format!("rule {} of {origin} {what}", self.rule.label).into(),
            });
        }
        Action::Split(Split {
            by: None,
            backends,
            total,
        })
    }
}

/// What matches ask for, with the caller that they are asked of; none: they ask for nothing.
fn matches<'a>(group: &Group, wanted: impl Iterator<Item = &'a Match>) -> Vec<Match> {
    let caller = group.consumer.as_ref().map(|namespace| CallerMatch {
        namespace: namespace.clone(),
        account: None,
    });
    let all: Vec<Match> = wanted
        .map(|it| Match {
            caller: caller.clone(),
            ..it.clone()
        })
        .collect();
    if all.contains(&Match::default()) {
        Vec::new()
    } else {
        all
    }
}

fn scope(group: &Group) -> Scope {
    Scope {
        port: group.port.clone(),
        service_alone: true,
    }
}

/// What becomes of requests that no rule of a group takes.
fn otherwise(service: &ObjectName, group: &Group, of: &[&Resolved<'_>], names: &mut Names) -> Rule {
    let routes: Vec<String> = of
        .iter()
        .map(|it| it.route.origin().to_string())
        .take(8)
        .collect();
    let origin = match of.first() {
        Some(first) => first.route.origin(),
        None => Origin::new("Service", service.namespace.as_str(), service.name.as_str()),
    };
    Rule {
        name: names.unique("otherwise"),
        origin,
        scope: scope(group),
        matches: matches(group, std::iter::once(&Match::default())),
        filters: None,
        action: Action::Refuse(Refused {
            reason: Unroutable::NoRule,
            detail: format!("no rule of {} takes the request", routes.join(" or ")).into(),
        }),
        timeouts: Timeouts::default(),
        retry_attempts: RetriesSpec::default().attempts,
    }
}
