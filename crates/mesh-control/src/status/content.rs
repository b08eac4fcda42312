//! What the status of an object says: a function of the objects and of the proxies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_api::document::{Document, ModelRouteSpec};
use mesh_api::kubernetes::{ConditionType, Conditions, ModelRouteStatus, condition};
use mesh_api::name::{Name, ObjectName};
use mesh_api::snapshot::Version;
use mesh_api::validate::Problem;
use serde_json::Value;

use super::others::{self, Told};
use super::reach::{Count, Reach};
use crate::catalog::Catalog;
use crate::catalog::documents::Verdict;

/// The longest message and list of weights, in characters.
const MAX_MESSAGE: usize = 1_000;
const MAX_WEIGHTS: usize = 256;

/// What the status of an object says now.
pub fn status(
    catalog: &Catalog,
    verdict: &Verdict<'_>,
    reach: &Reach,
    others: &[Told],
    published: Version,
    now: &Time,
) -> ModelRouteStatus {
    let written = verdict.written;
    let generation = Some(written.generation);
    let said = |of, holds: Result<(&str, String), (&str, String)>| {
        let (status, (reason, message)) = match holds {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        condition(of, status, reason, message, generation, now.clone())
    };
    let own = verdict.in_force.and_then(|document| count(reach, document));
    let count = verdict.in_force.and_then(|_| others::all(own, others, written));
    let missing = verdict.in_force.map(|document| catalog.missing(document));
    let mut conditions = written.status.conditions.clone();
    conditions.set([
        said(ConditionType::Accepted, accepted(verdict)),
        said(ConditionType::ResolvedRefs, resolved(missing.as_deref())),
        said(ConditionType::Programmed, programmed(verdict, count.as_ref())),
    ]);
    // It is in force since then, whoever holds the lease.
    let before = &written.status;
    let known = before
        .version
        .filter(|_| before.observed_generation == generation);
    ModelRouteStatus {
        observed_generation: generation,
        weights: verdict.in_force.and_then(|document| weights(document)),
        proxies: verdict.in_force.map(|_| {
            let Count { using, serving, .. } = count.clone().unwrap_or_default();
            format!("{serving}/{using}")
        }),
        version: verdict.in_force.map(|_| known.unwrap_or(published.0)),
        in_force: kept(verdict),
        conditions,
    }
}

/// What is in force of an object that is refused.
fn kept(verdict: &Verdict<'_>) -> Option<Value> {
    verdict.written.content.as_ref().err()?;
    let spec = match &**verdict.in_force? {
        Document::ModelRoute(object) => serde_json::to_value(&object.spec),
        Document::TrafficPolicy(object) => serde_json::to_value(&object.spec),
        Document::MeshConfig(object) => serde_json::to_value(&object.spec),
        Document::Service(_) | Document::Workload(_) => return None,
    };
    spec.ok()
}

/// A condition's reason and message: of one that holds, or does not.
type Said = Result<(&'static str, String), (&'static str, String)>;

fn accepted(verdict: &Verdict<'_>) -> Said {
    if verdict.refused.is_empty() {
        return Ok(("Accepted", "it is valid and in force".into()));
    }
    let reason = if verdict.written.content.is_err() {
        "Invalid"
    } else {
        "Conflicted"
    };
    let kept = match verdict.in_force {
        Some(_) => "; what it said before is in force",
        None => "",
    };
    Err((reason, format!("{}{kept}", list(&verdict.refused))))
}

fn resolved(missing: Option<&[Problem]>) -> Said {
    match missing {
        None => Err(("NotAccepted", "nothing is in force of it".into())),
        Some([]) => Ok(("ResolvedRefs", "all that it names is there".into())),
        Some(missing) => Err(("BackendNotFound", list(missing))),
    }
}

fn programmed(verdict: &Verdict<'_>, count: Option<&Count>) -> Said {
    if !verdict.refused.is_empty() {
        return Err(("NotAccepted", "what is written is not in force".into()));
    }
    match count {
        None | Some(Count { using: 0, .. }) => Ok(("NotUsed", "no proxy uses it".into())),
        Some(count) if count.serving == count.using => {
            Ok(("Programmed", "all proxies that use it serve it".into()))
        }
        Some(Count {
            refusal: Some(refusal),
            ..
        }) => Err(("Refused", refusal.clone())),
        Some(_) => Err(("Pending", "proxies have yet to take it".into())),
    }
}

fn list(problems: &[Problem]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

/// How far an object in force has come with the proxies of this replica.
pub(super) fn count<'a>(reach: &'a Reach, document: &Document) -> Option<&'a Count> {
    let namespace = document.id().name.namespace;
    let here = |service: &Name| ObjectName::new(namespace.clone(), service.clone());
    match document {
        Document::ModelRoute(object) => reach.routes.get(&here(&object.spec.service)),
        Document::TrafficPolicy(object) => reach.policies.get(&here(&object.spec.service)),
        Document::MeshConfig(_) => Some(&reach.mesh),
        Document::Service(_) | Document::Workload(_) => None,
    }
}

/// The weights of a route's rules.
fn weights(document: &Document) -> Option<String> {
    let Document::ModelRoute(object) = document else {
        return None;
    };
    let text = weights_of(&object.spec);
    if text.chars().count() <= MAX_WEIGHTS {
        return Some(text);
    }
    Some(text.chars().take(MAX_WEIGHTS - 1).chain(['…']).collect())
}

fn weights_of(spec: &ModelRouteSpec) -> String {
    let rules: Vec<_> = spec
        .rules
        .iter()
        .enumerate()
        .map(|(at, rule)| {
            let backends = rule.split.backends.iter();
            let weights: Vec<_> = backends.map(|it| format!("{}={}", it.name, it.weight)).collect();
            let name = rule
                .name
                .as_ref()
                .map_or_else(|| format!("rule-{at}"), ToString::to_string);
            (name, weights.join(" "))
        })
        .collect();
    match rules.as_slice() {
        [(_, weights)] => weights.clone(),
        several => {
            let several: Vec<_> = several
                .iter()
                .map(|(name, weights)| format!("{name}: {weights}"))
                .collect();
            several.join("; ")
        }
    }
}

#[cfg(test)]
mod tests;
