//! Weights of a ModelRoute on Kubernetes, by server-side apply. Only the weights are applied, by a field manager of their
//! own: tools that apply the rest of the object don't undo them, and can see whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams};
use mesh_api::document::{ModelRouteSpec, RuleSpec};
use mesh_api::name::{Name, ObjectName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::rule::rule_for;
use super::shown::{Changed, tell};
use super::{Split, Wanted};
use crate::cmd::Context;
use crate::error::{Failure, Outcome};
use crate::kubernetes::{Cluster, Resource, conflicts, documents, refused};
use mesh_api::route::Route;

/// Who owns the weights that are set here.
pub(crate) const MANAGER: &str = "meshctl-split";
/// The annotation with the weights before each change, the latest last.
const HISTORY: &str = "mesh.dev/split-history";
/// The most changes that are remembered.
const MAX_STEPS: usize = 20;
/// How often the status is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The weights of a rule, by backend.
type Weights = BTreeMap<String, u32>;

/// A change that can be taken back.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Step {
    rule: String,
    before: Weights,
}

/// How many proxies serve a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Served {
    /// Such as `4/4`.
    pub(super) proxies: String,
    /// The version that has the change.
    pub(super) version: u64,
}

/// All ModelRoutes, with what they say.
pub(super) async fn routes(cluster: &Cluster) -> Outcome<BTreeMap<ObjectName, (Value, ModelRouteSpec)>> {
    let listed = resource()?
        .api(&cluster.client, None)
        .list(&ListParams::default())
        .await;
    let listed = listed.map_err(|error| refused("cannot see the ModelRoutes", &error))?;
    let mut routes = BTreeMap::new();
    for object in listed {
        let object = serde_json::to_value(object)?;
        // An object that is no ModelRoute in this release's eyes has no split to show or change.
        if let (Some(name), Ok(spec)) = (name_of(&object), serde_json::from_value(object["spec"].clone())) {
            routes.insert(name, (object, spec));
        }
    }
    Ok(routes)
}

fn resource() -> Outcome<&'static Resource> {
    Resource::of("ModelRoute").ok_or_else(|| Failure::new("ModelRoute is no known kind"))
}

fn name_of(object: &Value) -> Option<ObjectName> {
    let name = |field: &str| object["metadata"][field].as_str()?.parse::<Name>().ok();
    Some(ObjectName::new(name("namespace")?, name("name")?))
}

impl Split {
    /// Changes or takes back, and waits for the proxies.
    pub(super) async fn write(
        &self,
        context: &Context,
        cluster: &Cluster,
        route: &Route,
        object: &Value,
        wanted: &Wanted,
    ) -> Outcome {
        let mut history = history(object);
        let (rule, weights) = match wanted {
            Wanted::Weights(weights) => {
                let rule = rule_for(route, self.rule.as_ref(), weights)?;
                let weights = weights.iter().map(|(name, weight)| (name.to_string(), *weight));
                (rule.name.to_string(), weights.collect::<Weights>())
            }
            Wanted::Undo | Wanted::Show => {
                let step = history.pop().ok_or_else(|| {
                    Failure::new(format!("ModelRoute {} has no change to take back", route.name()))
                })?;
                (step.rule, step.before)
            }
        };
        let before = weights_of(object, &rule);
        let after: Weights = before
            .iter()
            .map(|(name, weight)| (name.clone(), *weights.get(name).unwrap_or(weight)))
            .collect();
        if matches!(wanted, Wanted::Weights(_)) {
            history.push(Step {
                rule: rule.clone(),
                before: before.iter().cloned().collect(),
            });
        }
        let patch = patch(object, &rule, &after, &history);
        let applied = self.apply(cluster, route, &patch).await?;
        let (served, complaint) = self.served(cluster, route, &applied).await?;
        let changed = Changed {
            route: route.name().to_string(),
            rule: rule.clone(),
            before,
            after: weights_of(&applied, &rule),
            dry_run: false,
            proxies: None,
            served,
        };
        tell(context, &changed)?;
        let Some(complaint) = complaint else {
            return Ok(());
        };
        context.printer.error(&complaint);
        context
            .printer
            .hint("`meshctl check` finds what is wrong; `meshctl split ROUTE undo` takes the change back");
        Err(Failure::Silent)
    }

