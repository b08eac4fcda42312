//! The CustomResourceDefinitions of the kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::structural::structural;
use super::{CATEGORY, GROUP, MESH_CONFIG, ModelRouteStatus, Spec, Status, VERSION};
use crate::document::{Kind, MeshConfigSpec, ModelRouteSpec, TrafficPolicySpec};
use crate::route::MAX_BACKENDS;

/// The most rules of a ModelRoute that is a custom resource: what an object of 1.5 MiB, the most that etcd keeps, has room
/// for, and what bounds the cost of the rules below.
const MAX_RULES: usize = 4096;

/// What an object must be that a schema can't say, in CEL: where, the rule, and what to write instead.
struct Rule {
    /// The field, as a path of names; empty: the whole object.
    at: &'static str,
    rule: &'static str,
    message: &'static str,
}

/// Every CustomResourceDefinition.
///
/// # Errors
/// When a schema is not one; a test sees to it that they all are.
pub fn all() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [model_route(), traffic_policy(), mesh_config()]
        .into_iter()
        .map(serde_json::from_value)
        .collect()
}

/// The name of the file that a definition stands in, such as `modelroutes.yaml`.
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}.yaml", definition.spec.names.plural)
}

fn model_route() -> Value {
    let columns = json!([
        column("Service", "string", ".spec.service", "Whose requests it routes"),
        column("Weights", "string", ".status.weights", "The weights in force"),
        column(
            "Proxies",
            "string",
            ".status.proxies",
            "How many of the proxies that use it serve it"
        ),
        accepted(),
        wide(reason()),
        wide(column(
            "Version",
            "integer",
            ".status.version",
            "The version of the configuration that it came into force with"
        )),
        age(),
    ]);
    let rules = [
        Rule {
            at: "spec.rules.split",
            rule: "self.backends.exists(it, !has(it.weight) || it.weight > 0)",
            message: "all weights are 0, so that no backend would take a request: give one of them a weight",
        },
        Rule {
            at: "spec.rules.split.backends.model",
            rule: "has(self.name) || has(self.version)",
            message: "says neither name nor version: leave model out to change nothing",
        },
        Rule {
            at: "spec.rules.timeouts",
            rule: "[self.?firstByte, self.?idle, self.?total, self.?perTry].all(it, duration(it.orValue('1s')) > duration('0s'))",
            message: "0s would fail every request: leave the timeout out for none, or for the default",
        },
    ];
    let mut spec = schema::<ModelRouteSpec>();
    spec["properties"]["rules"]["maxItems"] = MAX_RULES.into();
    let backends = &mut spec["properties"]["rules"]["items"]["properties"]["split"]["properties"]["backends"];
    backends["maxItems"] = MAX_BACKENDS.into();
    backends["minItems"] = 1.into();
    definition::<ModelRouteSpec>("mr", &columns, &spec, &schema::<ModelRouteStatus>(), &rules)
}

fn traffic_policy() -> Value {
    let columns = json!([
        column(
            "Service",
            "string",
            ".spec.service",
            "The Service that it is about"
        ),
        column(
            "Algorithm",
            "string",
            ".spec.loadBalancing.algorithm",
            "How an endpoint is chosen"
        ),
        column(
            "Proxies",
            "string",
            ".status.proxies",
            "How many of the proxies that use it serve it"
        ),
        accepted(),
        wide(reason()),
        age(),
    ]);
    let rules = [
        Rule {
            at: "spec.connection",
            rule: "!has(self.connectTimeout) || (duration(self.connectTimeout) >= duration('1ms') && \
                duration(self.connectTimeout) <= duration('60s'))",
            message: "connectTimeout is not between 1ms and 60s",
        },
        Rule {
            at: "spec.connection",
            rule: "!has(self.idleTimeout) || duration(self.idleTimeout) <= duration('1h')",
            message: "idleTimeout is not between 0s and 1h",
        },
    ];
    let (spec, status) = (schema::<TrafficPolicySpec>(), schema::<Status>());
    definition::<TrafficPolicySpec>("tp", &columns, &spec, &status, &rules)
}

