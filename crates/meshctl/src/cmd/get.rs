//! `meshctl get`: the documents in force.

use clap::Args;
use mesh_api::document::{Document, Kind};
use mesh_api::name::ObjectName;

use super::Context;
use crate::cli;
use crate::documents::{self, InForce, meant};
use crate::error::Outcome;
use crate::output::{Format, Table};

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
        let mut admin = context.admin().await?;
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
