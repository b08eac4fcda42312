//! `meshctl reference`: what is written from the types: the reference documentation (a page and a schema per kind, a page
//! about injection, one about the command line) and the CustomResourceDefinitions.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use mesh_api::document::Kind;
use mesh_api::{inject, schema};
use serde_json::{Map, Value};

use super::Context;
use crate::cli::Cli;
use crate::error::Outcome;
use crate::rewrite::block;

mod kubernetes;

/// Flags of `meshctl reference`.
#[derive(Args, Debug)]
pub(crate) struct Reference {
    /// The folder to write pages and schemas to
    #[arg(long, default_value = "docs/reference")]
    dir: PathBuf,
    /// The folder to write CustomResourceDefinitions to
    #[arg(long, default_value = "charts/mesh/crds")]
    crds: PathBuf,
}

impl Reference {
    /// Writes all pages and definitions.
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        for (dir, files) in [(&self.dir, pages()), (&self.crds, definitions()?)] {
            for (name, text) in files {
                let path = dir.join(&name);
                write(&path, &text)?;
                context.printer.say(path.display().to_string());
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Every CustomResourceDefinition: its file and its text.
fn definitions() -> anyhow::Result<Vec<(String, String)>> {
    let all = mesh_api::kubernetes::crds().context("a definition is not one")?;
    all.iter()
        .map(|definition| {
            let text = serde_saphyr::to_string(definition).context("cannot write a definition as YAML")?;
            let head = "# Written by `meshctl reference` from the types: change them, not this file.\n";
            Ok((
                mesh_api::kubernetes::file_name(definition),
                format!("{head}{text}"),
            ))
        })
        .collect()
}

/// Every page: its file and its text.
fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for kind in Kind::ALL {
        let schema = schema::of(kind);
        pages.push((
            format!("{}.md", kind.as_str().to_lowercase()),
            page(kind, schema.as_value()),
        ));
        let text = serde_json::to_string_pretty(schema.as_value()).unwrap_or_default() + "\n";
        pages.push((format!("schema/{}.json", kind.as_str().to_lowercase()), text));
    }
    pages.push(("injection.md".into(), injection()));
    pages.push(("meshctl.md".into(), command_line()));
    pages.push(("README.md".into(), contents()));
    pages
}

const WRITTEN: &str =
    "<!-- Written by `meshctl reference` from the types: change them, not this page. -->\n\n";

fn contents() -> String {
    let mut out = format!(
        "# Reference\n\n{WRITTEN}Documents of `mesh.dev/v1alpha1`, each with a JSON Schema for editors:\n\n"
    );
    for kind in Kind::ALL {
        let file = kind.as_str().to_lowercase();
        // Writing to a String can't fail.
        let _ = writeln!(out, "- [{kind}]({file}.md) ([schema](schema/{file}.json))");
    }
    out.push_str("\nOn Kubernetes: [settings and annotations of injection](injection.md)\n");
    out.push_str("\nThe command line: [meshctl](meshctl.md)\n");
    out
}

fn page(kind: Kind, schema: &Value) -> String {
    let mut out = format!("# {kind}\n\n{WRITTEN}");
    sections(&mut out, schema);
    out.push_str(&kubernetes::section(kind));
    out
}

/// What injection reads: settings of the mesh, and what pods and Namespaces say.
fn injection() -> String {
    let mut out = format!(
        "# Injection\n\n{WRITTEN}How pods get their sidecars: [injection](../injection.md).\n\n## Annotations\n\n\
         On a Pod, or on its Namespace for all of its pods; the Pod's go first.\n\n| annotation | value | |\n| --- | --- | --- |\n"
    );
    for annotation in &inject::ANNOTATIONS {
        let inject::Annotation {
            name, values, says, ..
        } = annotation;
        let _ = writeln!(out, "| `mesh.dev/{name}` | {} | {} |", cell(values), cell(says));
    }
    out.push_str(
        "\n## Settings\n\nThe text `config.yaml` of the ConfigMap `mesh-inject`, and of `meshctl inject --settings`. What is left \
         out is as in a new installation.\n\n",
    );
    let schema = schema::injection();
    sections(&mut out, schema.as_value());
    let settings = inject::Settings {
        revision: "VERSION".into(),
        image: "mesh-proxy:VERSION".into(),
        ..inject::Settings::default()
    };
    let value = serde_json::to_value(settings).unwrap_or_default();
    let _ = writeln!(out, "A new installation:\n\n```yaml\n{}```", block(&value, 0, 0));
    out
}

/// A document, then everything it is made of, in the order in which it is met.
fn sections(out: &mut String, schema: &Value) {
    let empty = Map::new();
    let defs = schema["$defs"].as_object().unwrap_or(&empty);
    let mut ahead: Vec<(String, &Value)> = vec![(String::new(), schema)];
    let mut met: Vec<String> = Vec::new();
    while !ahead.is_empty() {
        let (name, node) = ahead.remove(0);
        if !name.is_empty() {
            let _ = writeln!(out, "## {name}\n");
            if let Some(text) = node["description"].as_str() {
                let _ = writeln!(out, "{text}\n");
            }
        }
        body(out, node, &mut |reference| {
            if !met.contains(&reference.to_owned())
                && let Some(node) = defs.get(reference)
                && has_section(node)
            {
                met.push(reference.to_owned());
                ahead.push((reference.to_owned(), node));
            }
        });
    }
}

/// Whether a definition has fields or words of its own to list; plain texts are told where they are used.
fn has_section(node: &Value) -> bool {
    let list = |name: &str| node[name].is_array();
    node["properties"].is_object() || list("oneOf") || list("anyOf") || list("enum")
}

fn body(out: &mut String, node: &Value, meet: &mut impl FnMut(&str)) {
    if let Some(properties) = node["properties"].as_object() {
        let required: Vec<&str> = node["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        out.push_str("| field | type | |\n| --- | --- | --- |\n");
        for (name, field) in properties {
            let must = if required.contains(&name.as_str()) {
                " **(required)**"
            } else {
                ""
            };
            let text = field["description"]
                .as_str()
                .unwrap_or_default()
                .replace('\n', " ");
            let _ = writeln!(
                out,
                "| `{name}` | {} | {}{must} |",
                type_of(field, meet),
                cell(&text)
            );
        }
        out.push('\n');
    }
    let options = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|several| node[several].as_array());
    for word in options.flatten() {
        let text = word["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ");
        let named = match word["const"].as_str() {
            Some(word) => format!("`{word}`"),
            None => type_of(word, meet),
        };
        let _ = writeln!(out, "- {named}: {text}");
    }
    for word in node["enum"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "- `{}`", word.as_str().unwrap_or_default());
    }
    if ["oneOf", "anyOf", "enum"]
        .iter()
        .any(|list| node[list].is_array())
    {
        out.push('\n');
    }
}

/// A field's type in words, with links to what is told further down.
fn type_of(field: &Value, meet: &mut impl FnMut(&str)) -> String {
    if let Some(reference) = field["$ref"].as_str().and_then(|it| it.strip_prefix("#/$defs/")) {
        meet(reference);
        return match reference {
            "Name" | "Duration" | "TrustDomain" | "Ports" | "Cidr" | "Quantity" => reference.to_lowercase(),
            _ => format!("[{reference}](#{})", reference.to_lowercase()),
        };
    }
    if let Some(word) = field["const"].as_str() {
        return format!("`{word}`");
    }
    for several in ["anyOf", "oneOf"] {
        if let Some(options) = field[several].as_array() {
            let options = options.iter().filter(|option| option["type"] != "null");
            let words: Vec<String> = options.map(|option| type_of(option, meet)).collect();
            return words.join(" or ");
        }
    }
    if let Some(properties) = field["properties"].as_object() {
        let fields: Vec<String> = properties
            .iter()
            .map(|(name, field)| format!("{name}: {}", type_of(field, meet)))
            .collect();
        return format!("{{{}}}", fields.join(", "));
    }
    let simple = |word: &str| match word {
        "array" => String::new(),
        word => word.to_owned(),
    };
    match &field["type"] {
        Value::String(word) if word == "array" => format!("list of {}", type_of(&field["items"], meet)),
        Value::String(word) if word == "object" && field["additionalProperties"].is_object() => {
            format!("map to {}", type_of(&field["additionalProperties"], meet))
        }
        Value::String(word) => simple(word),
        Value::Array(words) => {
            if words.iter().any(|word| word == "array") {
                return format!("list of {}", type_of(&field["items"], meet));
            }
            let words: Vec<&str> = words
                .iter()
                .filter_map(Value::as_str)
                .filter(|it| *it != "null")
                .collect();
            words.join(" or ")
        }
        _ => "any".into(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn command_line() -> String {
    let mut command = Cli::command().term_width(100).version(None::<&str>);
    command.build();
    let mut out = format!(
        "# meshctl\n\n{WRITTEN}Exit codes: 0 done, 1 failed, 2 usage. Data goes to standard output, all else to standard error.\n\n"
    );
    let _ = writeln!(
        out,
        "```text\n{}\n```\n",
        trimmed(&command.render_help().to_string())
    );
    for sub in command.get_subcommands_mut() {
        if sub.is_hide_set() || sub.get_name() == "help" {
            continue;
        }
        let name = sub.get_name().to_owned();
        // Flags of every command are told once, above.
        let globals: Vec<_> = sub
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .map(|arg| arg.get_id().clone())
            .collect();
        let mut shown = sub.clone();
        for id in globals {
            shown = shown.mut_arg(id, |arg| arg.hide(true));
        }
        let _ = writeln!(
            out,
            "## meshctl {name}\n\n```text\n{}\n```\n",
            trimmed(&shown.render_help().to_string())
        );
    }
    out
}

fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test -p meshctl reference` writes what has changed.
    #[test]
    fn the_reference_is_in_step_with_the_types() {
        in_step("docs/reference", pages());
    }

    #[test]
    fn the_definitions_are_in_step_with_the_types() {
        in_step("charts/mesh/crds", definitions().unwrap());
    }

    fn in_step(dir: &str, files: Vec<(String, String)>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir);
        for (name, text) in files {
            let path = root.join(&name);
            if std::env::var_os("UPDATE").is_some() {
                write(&path, &text).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                written == text,
                "{dir}/{name} is not what the types say: run `UPDATE=1 cargo test -p meshctl reference`"
            );
        }
    }

    #[test]
    fn a_definition_is_read_back_as_it_was_written() {
        for (definition, (file, text)) in mesh_api::kubernetes::crds()
            .unwrap()
            .iter()
            .zip(definitions().unwrap())
        {
            let read: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, serde_json::to_value(definition).unwrap(), "{file}");
        }
    }
}
