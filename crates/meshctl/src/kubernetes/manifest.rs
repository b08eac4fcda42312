//! An object as it should be: applied, compared, taken away.

use std::fmt;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Error};
use serde_json::Value;

use super::{Cluster, Resource, is_missing};

/// An object of a resource that meshctl knows.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// Of which resource.
    pub(crate) resource: &'static Resource,
    /// As it should be.
    pub(crate) object: Value,
}

/// What applying an object did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was not there.
    Created,
    /// Some of its fields were different.
    Configured(Vec<String>),
    /// It was so already.
    Unchanged,
}

impl Change {
    /// In a word.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured(_) => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

impl Manifest {
    /// An object of a resource that meshctl knows; none when it doesn't.
    pub(crate) fn of(object: Value) -> Option<Self> {
        let resource = Resource::of(object["kind"].as_str()?)?;
        object["metadata"]["name"].as_str()?;
        Some(Self { resource, object })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// Where its kind of objects is.
    pub(crate) fn api(&self, cluster: &Cluster) -> Api<DynamicObject> {
        self.resource.api(&cluster.client, self.namespace())
    }

    /// As it is now.
    pub(crate) async fn live(&self, cluster: &Cluster) -> Result<Option<Value>, Error> {
        match self.api(cluster).get_opt(self.name()).await {
            Ok(object) => object.map(as_value).transpose(),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies it on the server's side.
    pub(crate) async fn apply(
        &self,
        cluster: &Cluster,
        params: &PatchParams,
    ) -> Result<(Change, Value), Error> {
        let before = self.live(cluster).await?;
        let api = self.api(cluster);
        let applied = api
            .patch(self.name(), params, &Patch::Apply(&self.object))
            .await?;
        let after = as_value(applied)?;
        let change = match before {
            None => Change::Created,
            Some(before) => match changes(&before, &after) {
                fields if fields.is_empty() => Change::Unchanged,
                fields => Change::Configured(fields),
            },
        };
        Ok((change, after))
    }

    /// Takes it away, and whether it was there.
    pub(crate) async fn delete(&self, cluster: &Cluster) -> Result<bool, Error> {
        match self
            .api(cluster)
            .delete(self.name(), &DeleteParams::background())
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.resource.kind)?;
        if let Some(namespace) = self.namespace() {
            write!(f, "{namespace}/")?;
        }
        f.write_str(self.name())
    }
}

fn as_value(object: DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(Error::SerdeError)
}

/// The fields in which an object is another than before, such as `spec.replicas`; not those that servers count with.
pub(crate) fn changes(before: &Value, after: &Value) -> Vec<String> {
    let mut fields = Vec::new();
    different(&meant(before), &meant(after), "", &mut fields);
    fields
}

/// An object without what the API server keeps about it.
fn meant(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for name in [
                "managedFields",
                "resourceVersion",
                "generation",
                "uid",
                "creationTimestamp",
            ] {
                metadata.remove(name);
            }
        }
    }
    object
}

fn different(before: &Value, after: &Value, path: &str, fields: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let value =
                    |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                different(&value(one), &value(other), &path, fields);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                different(one, other, &format!("{path}[{index}]"), fields);
            }
        }
        (one, other) if one == other => {}
        _ => fields.push(path.to_owned()),
    }
}

/// The first field of `wanted` that `live` has otherwise; fields that `live` has beside them are others' business.
pub(crate) fn contains(live: &Value, wanted: &Value) -> Result<(), String> {
    fn walk(live: &Value, wanted: &Value, path: &str) -> Result<(), String> {
        match (live, wanted) {
            (Value::Object(live), Value::Object(wanted)) => {
                for (key, value) in wanted {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    walk(live.get(key).unwrap_or(&Value::Null), value, &path)?;
                }
                Ok(())
            }
            (Value::Array(live), Value::Array(wanted)) if live.len() == wanted.len() => {
                for (index, (live, wanted)) in live.iter().zip(wanted).enumerate() {
                    walk(live, wanted, &format!("{path}[{index}]"))?;
                }
                Ok(())
            }
            (live, wanted) if live == wanted => Ok(()),
            // 1 and 1.0 are one number to the API server.
            (Value::Number(live), Value::Number(wanted)) if live.as_f64() == wanted.as_f64() => Ok(()),
            // What the API server leaves out because it is empty.
            (Value::Null, Value::Array(list)) if list.is_empty() => Ok(()),
            (Value::Null, Value::Object(map)) if map.is_empty() => Ok(()),
            (Value::Null, Value::Bool(false)) => Ok(()),
            (Value::Null, Value::String(text)) if text.is_empty() => Ok(()),
            _ => Err(path.to_owned()),
        }
    }
    walk(live, wanted, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_are_named_by_field() {
        let before = json!({
            "metadata": {"name": "a", "resourceVersion": "1", "labels": {"x": "1"}},
            "spec": {"replicas": 1, "list": [{"a": 1}, {"a": 2}], "gone": true},
            "status": {"ready": 1},
        });
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = json!("2");
        after["status"]["ready"] = json!(2);
        assert!(changes(&before, &after).is_empty());
        after["spec"] = json!({"replicas": 2, "list": [{"a": 1}, {"a": 3}], "new": {}});
        assert_eq!(
            changes(&before, &after),
            ["spec.gone", "spec.list[1].a", "spec.new", "spec.replicas"]
        );
    }

    #[test]
    fn what_others_add_is_no_difference() {
        let live = json!({"a": 1, "n": 64, "b": {"c": [1, 2], "d": "x"}});
        for (wanted, found) in [
            (json!({"a": 1}), Ok(())),
            (json!({"n": 64.0}), Ok(())),
            (json!({"b": {"c": [1, 2]}}), Ok(())),
            (json!({"e": {}, "f": [], "g": "", "h": false}), Ok(())),
            (json!({"b": {"c": [1, 3]}}), Err("b.c[1]".to_owned())),
            (json!({"b": {"c": [1]}}), Err("b.c".to_owned())),
            (json!({"e": 1}), Err("e".to_owned())),
        ] {
            assert_eq!(contains(&live, &wanted), found, "{wanted}");
        }
    }
}
