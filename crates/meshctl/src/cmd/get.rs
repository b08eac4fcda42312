//! `meshctl get`: the documents in force.

use clap::Args;
use mesh_api::document::{Document, Kind, parse_all};
use mesh_api::name::ObjectName;
use serde_json::{Value, json};

use super::{Context, Place};
use crate::cli;
use crate::documents::{self, InForce, meant};
use crate::error::Outcome;
use crate::kubernetes::{self, Cluster};
use crate::output::{Format, Style, Table, Text};

/// Flags of `meshctl get`.
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The kind: MeshConfig, Workload, Service, TrafficPolicy or ModelRoute, in any case, in the plural too; default: all
    #[arg(value_parser = cli::kind)]
    kind: Option<Kind>,
    /// The name, or namespace/name; default: all of the kind
    #[arg(requires = "kind")]
    name: Option<String>,
}

impl Get {
    /// Lists documents, or prints them as their authors wrote them.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let place = context.place().await?;
        if let Place::Kubernetes(cluster) = &place {
            return self.on_kubernetes(context, cluster).await;
        }
        let mut admin = place.admin().await?;
        let mut listed = documents::list(&mut admin, self.kind, None, None).await?;
        match (&self.kind, &self.name) {
            (Some(kind), Some(name)) => {
                let names = listed.iter().map(|it| it.document.id().name);
                let pairs: Vec<(ObjectName, ObjectName)> = names.map(|name| (name.clone(), name)).collect();
                let wanted = meant(kind.as_str(), name, context.namespace(), pairs)?;
                listed.retain(|it| it.document.id().name == wanted);
            }
            _ => listed.retain(|it| context.shows(&it.document.id().name)),
        }
        match context.globals.output {
            Format::Yaml => context.printer.data(&yaml(&listed)),
            Format::Json => {
                let documents: Vec<&Document> = listed.iter().map(|it| &it.document).collect();
                match (documents.as_slice(), &self.name) {
                    ([one], Some(_)) => context.printer.machine(Format::Json, one),
                    _ => context.printer.machine(Format::Json, &documents),
                }
            }
            _ if listed.is_empty() => {
                context.printer.say("no documents");
                Ok(())
            }
            _ => context.printer.data(&table(&listed).render()),
        }
    }
}

impl Get {
    /// Lists objects, or prints them as the API server has them.
    async fn on_kubernetes(&self, context: &Context, cluster: &Cluster) -> Outcome {
        let mut objects = kubernetes::documents::list(cluster, self.kind).await?;
        match (&self.kind, &self.name) {
            (Some(kind), Some(name)) => {
                let names = objects.iter().filter_map(object_name);
                let pairs: Vec<(ObjectName, ObjectName)> = names.map(|name| (name.clone(), name)).collect();
                let wanted = meant(kind.as_str(), name, context.namespace(), pairs)?;
                objects.retain(|object| object_name(object).as_ref() == Some(&wanted));
            }
            _ => objects.retain(|object| object_name(object).is_some_and(|name| context.shows(&name))),
        }
        match context.machine() {
            Some(Format::Yaml) => {
                let texts: Result<Vec<String>, _> = objects.iter().map(serde_saphyr::to_string).collect();
                context.printer.data(&texts?.join("---\n"))
            }
            Some(format) => match (objects.as_slice(), &self.name) {
                ([one], Some(_)) => context.printer.machine(format, one),
                _ => context.printer.machine(format, &objects),
            },
            None if objects.is_empty() => {
                context.printer.say("no documents");
                Ok(())
            }
            None => context.printer.data(&object_table(&objects).render()),
        }
    }
}

/// The name of an object of the API server.
pub(crate) fn object_name(object: &Value) -> Option<ObjectName> {
    let name = |field: &str| object["metadata"][field].as_str()?.parse().ok();
    Some(ObjectName::new(name("namespace")?, name("name")?))
}