    async fn apply(&self, cluster: &Cluster, route: &Route, patch: &Value) -> Outcome<Value> {
        let name = route.name();
        let api = resource()?.api(&cluster.client, Some(name.namespace.as_str()));
        let mut params = PatchParams::apply(MANAGER);
        params.force = self.force_conflicts;
        let error = match api.patch(name.name.as_str(), &params, &Patch::Apply(patch)).await {
            Ok(applied) => return Ok(serde_json::to_value(applied)?),
            Err(error) => error,
        };
        let conflicts = conflicts(&error);
        let what = format!("cannot change ModelRoute {name}");
        if conflicts.is_empty() {
            return Err(refused(&what, &error));
        }
        // What `meshctl apply` has set is the same person's to change here.
        if conflicts
            .iter()
            .all(|conflict| conflict.owner == documents::MANAGER)
        {
            let applied = api
                .patch(name.name.as_str(), &params.force(), &Patch::Apply(patch))
                .await;
            return Ok(serde_json::to_value(
                applied.map_err(|error| refused(&what, &error))?,
            )?);
        }
        let lines: Vec<String> = conflicts
            .iter()
            .map(|it| format!("{} owns {}", it.owner, it.field))
            .collect();
        Err(Failure::new(format!(
            "the weights of ModelRoute {name} belong to somebody else:\n{}",
            lines.join("\n")
        ))
        .hint("--force-conflicts takes them over; leave weight out of what that owner applies, or it sets them back"))
    }

