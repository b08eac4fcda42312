//! `meshctl validate`: all that is wrong with documents, without a mesh.

use std::path::PathBuf;

use clap::Args;
use mesh_api::document::{Document, DocumentError, ObjectId, Source};
use mesh_api::validate::{self, Problem};
use serde::Serialize;

use super::Context;
use crate::documents::{FileText, parse, read_files};
use crate::error::{Failure, Outcome};
use crate::output::{Style, Text};

/// Flags of `meshctl validate`.
#[derive(Args, Debug)]
pub(crate) struct Validate {
    /// Files, folders of .yaml and .yml files, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    /// How many documents are good.
    pub(crate) documents: usize,
    /// What must be mended.
    pub(crate) errors: Vec<DocumentError>,
    /// What names something that is not there.
    pub(crate) warnings: Vec<DocumentError>,
}

impl Validate {
    /// Checks, tells, and fails when there is an error.
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let found = check(&read_files(&self.files)?);
        match context.machine() {
            Some(format) => context.printer.machine(format, &found)?,
            None => context.printer.data(&found.for_people())?,
        }
        if found.errors.is_empty() {
            Ok(())
        } else {
            Err(Failure::Silent)
        }
    }
}

/// All that is wrong with documents: each by itself, and beside the others.
pub(crate) fn check(texts: &[FileText]) -> Found {
    let mut found = Found::default();
    let mut good: Vec<(Document, Source)> = Vec::new();
    for parsed in parse(texts) {
        match parsed {
            Err(error) => found.errors.push(error),
            Ok((document, source)) => {
                let problems = validate::alone(&document);
                let twice = good.iter().find(|(other, _)| other.id() == document.id());
                if let Some((_, earlier)) = twice {
                    let reason = format!(
                        "{}:{} has {} already",
                        earlier.file.display(),
                        earlier.line,
                        document.id()
                    );
                    found
                        .errors
                        .push(source.error(Some(document.id()), "metadata.name", reason));
                } else if problems.is_empty() {
                    good.push((document, source));
                } else {
                    let errors = problems
                        .iter()
                        .map(|problem| error(&source, document.id(), problem));
                    found.errors.extend(errors);
                }
            }
        }
    }
    let together = validate::together(good.iter().map(|(document, _)| document));
    let place = |(id, problem): &(ObjectId, Problem)| {
        let source = good.iter().find(|(document, _)| document.id() == *id);
        source.map(|(_, source)| error(source, id.clone(), problem))
    };
    found.errors.extend(together.refused.iter().filter_map(place));
    found.warnings.extend(together.missing.iter().filter_map(place));
    found.documents = good.len() - together.refused.len().min(good.len());
    found
        .errors
        .sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    found
}

fn error(source: &Source, id: ObjectId, problem: &Problem) -> DocumentError {
    source.error(Some(id), &problem.field, problem.reason.clone())
}

