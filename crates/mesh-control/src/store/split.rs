//! Setting the weights of a rule, and taking that back.

use std::collections::BTreeMap;

use mesh_api::document::{Document, Kind, ModelRouteSpec, Object, ObjectId, Source};
use mesh_api::name::{Name, ObjectName};
use mesh_api::snapshot::Version;

use super::history::Step;
use super::splice::{self, Weights};
use super::{Change, StoreError, document_of};
use crate::files::{Files, Writer};
use crate::index::Index;

/// Weights that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The ModelRoute.
    pub route: ObjectName,
    /// The rule.
    pub rule: String,
    /// Each backend's weight before, in the order of the document.
    pub before: Vec<(String, u32)>,
    /// Each backend's weight now.
    pub after: Vec<(String, u32)>,
    /// The version that has the change.
    pub version: Version,
}

/// Which rule's weights become what.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Where the route lives; empty: wherever there is one of that name.
    pub namespace: &'a str,
    /// The ModelRoute's name, or its service's, with a namespace or without.
    pub route: &'a str,
    /// The rule; empty: the only one that has all the backends named.
    pub rule: &'a str,
    /// Weights by backend; the others keep theirs.
    pub weights: &'a BTreeMap<String, u32>,
}

/// Sets weights of a rule in its document.
///
/// # Errors
/// When route, rule or backend is not there or not clear, when the weights are not valid, or when the file can't be
/// written.
pub fn set(files: &Files, wanted: &Wanted<'_>) -> Result<Changed, StoreError> {
    if wanted.weights.is_empty() {
        return Err(StoreError::Invalid(
            "no weights are given: name backends, such as stable=90 canary=10".into(),
        ));
    }
    let mut writer = files.lock();
    let id = find_route(&files.index(), wanted.namespace, wanted.route)?;
    let changed = write(files, &mut writer, &id, |object| {
        Ok((find_rule(object, wanted)?, wanted.weights.clone()))
    })?;
    let step = Step {
        route: changed.route.to_string(),
        rule: changed.rule.clone(),
        before: changed.before.iter().cloned().collect(),
    };
    if changed.before != changed.after
        && let Err(error) = writer.history.push(step)
    {
        tracing::warn!(%error, "the split is set, but it can't be taken back by undo");
    }
    Ok(changed)
}

/// Takes the last change of a route's weights back.
///
/// # Errors
/// When there is none, when its rule or backends are gone, or when the file can't be written.
pub fn undo(files: &Files, namespace: &str, route: &str) -> Result<Changed, StoreError> {
    let mut writer = files.lock();
    let id = find_route(&files.index(), namespace, route)?;
    let name = id.name.to_string();
    let Some(step) = writer.history.last(&name).cloned() else {
        return Err(StoreError::Unknown(format!(
            "no change of the split of {id} is remembered"
        )));
    };
    let changed = write(files, &mut writer, &id, |object| {
        let wanted = Wanted {
            namespace: "",
            route: "",
            rule: &step.rule,
            weights: &step.before,
        };
        Ok((find_rule(object, &wanted)?, step.before.clone()))
    })?;
    if let Err(error) = writer.history.pop(&name) {
        tracing::warn!(%error, "the history of splits can't be written");
    }
    Ok(changed)
}

fn write(
    files: &Files,
    writer: &mut Writer,
    id: &ObjectId,
    choose: impl FnOnce(&Object<ModelRouteSpec>) -> Result<(usize, Weights), StoreError>,
) -> Result<Changed, StoreError> {
    let mut change = Change::new(files, writer);
    let (source, object) = route_document(&mut change, id)?;
    let (rule, weights) = choose(&object)?;
    let text = splice::weights(&source, &object, rule, &weights).map_err(|error| StoreError::File {
        path: source.file.clone(),
        reason: error.to_string(),
    })?;
    if text != source.text {
        change.substitute(&source, &text)?;
    }
    let version = change.commit(false)?;
    Ok(Changed {
        route: id.name.clone(),
        rule: rule_name(&object, rule),
        before: weights_of(&object, rule),
        after: weights_of(&splice::intended(&object, rule, &weights), rule),
        version,
    })
}

fn route_document(
    change: &mut Change<'_>,
    id: &ObjectId,
) -> Result<(Source, Object<ModelRouteSpec>), StoreError> {
    let source = change
        .find(id)?
        .ok_or_else(|| StoreError::Unknown(format!("{id} has just been removed")))?;
    match document_of(&source)? {
        Document::ModelRoute(object) => Ok((source, object)),
        _ => Err(StoreError::Unknown(format!("there is no {id}"))),
    }
}