    /// Waits until the status tells that the proxies serve it, and says what is wrong if they don't.
    async fn served(
        &self,
        cluster: &Cluster,
        route: &Route,
        applied: &Value,
    ) -> Outcome<(Option<Served>, Option<String>)> {
        let name = route.name();
        let api = resource()?.api(&cluster.client, Some(name.namespace.as_str()));
        let generation = applied["metadata"]["generation"].as_i64();
        let end = Instant::now() + self.timeout;
        loop {
            let object = api.get(name.name.as_str()).await;
            let object = object.map_err(|error| refused(&format!("cannot see ModelRoute {name}"), &error))?;
            let status = serde_json::to_value(object)?["status"].take();
            let seen = verdict(&status, generation);
            let late = Instant::now() >= end;
            match seen {
                Seen::Served(served) => return Ok((Some(served), None)),
                Seen::Refused(reason) => return Ok((None, Some(reason))),
                Seen::Lagging(served) if late => {
                    let says = format!("only {} proxies serve it", served.proxies);
                    return Ok((Some(served), Some(says)));
                }
                Seen::Unseen if late => {
                    return Ok((None, Some("the control plane has not taken it up yet".into())));
                }
                Seen::Lagging(_) | Seen::Unseen => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// What a status says of a generation.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Unseen,
    Lagging(Served),
    Served(Served),
    Refused(String),
}

fn verdict(status: &Value, generation: Option<i64>) -> Seen {
    if status["observedGeneration"].as_i64() < generation {
        return Seen::Unseen;
    }
    let condition = |name: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().find(|condition| condition["type"] == name)
    };
    if let Some(refused) = condition("Accepted").filter(|it| it["status"] == "False") {
        let part = |name: &str| refused[name].as_str().unwrap_or_default();
        return Seen::Refused(format!(
            "it is not in force: {}: {}",
            part("reason"),
            part("message")
        ));
    }
    let served = Served {
        proxies: status["proxies"].as_str().unwrap_or("0/0").to_owned(),
        version: status["version"].as_u64().unwrap_or_default(),
    };
    match condition("Programmed").is_some_and(|it| it["status"] == "True") {
        true => Seen::Served(served),
        false => Seen::Lagging(served),
    }
}

/// The changes that an object remembers. What can't be read is forgotten: it is a convenience.
fn history(object: &Value) -> Vec<Step> {
    let text = object["metadata"]["annotations"][HISTORY].as_str();
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The weights of a rule, in its order.
fn weights_of(object: &Value, rule: &str) -> Vec<(String, u32)> {
    let rules = object["spec"]["rules"].as_array().into_iter().flatten();
    let read = rules.filter_map(|it| serde_json::from_value::<RuleSpec>(it.clone()).ok());
    let mut fitting = read.filter(|it| it.name.as_ref().is_some_and(|name| name.as_str() == rule));
    let backends = fitting.next().map(|rule| rule.split.backends).unwrap_or_default();
    backends
        .into_iter()
        .map(|backend| (backend.name.to_string(), backend.weight))
        .collect()
}

/// What is applied: all weights of the rule, and those of other rules that were set here before, which would be given up
/// if they were left out.
fn patch(object: &Value, rule: &str, weights: &Weights, history: &[Step]) -> Value {
    let own = owned(object);
    let mut rules = Vec::new();
    for name in object["spec"]["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["name"].as_str())
    {
        let backends: Vec<Value> = weights_of(object, name)
            .into_iter()
            .filter(|(backend, _)| name == rule || own.contains(&(name.to_owned(), backend.clone())))
            .map(|(backend, weight)| {
                let weight = weights
                    .get(&backend)
                    .filter(|_| name == rule)
                    .copied()
                    .unwrap_or(weight);
                json!({"name": backend, "weight": weight})
            })
            .collect();
        if !backends.is_empty() {
            rules.push(json!({"name": name, "split": {"backends": backends}}));
        }
    }
    let recent = &history[history.len().saturating_sub(MAX_STEPS)..];
    json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {
            "name": object["metadata"]["name"],
            "namespace": object["metadata"]["namespace"],
            // Whoever deletes the object meanwhile does not get half of it back.
            "uid": object["metadata"]["uid"],
            "annotations": {HISTORY: serde_json::to_string(recent).unwrap_or_default()},
        },
        "spec": {"rules": rules},
    })
}

/// The weights that were set here before, as rule and backend.
fn owned(object: &Value) -> BTreeSet<(String, String)> {
    let named = |fields: &Value| -> Vec<(String, Value)> {
        let fields: &Map<String, Value> = match fields.as_object() {
            Some(fields) => fields,
            None => return Vec::new(),
        };
        let named = fields.iter().filter_map(|(key, value)| {
            let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            Some((key["name"].as_str()?.to_owned(), value.clone()))
        });
        named.collect()
    };
    let managers = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten();
    let mut own = BTreeSet::new();
    for manager in managers.filter(|it| it["manager"] == MANAGER && it["operation"] == "Apply") {
        for (rule, fields) in named(&manager["fieldsV1"]["f:spec"]["f:rules"]) {
            for (backend, fields) in named(&fields["f:split"]["f:backends"]) {
                if fields.get("f:weight").is_some() {
                    own.insert((rule.clone(), backend));
                }
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Value {
        let backend = |name: &str, weight: u32| json!({"name": name, "service": format!("fraud-{name}"), "weight": weight});
        json!({
            "apiVersion": "mesh.dev/v1alpha1",
            "kind": "ModelRoute",
            "metadata": {
                "name": "fraud", "namespace": "ml", "uid": "7",
                "annotations": {HISTORY: r#"[{"rule":"gold","before":{"stable":100}}]"#},
                "managedFields": [
                    {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:rules": {}}}},
                    {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:rules": {
                        "k:{\"name\":\"gold\"}": {".": {}, "f:name": {}, "f:split": {"f:backends": {
                            "k:{\"name\":\"stable\"}": {".": {}, "f:name": {}, "f:weight": {}},
                        }}},
                    }}}},
                ],
            },
            "spec": {"service": "fraud", "rules": [
                {"name": "gold", "split": {"backends": [backend("stable", 90), backend("canary", 10)]}},
                {"name": "rest", "split": {"backends": [backend("stable", 95), backend("canary", 5)]}},
                {"name": "other", "split": {"backends": [backend("stable", 1)]}},
            ]},
        })
    }

    #[test]
    fn only_weights_are_applied_and_none_that_were_set_here_is_given_up() {
        let object = object();
        let mut history = history(&object);
        history.push(Step {
            rule: "rest".into(),
            before: weights_of(&object, "rest").into_iter().collect(),
        });
        let weights = Weights::from([("stable".into(), 50), ("canary".into(), 50)]);
        insta::assert_yaml_snapshot!(patch(&object, "rest", &weights, &history));
    }

    #[test]
    fn the_history_is_bounded() {
        let step = Step {
            rule: "rest".into(),
            before: Weights::new(),
        };
        let steps = vec![step; 50];
        let patch = patch(&object(), "rest", &Weights::new(), &steps);
        assert_eq!(history(&patch).len(), MAX_STEPS);
        let mut rubbish = object();
        rubbish["metadata"]["annotations"][HISTORY] = json!("rubbish");
        assert!(history(&rubbish).is_empty());
    }

    #[test]
    fn a_status_is_about_its_own_generation() {
        let programmed = |status: &str| json!([{"type": "Accepted", "status": "True"}, {"type": "Programmed", "status": status}]);
        let served = Served {
            proxies: "4/4".into(),
            version: 812,
        };
        for (status, seen) in [
            (json!(null), Seen::Unseen),
            (
                json!({"observedGeneration": 1, "conditions": programmed("True")}),
                Seen::Unseen,
            ),
            (
                json!({"observedGeneration": 2, "proxies": "4/4", "version": 812, "conditions": programmed("True")}),
                Seen::Served(served.clone()),
            ),
            (
                json!({"observedGeneration": 2, "proxies": "4/4", "version": 812, "conditions": programmed("False")}),
                Seen::Lagging(served),
            ),
            (
                json!({"observedGeneration": 2, "conditions": [
                    {"type": "Accepted", "status": "False", "reason": "Invalid", "message": "spec.service: bad"},
                ]}),
                Seen::Refused("it is not in force: Invalid: spec.service: bad".into()),
            ),
        ] {
            assert_eq!(verdict(&status, Some(2)), seen, "{status}");
        }
    }
}