fn mesh_config() -> Value {
    let columns = json!([
        column("mTLS", "string", ".spec.mtls", "What inbound listeners accept"),
        column(
            "Proxies",
            "string",
            ".status.proxies",
            "How many of the proxies serve it"
        ),
        accepted(),
        wide(reason()),
        age(),
    ]);
    let rules = [
        Rule {
            at: "",
            rule: "self.metadata.name == 'mesh'",
            message: "a mesh has one MeshConfig, which stands in the control plane's namespace: name it mesh",
        },
        Rule {
            at: "spec.detection",
            rule: "!has(self.wait) || (duration(self.wait) >= duration('1ms') && duration(self.wait) <= duration('10s'))",
            message: "wait is not between 1ms and 10s",
        },
        Rule {
            at: "spec.telemetry.tracing.endpoint",
            rule: "self.startsWith('http://') && self.size() > 7",
            message: "write the collector's OTLP gRPC address, such as http://127.0.0.1:4317",
        },
    ];
    debug_assert_eq!(MESH_CONFIG, "mesh", "the rule says so");
    let (spec, status) = (schema::<MeshConfigSpec>(), schema::<Status>());
    definition::<MeshConfigSpec>("mc", &columns, &spec, &status, &rules)
}

fn definition<S: Spec>(
    short_name: &str,
    columns: &Value,
    spec: &Value,
    status: &Value,
    rules: &[Rule],
) -> Value {
    let kind = S::KIND.as_str();
    let mut root = json!({
        "type": "object",
        "description": description(S::KIND),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    });
    let label = Rule {
        at: "",
        rule: "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
        message: "metadata.name has more than 63 characters or a dot: the mesh takes neither",
    };
    for rule in [label].iter().chain(rules) {
        add(&mut root, rule);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", S::PLURAL),
            "labels": {"app.kubernetes.io/part-of": "mesh"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": S::PLURAL,
                "singular": kind.to_lowercase(),
                "shortNames": [short_name],
                "categories": [CATEGORY],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": root},
                "subresources": {"status": {}},
            }],
        },
    })
}

fn description(kind: Kind) -> &'static str {
    match kind {
        Kind::ModelRoute => "How requests to a Service are matched and split over backends",
        Kind::TrafficPolicy => "How endpoints of a Service are connected to and chosen",
        Kind::MeshConfig => "Mesh-wide settings",
        Kind::Workload | Kind::Service => "",
    }
}

/// The structural schema of what a type reads.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    structural(settings.into_generator().into_root_schema_for::<T>().as_value())
}

/// Puts a rule where it is to hold.
fn add(root: &mut Value, rule: &Rule) {
    let mut node = root;
    for name in rule.at.split('.').filter(|name| !name.is_empty()) {
        if node["type"] == "array" {
            node = &mut node["items"];
        }
        node = &mut node["properties"][name];
    }
    if node["type"] == "array" {
        node = &mut node["items"];
    }
    let mut all = node["x-kubernetes-validations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.push(json!({"rule": rule.rule, "message": rule.message}));
    node["x-kubernetes-validations"] = all.into();
}

fn column(name: &str, kind: &str, path: &str, description: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path, "description": description})
}

/// A column of `-o wide` alone.
fn wide(mut column: Value) -> Value {
    column["priority"] = 1.into();
    column
}

fn accepted() -> Value {
    let path = ".status.conditions[?(@.type==\"Accepted\")].status";
    column("Accepted", "string", path, "Whether it is valid and in force")
}

fn reason() -> Value {
    let path = ".status.conditions[?(@.type==\"Accepted\")].message";
    column("Message", "string", path, "Why it is accepted, or is not")
}

fn age() -> Value {
    column(
        "Age",
        "date",
        ".metadata.creationTimestamp",
        "Since when it is there",
    )
}
