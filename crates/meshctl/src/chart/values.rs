//! The chart's values: their type, which the chart's schema is made from, and how files and flags change the defaults.

use std::collections::BTreeMap;

use mesh_api::inject::PullSecret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Values of the mesh's chart
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Values {
    /// Two replicas of the control plane on different nodes, and a budget that keeps one while nodes are drained
    pub(crate) ha: bool,
    /// Where images come from
    pub(crate) images: Images,
    /// The control plane
    pub(crate) control: Control,
    /// What every injected proxy is set to
    pub(crate) proxy: Proxy,
    /// The webhook that gives pods a proxy
    pub(crate) inject: Webhook,
    /// The webhook that checks documents
    pub(crate) validate: Webhook,
}

/// Where images come from
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Images {
    /// Before every image's name, such as registry.example.com/mesh; empty: none
    pub(crate) registry: String,
    /// When images are pulled
    pub(crate) pull_policy: PullPolicy,
    /// Secrets with which images are pulled: of the mesh's namespace, and of each namespace whose pods get a proxy
    pub(crate) pull_secrets: Vec<PullSecret>,
    /// The control plane's image
    pub(crate) control: Image,
    /// The proxy's image
    pub(crate) proxy: Image,
}

/// When images are pulled
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// An image
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// Its name, behind the registry
    #[schemars(length(min = 1))]
    pub(crate) name: String,
    /// Its tag; empty: the chart's own version
    pub(crate) tag: String,
    /// Such as sha256:…; goes before the tag
    pub(crate) digest: String,
}

/// The control plane
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Control {
    /// How many replicas; 0: one, or two with ha
    pub(crate) replicas: u8,
    /// The first part of every identity
    #[schemars(length(min = 1))]
    pub(crate) trust_domain: String,
    /// How long proxies' certificates are good for
    #[schemars(length(min = 1))]
    pub(crate) leaf_lifetime: String,
    /// The form of its log
    pub(crate) log_format: LogFormat,
    /// Its priority class
    pub(crate) priority_class_name: String,
    /// What its container asks for and may use
    pub(crate) resources: Resources,
    /// The nodes it may run on, by label
    pub(crate) node_selector: BTreeMap<String, String>,
    /// The taints it tolerates
    pub(crate) tolerations: Vec<Map<String, Value>>,
    /// More labels of its pods
    pub(crate) pod_labels: BTreeMap<String, String>,
    /// More annotations of its pods
    pub(crate) pod_annotations: BTreeMap<String, String>,
}

/// What every injected proxy is set to, unless its pod says otherwise by annotation
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Proxy {
    /// The user and group it runs as; no container of a workload may run as this user
    #[schemars(range(min = 1, max = 2_147_483_647_u32))]
    pub(crate) uid: u32,
    /// How much it says in its log: error, warn, info, debug, or by module
    #[schemars(length(min = 1))]
    pub(crate) log: String,
    /// The form of its log
    pub(crate) log_format: LogFormat,
    /// Worker threads; 0: one for each core that it may use
    #[schemars(range(max = 1024))]
    pub(crate) workers: u16,
    /// What it asks for and may use
    pub(crate) resources: Resources,
    /// What the init container, which leads connections to it, asks for and may use
    pub(crate) init_resources: Resources,
    /// Whether it is an init container with restartPolicy Always, which Kubernetes has since 1.29
    pub(crate) native_sidecar: bool,
    /// Whether the kubelet's probes are led through it, so that they work in strict mode
    pub(crate) rewrite_probes: bool,
    /// Ports of workloads that others reach directly
    pub(crate) skip_inbound_ports: Vec<Ports>,
    /// Ports elsewhere that workloads reach directly
    pub(crate) skip_outbound_ports: Vec<Ports>,
    /// Networks that workloads reach directly
    pub(crate) skip_cidrs: Vec<String>,
    /// How long requests in flight have to end once a proxy is told to; empty: until Kubernetes ends the pod
    pub(crate) drain_limit: String,
}

