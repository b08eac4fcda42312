//! Which rule of a route a change of weights is meant for.

use std::collections::BTreeMap;

use mesh_api::name::Name;
use mesh_api::route::{Route, Rule};

use crate::error::{Failure, Outcome};

/// The rule named, or the only one that has all these backends.
pub(super) fn rule_for<'a>(
    route: &'a Route,
    named: Option<&Name>,
    weights: &BTreeMap<Name, u32>,
) -> Outcome<&'a Rule> {
    let lacks = |rule: &Rule| {
        let known = |name: &Name| rule.backends().iter().any(|it| it.name == *name);
        weights.keys().find(|name| !known(name)).cloned()
    };
    if let Some(name) = named {
        let rule = route.rules.iter().find(|rule| rule.name == *name);
        let rule = rule.ok_or_else(|| no_rule(route, name))?;
        return match lacks(rule) {
            None => Ok(rule),
            Some(backend) => Err(Failure::new(format!("rule {name} has no backend {backend}"))
                .hint(format!("it has {}", backends(rule)))),
        };
    }
    let fits: Vec<&Rule> = route.rules.iter().filter(|rule| lacks(rule).is_none()).collect();
    match fits.as_slice() {
        [one] => Ok(one),
        [] => {
            let names: Vec<String> = weights.keys().map(ToString::to_string).collect();
            let there = route.rules.iter();
            let there: Vec<String> = there
                .map(|rule| format!("rule {} has {}", rule.name, backends(rule)))
                .collect();
            Err(Failure::new(format!(
                "no rule of ModelRoute {} has {}",
                route.name(),
                names.join(" and ")
            ))
            .hint(there.join("; ")))
        }
        several => {
            let names: Vec<String> = several.iter().map(|rule| rule.name.to_string()).collect();
            Err(Failure::new(format!(
                "several rules of ModelRoute {} have these backends: {}",
                route.name(),
                names.join(", ")
            ))
            .hint("say which with --rule"))
        }
    }
}

pub(super) fn no_rule(route: &Route, name: &Name) -> Failure {
    let names: Vec<String> = route.rules.iter().map(|rule| rule.name.to_string()).collect();
    Failure::new(format!("ModelRoute {} has no rule {name}", route.name()))
        .hint(format!("it has {}", names.join(", ")))
}

fn backends(rule: &Rule) -> String {
    let names: Vec<&str> = rule.backends().iter().map(|it| it.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::route;

    fn weights(pairs: &[(&str, u32)]) -> BTreeMap<Name, u32> {
        pairs
            .iter()
            .map(|(name, it)| (name.parse().unwrap(), *it))
            .collect()
    }

    #[test]
    fn the_rule_is_the_one_that_has_the_backends() {
        let route = route();
        let rule = |named: Option<&str>, pairs: &[(&str, u32)]| {
            let named = named.map(|it| it.parse().unwrap());
            rule_for(&route, named.as_ref(), &weights(pairs))
                .map(|rule| rule.name.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(rule(None, &[("canary", 10)]).unwrap(), "rule-0");
        assert_eq!(rule(Some("gold"), &[("stable", 1)]).unwrap(), "gold");
        assert_eq!(
            rule(None, &[("stable", 1)]).unwrap_err(),
            "several rules of ModelRoute ml/fraud have these backends: rule-0, gold"
        );
        assert_eq!(
            rule(None, &[("blue", 1)]).unwrap_err(),
            "no rule of ModelRoute ml/fraud has blue"
        );
        assert_eq!(
            rule(Some("gold"), &[("canary", 1)]).unwrap_err(),
            "rule gold has no backend canary"
        );
        assert_eq!(
            rule(Some("lead"), &[("canary", 1)]).unwrap_err(),
            "ModelRoute ml/fraud has no rule lead"
        );
    }
}
