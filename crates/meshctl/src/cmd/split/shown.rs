//! Splits, and changes of them, as they are shown.

use mesh_api::name::Name;
use mesh_api::route::{Route, Rule};
use mesh_api::wire::admin::Traffic;
use serde::Serialize;

use super::kubernetes::Served;
use crate::acks::Acks;
use crate::cmd::Context;
use crate::error::Outcome;
use crate::output::{Style, Table, Text, percent, share};
use crate::{traffic, words};

/// For machines: what was, what is, and who serves it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changed {
    pub(super) route: String,
    pub(super) rule: String,
    pub(super) before: Vec<(String, u32)>,
    pub(super) after: Vec<(String, u32)>,
    pub(super) dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxies: Option<Acks>,
    /// As the status of an object on Kubernetes tells it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) served: Option<Served>,
}

/// Tells what changed.
pub(super) fn tell(context: &Context, changed: &Changed) -> Outcome {
    if let Some(format) = context.machine() {
        return context.printer.machine(format, changed);
    }
    context.printer.data(&for_people(changed))
}

fn for_people(changed: &Changed) -> String {
    let weights = |pairs: &[(String, u32)]| {
        let parts: Vec<String> = pairs
            .iter()
            .map(|(name, weight)| format!("{name}={weight}"))
            .collect();
        parts.join(" ")
    };
    let line = Text::styled(Style::Strong, changed.route.clone())
        .plain(format!(" {}: ", changed.rule))
        .and(Style::Faint, weights(&changed.before))
        .plain(" → ")
        .and(Style::Strong, weights(&changed.after));
    let suffix = match (&changed.proxies, &changed.served, changed.dry_run) {
        (_, _, true) => "nothing changed (dry run)\n".to_owned(),
        (Some(acks), _, _) => format!("{}\n", acks.in_words()),
        (None, Some(served), _) => format!("{} proxies at {}\n", served.proxies, served.version),
        (None, None, _) => String::new(),
    };
    format!("{}\n{suffix}", line.ansi())
}

/// Rules with their backends: weights, shares, and what was seen of them.
pub(super) fn shown(route: &Route, rules: &[&Rule], seen: &Traffic) -> String {
    let mut out = String::new();
    for (index, rule) in rules.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let head = Text::styled(Style::Strong, route.name().to_string())
            .plain(format!(" {}: {}", rule.name, words::rule(rule)))
            .and(
                Style::Faint,
                words::key(rule).map(|it| format!(" · {it}")).unwrap_or_default(),
            );
        out.push_str(&format!("{}\n", head.ansi()));
        let of = |backend: Option<&Name>| {
            let paths = seen.paths.iter().filter(|path| {
                let same = traffic::service(path).is_some_and(|service| service == route.service);
                let backend = backend.is_none_or(|name| path.backend == name.as_str());
                !path.inbound && same && path.rule == rule.name.as_str() && backend
            });
            paths.map(|path| path.requests).sum::<u64>()
        };
        let all = of(None);
        let mut table = Table::new(&["BACKEND", ">WEIGHT", ">SHARE", ">SEEN", "SERVICE"]);
        for backend in rule.backends() {
            let rewrite = words::rewrite(backend)
                .map(|it| format!(" {it}"))
                .unwrap_or_default();
            table.row([
                backend.name.to_string().into(),
                backend.weight.to_string().into(),
                share(backend.weight, rule.total()).into(),
                percent(of(Some(&backend.name)), all).into(),
                format!("{}{rewrite}", backend.service).into(),
            ]);
        }
        out.push_str(&table.render());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{plain, route, traffic};

    #[test]
    fn splits_are_shown_with_what_was_seen() {
        let route = route();
        let rules: Vec<&Rule> = route.rules.iter().collect();
        insta::assert_snapshot!(plain(&shown(&route, &rules, &traffic())));
    }

    #[test]
    fn a_change_is_told_before_and_after() {
        let pairs = |a: u32, b: u32| vec![("stable".to_owned(), a), ("canary".to_owned(), b)];
        let changed = Changed {
            route: "ml/fraud".into(),
            rule: "rule-0".into(),
            before: pairs(95, 5),
            after: pairs(50, 50),
            dry_run: false,
            proxies: Some(Acks {
                version: 812,
                serving: 4,
                ..Acks::default()
            }),
            served: None,
        };
        assert_eq!(
            plain(&for_people(&changed)),
            "ml/fraud rule-0: stable=95 canary=5 → stable=50 canary=50\n4/4 proxies at 812\n"
        );
    }
}
