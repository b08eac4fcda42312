//! The pods in Kubernetes objects: Pods themselves, templates of them, and lists.

use serde_json::Value;

use super::{Namespace, Outcome, Refusal, Settings, inject, uninject};
use crate::name::Name;

/// Which object a pod is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Of {
    /// The kind of the object, such as `Deployment`.
    pub kind: String,
    /// Its namespace; none: it names none.
    pub namespace: Option<String>,
    /// Its name, or what its name begins with.
    pub name: String,
}

/// Where an object has its pod; none: it has none.
fn place(object: &Value) -> Option<&'static [&'static str]> {
    let group = object["apiVersion"]
        .as_str()?
        .split_once('/')
        .map_or("", |(group, _)| group);
    match (group, object["kind"].as_str()?) {
        ("", "Pod") => Some(&[]),
        ("", "PodTemplate") => Some(&["template"]),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => Some(&["spec", "template"]),
        ("batch", "CronJob") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Injects every pod of an object: a Pod, a Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job,
/// CronJob or PodTemplate, or a List of them. Other kinds have none and stay as they are. `namespace` says what the
/// Namespace of each says; what it knows none for stays as it is too, and is not in the answer.
pub fn inject_all(
    object: &mut Value,
    namespace: impl Fn(&Of) -> Option<Namespace>,
    settings: &Settings,
) -> Vec<(Of, Outcome)> {
    let mut all = Vec::new();
    each(object, "", &mut |object, field| {
        let of = of(object);
        let (Some(place), Some(namespace)) = (place(object), namespace(&of)) else {
            return;
        };
        let outcome = inject_one(object, place, &namespace, settings);
        all.push((of, in_object(outcome, field)));
    });
    all
}

fn inject_one(object: &mut Value, place: &[&str], namespace: &Namespace, settings: &Settings) -> Outcome {
    let Some(pod) = pod(object, place) else {
        return Outcome::Refused(Refusal::new("spec", "is missing: this is no pod"));
    };
    match in_object(inject(pod, namespace, settings), &prefix(place)) {
        Outcome::Injected { pod: next, warnings } => {
            if let Some(refusal) = unnameable(object, place) {
                return Outcome::Refused(refusal);
            }
            if let Some(pod) = pod_mut(object, place) {
                pod.clone_from(&next);
            }
            Outcome::Injected { pod: next, warnings }
        }
        other => other,
    }
}

/// The outcome, with its fields named as those of the object that the pod is in.
fn in_object(outcome: Outcome, prefix: &str) -> Outcome {
    match outcome {
        Outcome::Injected { pod, warnings } => {
            let warnings = warnings.into_iter().map(|warning| format!("{prefix}{warning}"));
            Outcome::Injected {
                pod,
                warnings: warnings.collect(),
            }
        }
        Outcome::Refused(Refusal { field, reason }) => Outcome::Refused(Refusal {
            field: format!("{prefix}{field}"),
            reason,
        }),
        Outcome::Unchanged(reason) => Outcome::Unchanged(reason),
    }
}

/// Takes the sidecars out of every pod of an object that `wanted` says yes to, and says of each whether it had one.
pub fn uninject_all(object: &mut Value, wanted: impl Fn(&Of) -> bool) -> Vec<(Of, bool)> {
    let mut all = Vec::new();
    each(object, "", &mut |object, _| {
        let Some(place) = place(object).filter(|_| wanted(&of(object))) else {
            return;
        };
        let next = pod(object, place).and_then(uninject);
        let undone = next.is_some();
        if let (Some(next), Some(pod)) = (next, pod_mut(object, place)) {
            *pod = next;
        }
        all.push((of(object), undone));
    });
    all
}

fn each(object: &mut Value, field: &str, visit: &mut impl FnMut(&mut Value, &str)) {
    let is_list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match object.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) if is_list => {
            for (index, item) in items.iter_mut().enumerate() {
                each(item, &format!("{field}items[{index}]."), visit);
            }
        }
        _ => visit(object, field),
    }
}

fn of(object: &Value) -> Of {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Of {
        kind: text(&object["kind"]).unwrap_or_default(),
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"])
            .or_else(|| text(&metadata["generateName"]))
            .unwrap_or_default(),
    }
}

fn pod<'a>(object: &'a Value, place: &[&str]) -> Option<&'a Value> {
    let pod = place.iter().try_fold(object, |value, key| value.get(key))?;
    pod.get("spec").is_some_and(Value::is_object).then_some(pod)
}

fn pod_mut<'a>(object: &'a mut Value, place: &[&str]) -> Option<&'a mut Value> {
    place.iter().try_fold(object, |value, key| value.get_mut(key))
}

/// Pods are called after the object that makes them.
fn unnameable(object: &Value, place: &[&str]) -> Option<Refusal> {
    let name = object["metadata"]["name"]
        .as_str()
        .filter(|_| !place.is_empty())?;
    // Kubernetes cuts what is too long.
    let cut: String = name.chars().take(63).collect();
    let cut = cut.trim_end_matches('-');
    let wrong = cut.parse::<Name>().is_err();
    wrong.then(|| {
        Refusal::new(
            "metadata.name",
            format!("pods named after {name:?} have no name in the mesh: use a-z, 0-9 and '-'"),
        )
    })
}

/// What the fields of a pod begin with in the object that it is in.
fn prefix(place: &[&str]) -> String {
    place.iter().map(|key| format!("{key}.")).collect()
}