impl Found {
    /// A line for each finding, and a last one that counts them.
    fn for_people(&self) -> String {
        let mut out = String::new();
        for (word, style, findings) in [
            ("error", Style::Bad, &self.errors),
            ("warning", Style::Warn, &self.warnings),
        ] {
            for finding in findings {
                let line = Text::styled(style, word).plain(format!(": {finding}"));
                out.push_str(&line.ansi());
                out.push('\n');
            }
        }
        let count = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        out.push_str(&format!(
            "{} in force, {}, {}\n",
            count(self.documents, "document"),
            count(self.errors.len(), "error"),
            count(self.warnings.len(), "warning")
        ));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: mesh.dev/v1alpha1\n";

    fn found(text: &str) -> Found {
        check(&[FileText {
            file: "mesh.yaml".into(),
            text: text.into(),
        }])
    }

    /// A document that is refused, and what the refusal says of it.
    const BAD: &[(&str, &str)] = &[
        ("just text", "mesh.yaml:1: "),
        ("{", "mesh.yaml:"),
        ("- a", "mesh.yaml:1: "),
        ("kind: Service\nmetadata: {name: a}", "apiVersion: missing"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}",
            "\"v1\" is not an API of this mesh",
        ),
        (
            "HEADkind: service\nmetadata: {name: a}",
            "\"service\" is written Service",
        ),
        (
            "HEADkind: VirtualNode\nmetadata: {name: a}",
            "unknown kind \"VirtualNode\"",
        ),
        ("HEADmetadata: {name: a}", "kind: missing"),
        ("HEADkind: Service\nspec: {ports: []}", "metadata"),
        (
            "HEADkind: Service\nmetadata: {name: A}\nspec: {ports: []}",
            "metadata.name",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a, nmaespace: b}\nspec: {ports: []}",
            "nmaespace",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a}\nspec: {ports: []}",
            "spec.ports: a service needs a port",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: h, port: 0}]}",
            "spec.ports[0].port",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: h, port: 65536}]}",
            "spec.ports[0].port",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: h, port: 1, appProtocol: soap}]}",
            "appProtocol",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: h, port: 1}, {name: h, port: 2}]}",
            "spec.ports[1].name",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: h, port: 1}], hosts: [\"a:1\"]}",
            "spec.hosts[0]",
        ),
        (
            "HEADkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: h, port: 1}], external: [{port: g, address: \"1.2.3.4:5\"}]}",
            "spec.external[0].port",
        ),
        (
            "HEADkind: Workload\nmetadata: {name: a}\nspec: {ports: [{name: h, port: 1, listen: 1}]}",
            "127.0.0.1:1 is used by an earlier port",
        ),
        (
            "HEADkind: Workload\nmetadata: {name: a}\nspec: {address: nowhere}",
            "spec.address",
        ),
        (
            "HEADkind: Workload\nmetadata: {name: a}\nspec: {command: {run: []}}",
            "spec.command.run: names no program",
        ),
        (
            "HEADkind: Workload\nmetadata: {name: a}\nspec: {command: {run: [x], ready: {port: 1, path: x}}}",
            "spec.command.ready.path",
        ),
        (
            "HEADkind: Workload\nmetadata: {name: a}\nspec: {command: {run: [x], ready: {port: 1, timeout: 5}}}",
            "spec.command.ready.timeout",
        ),
        (
            "HEADkind: Workload\nmetadata: {name: a}\nspec: {outbound: {localPorts: [{listen: 1, service: A}]}}",
            "spec.outbound.localPorts[0].service",
        ),
        (
            "HEADkind: MeshConfig\nmetadata: {name: a}\nspec: {trustDomain: A}",
            "spec.trustDomain",
        ),
        (
            "HEADkind: MeshConfig\nmetadata: {name: a}\nspec: {mtls: off}",
            "spec.mtls",
        ),
        (
            "HEADkind: MeshConfig\nmetadata: {name: a}\nspec: {inference: {readAheadBytes: 1}}",
            "spec.inference.readAheadBytes",
        ),
        (
            "HEADkind: TrafficPolicy\nmetadata: {name: a}\nspec: {service: a, loadBalancing: {algorithm: best}}",
            "algorithm",
        ),
        (
            "HEADkind: TrafficPolicy\nmetadata: {name: a}\nspec: {service: a, connection: {connectTimeout: 0s}}",
            "connectTimeout",
        ),
        (
            "HEADkind: ModelRoute\nmetadata: {name: a}\nspec: {service: a, rules: [{split: {backends: []}}]}",
            "spec.rules[0].split.backends: 0 backends",
        ),
        (
            "HEADkind: ModelRoute\nmetadata: {name: a}\nspec: {service: a}",
            "rules",
        ),
    ];

    #[test]
    fn every_bad_document_is_refused_with_its_reason() {
        for (text, expected) in BAD {
            let found = found(&text.replace("HEAD", HEAD));
            assert!(!found.errors.is_empty(), "{text}");
            let told = found.for_people();
            assert!(told.contains(expected), "{expected}: {told}");
            assert!(told.len() < 2_000, "{told}");
        }
    }

    #[test]
    fn all_errors_are_told_and_not_the_first() {
        let text: String = BAD
            .iter()
            .map(|(text, _)| format!("---\n{}\n", text.replace("HEAD", HEAD)))
            .collect();
        assert!(found(&text).errors.len() >= BAD.len());
    }

    #[test]
    fn what_documents_do_to_each_other_is_told() {
        let service =
            format!("{HEAD}kind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{{name: h, port: 1}}]}}\n");
        let route = |name: &str| {
            format!(
                "{HEAD}kind: ModelRoute\nmetadata: {{name: {name}}}\nspec: {{service: a, rules: [{{split: {{backends: [{{name: x, service: gone}}]}}}}]}}\n"
            )
        };
        let text = format!(
            "{service}---\n{service}---\n{}---\n{}",
            route("one"),
            route("two")
        );
        let found = found(&text);
        insta::assert_snapshot!(anstream::adapter::strip_str(&found.for_people()).to_string());
    }
}
