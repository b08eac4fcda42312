//! What a kind is on Kubernetes: how kubectl names and lists it, what is refused by the API server already, and what its
//! status says.

use std::fmt::Write as _;

use mesh_api::document::Kind;
use mesh_api::kubernetes;
use serde_json::Value;

use super::cell;

/// The section about a kind; empty for a kind that is none of Kubernetes.
pub(super) fn section(kind: Kind) -> String {
    let all = kubernetes::crds().unwrap_or_default();
    let Some(definition) = all.iter().find(|it| it.spec.names.kind == kind.as_str()) else {
        return String::new();
    };
    let definition = serde_json::to_value(definition).unwrap_or_default();
    let names = &definition["spec"]["names"];
    let version = &definition["spec"]["versions"][0];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "## On Kubernetes\n\n`kubectl get {}` (`{}`), and `kubectl get {}` for all kinds of the mesh:\n\n| column | |\n| --- | --- |\n",
        word(&names["plural"]),
        word(&names["shortNames"][0]),
        word(&names["categories"][0]),
    );
    // Writing to a String can't fail.
    for column in version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let wide = if column["priority"] == 1 {
            " (`-o wide`)"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "| `{}` | {}{wide} |",
            word(&column["name"]),
            cell(&word(&column["description"]))
        );
    }
    let schema = &version["schema"]["openAPIV3Schema"];
    out.push_str("\nIts status, which the control plane writes:\n\n| field | |\n| --- | --- |\n");
    for (name, field) in schema["properties"]["status"]["properties"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let _ = writeln!(out, "| `{name}` | {} |", cell(&word(&field["description"])));
    }
    let mut refused = Vec::new();
    messages(schema, &mut refused);
    out.push_str("\nThe API server itself refuses, beside what the fields' types say:\n\n");
    for message in refused {
        let _ = writeln!(out, "- {message}");
    }
    if schema
        .to_string()
        .contains(r#""x-kubernetes-list-map-keys":["name"]"#)
    {
        out.push_str("\nLists of what has a name are merged by it in server-side apply; there, the name is required.\n");
    }
    out.push('\n');
    out
}

/// What the rules of a schema say, from the top down.
fn messages(node: &Value, found: &mut Vec<String>) {
    let rules = node["x-kubernetes-validations"].as_array().into_iter().flatten();
    found.extend(
        rules
            .filter_map(|rule| rule["message"].as_str())
            .map(str::to_owned),
    );
    for (_, field) in node["properties"].as_object().into_iter().flatten() {
        messages(field, found);
    }
    if node["items"].is_object() {
        messages(&node["items"], found);
    }
}