fn object_table(objects: &[Value]) -> Table {
    let mut table = Table::new(&["KIND", "NAME", "SAYS", "ACCEPTED", "PROXIES"]);
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let accepted = conditions
            .into_iter()
            .find(|condition| condition["type"] == "Accepted");
        let name = object_name(object)
            .map(|name| name.to_string())
            .unwrap_or_default();
        table.row([
            text(&object["kind"]).into(),
            name.into(),
            object_says(object).into(),
            match accepted.map(|condition| (text(&condition["status"]), text(&condition["message"]))) {
                Some((status, _)) if status == "True" => Text::styled(Style::Good, "yes"),
                Some((_, message)) => Text::styled(Style::Bad, format!("no: {message}")),
                None => Text::styled(Style::Warn, "unknown"),
            },
            text(&object["status"]["proxies"]).into(),
        ]);
    }
    table
}

/// What an object says, in a few words; nothing when this release can't read it.
fn object_says(object: &Value) -> String {
    let metadata = &object["metadata"];
    let document = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": object["spec"],
    });
    let mut parsed = parse_all("-".as_ref(), &document.to_string()).into_iter();
    match parsed.next() {
        Some(Ok((document, _))) => summary(&document),
        _ => String::new(),
    }
}

/// As their authors wrote them, comments included.
fn yaml(listed: &[InForce]) -> String {
    let texts: Vec<String> = listed
        .iter()
        .map(|it| format!("{}\n", it.stored.yaml.trim_matches('\n')))
        .collect();
    texts.join("---\n")
}

fn table(listed: &[InForce]) -> Table {
    let mut table = Table::new(&["KIND", "NAME", "SAYS", "WHERE"]);
    for InForce { document, stored } in listed {
        let id = document.id();
        table.row([
            id.kind.to_string().into(),
            id.name.to_string().into(),
            summary(document).into(),
            format!("{}:{}", stored.file, stored.line).into(),
        ]);
    }
    table
}

/// What a document says, in a few words.
fn summary(document: &Document) -> String {
    match document {
        Document::MeshConfig(object) => {
            let mode = serde_json::to_value(object.spec.mtls).unwrap_or_default();
            let mode = mode.as_str().unwrap_or_default().to_owned();
            match &object.spec.trust_domain {
                Some(domain) => format!("trust domain {domain}, mtls {mode}"),
                None => format!("mtls {mode}"),
            }
        }
        Document::Service(object) => {
            let ports = object.spec.ports.iter();
            let ports: Vec<_> = ports
                .map(|port| format!("{}:{} {}", port.name, port.port, port.app_protocol))
                .collect();
            ports.join(", ")
        }
        Document::Workload(object) => {
            let ports = object.spec.ports.iter();
            let ports: Vec<_> = ports
                .map(|port| format!("{}:{}", port.name, port.reached_at()))
                .collect();
            let serves = if ports.is_empty() {
                "serves nothing".into()
            } else {
                ports.join(", ")
            };
            format!("{serves}, as {}", object.spec.service_account)
        }
        Document::ModelRoute(object) => {
            let rules = object.spec.rules.iter();
            let splits: Vec<String> = rules
                .map(|rule| {
                    let parts = rule.split.backends.iter();
                    let parts: Vec<_> = parts.map(|it| format!("{}={}", it.name, it.weight)).collect();
                    parts.join(" ")
                })
                .collect();
            format!("{}: {}", object.spec.service, splits.join("; "))
        }
        Document::TrafficPolicy(object) => {
            let algorithm = serde_json::to_value(object.spec.load_balancing.algorithm).unwrap_or_default();
            let algorithm = algorithm.as_str().unwrap_or_default().to_owned();
            format!("{}: {algorithm}", object.spec.service)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{documents, plain};

    #[test]
    fn documents_are_listed_with_where_they_stand() {
        insta::assert_snapshot!(plain(&table(&documents()).render()));
    }

    #[test]
    fn yaml_is_as_it_was_written() {
        let text = yaml(&documents()[..2]);
        assert!(text.contains("# mesh-wide"), "{text}");
        assert_eq!(text.matches("---\n").count(), 1);
    }
}
