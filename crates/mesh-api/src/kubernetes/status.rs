//! What has come of an object: the status that the control plane writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What has come of a ModelRoute
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelRouteStatus {
    /// The `metadata.generation` that this is about
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The weights in force, such as `stable=95 canary=5`; of several rules, each with its name, such as `gold: stable=1; rest: canary=1`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// How many of the proxies that use it serve this version of it, such as `4/4`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<String>,
    /// The version of the mesh's configuration that it came into force with
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The `spec` that is in force while the one that is written is refused: a control plane that starts meanwhile reads it
    #[schemars(schema_with = "in_force")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Value>,
    /// Whether it is accepted, what it refers to is there, and proxies serve it
    #[schemars(schema_with = "conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What has come of an object
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The `metadata.generation` that this is about
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many of the proxies that use it serve this version of it, such as `4/4`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<String>,
    /// The version of the mesh's configuration that it came into force with
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The `spec` that is in force while the one that is written is refused: a control plane that starts meanwhile reads it
    #[schemars(schema_with = "in_force")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Value>,
    /// Whether it is accepted, what it refers to is there, and proxies serve it
    #[schemars(schema_with = "conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The conditions of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// The object is valid and in force.
    Accepted,
    /// Every service and port it names is there.
    ResolvedRefs,
    /// Every proxy that uses it serves it.
    Programmed,
}

impl ConditionType {
    /// The type as conditions write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
        }
    }
}

/// A condition that holds (`true`), or does not, since `now`.
pub fn condition(
    of: ConditionType,
    holds: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Time,
) -> Condition {
    Condition {
        type_: of.as_str().into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: now,
    }
}

/// Conditions of an object, one of each type.
pub trait Conditions {
    /// Puts conditions in the place of those of their types. One whose status stays what it was keeps the time since
    /// when it is so.
    fn set(&mut self, new: impl IntoIterator<Item = Condition>);
}

impl Conditions for Vec<Condition> {
    fn set(&mut self, new: impl IntoIterator<Item = Condition>) {
        for mut condition in new {
            match self.iter_mut().find(|there| there.type_ == condition.type_) {
                Some(there) => {
                    if there.status == condition.status {
                        condition.last_transition_time = there.last_transition_time.clone();
                    }
                    *there = condition;
                }
                None => self.push(condition),
            }
        }
    }
}

/// Any object: what it says was checked when it was the `spec`, and is again when it is read.
fn in_force(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// As `metav1.Condition` is in the kinds of Kubernetes itself.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "`Accepted`, `ResolvedRefs` or `Programmed`"},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, in one word"},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, for people"},
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The `metadata.generation` that it is about",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "maxLength": 64, "description": "Since when its status is what it is",
                },
            },
        },
    })
}
