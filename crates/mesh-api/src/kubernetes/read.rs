//! From an object as the API server has it to a document: the one reading for whatever lists, watches or is asked to admit
//! objects.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::{API_VERSION, Document, Kind, Metadata, Object};
use crate::name::Name;
use crate::validate::Problem;

/// Reads an object of one of the kinds that are custom resources. What it says by itself is not checked any further:
/// [`crate::validate::alone`] does.
///
/// # Errors
/// When it is none, or says what such a document may not say: the field, and what is wrong with it.
pub fn read(object: &Value) -> Result<Document, Problem> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") != API_VERSION {
        let reason = format!(
            "{:?} is not an API of this mesh: write {API_VERSION}",
            text("apiVersion")
        );
        return Err(Problem::new("apiVersion", reason));
    }
    let word = text("kind");
    let kind = word.parse().ok().filter(|kind: &Kind| kind.as_str() == word);
    match kind {
        Some(Kind::ModelRoute) => Ok(Document::ModelRoute(parts(Kind::ModelRoute, object)?)),
        Some(Kind::TrafficPolicy) => Ok(Document::TrafficPolicy(parts(Kind::TrafficPolicy, object)?)),
        Some(Kind::MeshConfig) => Ok(Document::MeshConfig(parts(Kind::MeshConfig, object)?)),
        Some(Kind::Workload | Kind::Service) | None => {
            let reason =
                format!("{word:?} is no kind of this API: use ModelRoute, TrafficPolicy or MeshConfig");
            Err(Problem::new("kind", reason))
        }
    }
}

fn parts<S: DeserializeOwned>(kind: Kind, object: &Value) -> Result<Object<S>, Problem> {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name =
        |field: &str, default: Option<Name>| match (metadata.get(field).and_then(Value::as_str), default) {
            (None, Some(default)) => Ok(default),
            (text, _) => text
                .unwrap_or_default()
                .parse()
                .map_err(|error: crate::name::NameError| {
                    Problem::new(format!("metadata.{field}"), error.to_string())
                }),
        };
    Ok(Object {
        api_version: API_VERSION.into(),
        kind,
        metadata: Metadata {
            name: name("name", None)?,
            namespace: name("namespace", Some(Name::default_namespace()))?,
            labels: field("metadata.labels", metadata.get("labels"))?.unwrap_or_default(),
            annotations: field("metadata.annotations", metadata.get("annotations"))?.unwrap_or_default(),
        },
        spec: field("spec", object.get("spec"))?.ok_or_else(|| Problem::new("spec", "missing"))?,
    })
}

/// Reads a part of an object; an error names the field within it.
fn field<T: DeserializeOwned>(at: &str, value: Option<&Value>) -> Result<Option<T>, Problem> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    serde_path_to_error::deserialize(value)
        .map(Some)
        .map_err(|error| {
            let within = error.path().to_string();
            let at = if within == "." {
                at.to_owned()
            } else {
                format!("{at}.{within}")
            };
            // Bounded, so that nobody's megabyte ends in a log.
            let reason: String = error.into_inner().to_string().chars().take(300).collect();
            Problem::new(at, reason)
        })
}