/// A port such as 22, or several such as 9000-9010
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(missing_docs)]
pub(crate) enum Ports {
    One(u16),
    Several(String),
}

/// The form of a log
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What a container asks for and may use
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Resources {
    /// What is kept for it
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) requests: BTreeMap<String, String>,
    /// What it may use at most
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) limits: BTreeMap<String, String>,
}

/// A webhook
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Webhook {
    /// What the API server does while no control plane answers
    pub(crate) failure_policy: FailurePolicy,
    /// How long it waits for an answer, in seconds
    #[schemars(range(min = 1, max = 30))]
    pub(crate) timeout_seconds: u8,
}

/// What the API server does while no control plane answers
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)]
pub(crate) enum FailurePolicy {
    Fail,
    Ignore,
}

/// The schema of the chart's values, in the draft that every Helm 3 reads. A test keeps the chart's file in step.
#[cfg(test)]
pub(crate) fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft07();
    let schema = settings.into_generator().into_root_schema_for::<Values>();
    schema.to_value()
}

/// Checks values.
///
/// # Errors
/// Which field is wrong, and why.
pub(crate) fn check(values: &Value) -> Result<Values, String> {
    serde_path_to_error::deserialize(values).map_err(|error| match error.path().to_string().as_str() {
        "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    })
}

/// Puts values over others, as Helm does: maps are merged, everything else is replaced, null takes a value away.
pub(crate) fn merge(over: &mut Value, values: Value) {
    match (over, values) {
        (Value::Object(over), Value::Object(values)) => {
            for (key, value) in values {
                if value.is_null() {
                    over.remove(&key);
                } else {
                    merge(over.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (over, values) => *over = values,
    }
}

/// Reads `PATH=VALUE`, such as `images.registry=example.com`, as values. The value is a number, `true`, `false`, JSON in
/// brackets, braces or quotes, or else text; a dot of a key is written `\.`.
///
/// # Errors
/// What can't be read.
pub(crate) fn assignment(text: &str) -> Result<Value, String> {
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not PATH=VALUE, such as images.registry=example.com"))?;
    let mut keys = vec![String::new()];
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        let last = keys.len() - 1;
        match letter {
            '.' => keys.push(String::new()),
            '\\' => keys[last].extend(letters.next()),
            letter => keys[last].push(letter),
        }
    }
    if keys.iter().any(String::is_empty) {
        return Err(format!("{path:?} is not a path: a name is missing"));
    }
    let json = value.starts_with(['[', '{', '"']) || ["true", "false", "null"].contains(&value);
    let value = if json {
        serde_json::from_str(value).map_err(|error| format!("{value} is not JSON: {error}"))?
    } else {
        value
            .parse::<i64>()
            .map_or_else(|_| Value::from(value), Value::from)
    };
    Ok(keys
        .into_iter()
        .rev()
        .fold(value, |value, key| Value::Object(Map::from_iter([(key, value)]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn assignments_are_values() {
        for (text, value) in [
            ("ha=true", json!({"ha": true})),
            ("a.b=7", json!({"a": {"b": 7}})),
            ("a.b=\"7\"", json!({"a": {"b": "7"}})),
            ("a=1.0", json!({"a": "1.0"})),
            ("a=", json!({"a": ""})),
            ("a=b=c", json!({"a": "b=c"})),
            ("a=[{\"name\":\"x\"}]", json!({"a": [{"name": "x"}]})),
            (
                "n.kubernetes\\.io/os=linux",
                json!({"n": {"kubernetes.io/os": "linux"}}),
            ),
        ] {
            assert_eq!(assignment(text), Ok(value), "{text}");
        }
        for text in ["ha", "=1", "a..b=1", "a={", "a=[1"] {
            assert!(assignment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_merged_as_helm_does() {
        let mut values = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        merge(&mut values, json!({"a": {"c": [3], "e": {"f": 1}}, "d": null}));
        assert_eq!(values, json!({"a": {"b": 1, "c": [3], "e": {"f": 1}}}));
    }
}