/// The route of this name, or of the service of this name.
fn find_route(index: &Index, namespace: &str, route: &str) -> Result<ObjectId, StoreError> {
    let invalid = |error: mesh_api::name::NameError| StoreError::Invalid(error.to_string());
    let (namespace, name) = match route.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (namespace, route),
    };
    let name: Name = name.parse().map_err(invalid)?;
    let namespace: Option<Name> = match namespace {
        "" => None,
        text => Some(text.parse().map_err(invalid)?),
    };
    let routes: Vec<_> = index
        .documents()
        .filter_map(|stored| match &stored.document {
            Document::ModelRoute(object) => Some(object),
            _ => None,
        })
        .collect();
    let here = |object: &&&Object<ModelRouteSpec>| {
        namespace
            .as_ref()
            .is_none_or(|namespace| object.metadata.namespace == *namespace)
    };
    let named: Vec<_> = routes
        .iter()
        .filter(here)
        .filter(|object| object.metadata.name == name)
        .collect();
    let found = match named.is_empty() {
        false => named,
        true => routes
            .iter()
            .filter(here)
            .filter(|object| object.spec.service == name)
            .collect(),
    };
    match found.as_slice() {
        [only] => Ok(only.id()),
        [] if routes.is_empty() => Err(StoreError::Unknown("there is no ModelRoute at all".into())),
        [] => Err(StoreError::Unknown(format!(
            "there is no ModelRoute {route}, and none for such a service: there is {}",
            list(routes.iter().map(|object| object.metadata.object_name()))
        ))),
        several => Err(StoreError::Invalid(format!(
            "{route} may be any of {}: name the namespace too",
            list(several.iter().map(|object| object.metadata.object_name()))
        ))),
    }
}

/// The rule that is meant.
fn find_rule(object: &Object<ModelRouteSpec>, wanted: &Wanted<'_>) -> Result<usize, StoreError> {
    let rules = 0..object.spec.rules.len();
    let names = |rule: usize| weights_of(object, rule).into_iter().map(|(name, _)| name);
    let has = |rule: usize| {
        wanted
            .weights
            .keys()
            .all(|name| names(rule).any(|there| there == *name))
    };
    let id = object.id();
    if !wanted.rule.is_empty() {
        let Some(rule) = rules.clone().find(|rule| rule_name(object, *rule) == wanted.rule) else {
            return Err(StoreError::Unknown(format!(
                "{id} has no rule {:?}: its rules are {}",
                wanted.rule.chars().take(80).collect::<String>(),
                list(rules.map(|rule| rule_name(object, rule)))
            )));
        };
        return match has(rule) {
            true => Ok(rule),
            false => Err(StoreError::Unknown(format!(
                "rule {} of {id} has no backend {}: its backends are {}",
                wanted.rule,
                list(
                    wanted
                        .weights
                        .keys()
                        .filter(|name| !names(rule).any(|there| there == **name))
                ),
                list(names(rule))
            ))),
        };
    }
    let found: Vec<usize> = rules.clone().filter(|rule| has(*rule)).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => {
            let rules = rules.map(|rule| format!("{} ({})", rule_name(object, rule), list(names(rule))));
            Err(StoreError::Unknown(format!(
                "no rule of {id} has all of the backends {}: its rules and their backends are {}",
                list(wanted.weights.keys()),
                list(rules)
            )))
        }
        several => Err(StoreError::Invalid(format!(
            "several rules of {id} have these backends: name one of {}",
            list(several.iter().map(|rule| rule_name(object, *rule)))
        ))),
    }
}

fn rule_name(object: &Object<ModelRouteSpec>, rule: usize) -> String {
    let named = object.spec.rules.get(rule).and_then(|rule| rule.name.as_ref());
    named.map_or_else(|| format!("rule-{rule}"), ToString::to_string)
}

fn weights_of(object: &Object<ModelRouteSpec>, rule: usize) -> Vec<(String, u32)> {
    let backends = object.spec.rules.get(rule).map(|rule| &rule.split.backends);
    backends
        .into_iter()
        .flatten()
        .map(|backend| (backend.name.to_string(), backend.weight))
        .collect()
}

/// The first twenty, so that an error stays readable.
fn list(names: impl Iterator<Item = impl ToString>) -> String {
    let mut names: Vec<String> = names
        .take(21)
        .map(|name| name.to_string().chars().take(80).collect())
        .collect();
    if names.len() > 20 {
        names[20] = "…".into();
    }
    names.join(", ")
}

/// The id of the ModelRoute, for messages and tests.
pub fn route_id(name: ObjectName) -> ObjectId {
    ObjectId {
        kind: Kind::ModelRoute,
        name,
    }
}
