//! `meshctl inject` and `meshctl uninject`: sidecars into Kubernetes documents and out of them, as text, without a mesh.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use mesh_api::document::{Source, sources};
use mesh_api::inject::{self, Namespace, Of, Outcome as Became, PullPolicy, Settings};
use mesh_api::network::{Cidr, Ports};
use serde_json::Value;

use super::Context;
use crate::documents::{FileText, read_files};
use crate::error::{Failure, Outcome};
use crate::rewrite::rewrite;

/// Flags of `meshctl inject`.
#[derive(Args, Debug)]
pub(crate) struct Inject {
    /// Files, folders of .yaml and .yml files, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The injection settings: the `config.yaml` of the ConfigMap mesh-inject; default: those of a new installation
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// The sidecar's image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// When the image is pulled: Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY", value_parser = pull_policy)]
    image_pull_policy: Option<PullPolicy>,
    /// Where the control plane listens
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<String>,
    /// How much the sidecar says in its own log
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Ports that others reach directly, such as 22,9000-9010, besides those of the settings
    #[arg(long, value_name = "PORTS,..", value_delimiter = ',')]
    skip_inbound_ports: Vec<Ports>,
    /// Ports elsewhere that are reached directly, besides those of the settings
    #[arg(long, value_name = "PORTS,..", value_delimiter = ',')]
    skip_outbound_ports: Vec<Ports>,
    /// Networks that are reached directly, besides those of the settings
    #[arg(long, value_name = "CIDR,..", value_delimiter = ',')]
    skip_cidrs: Vec<Cidr>,
    /// Whether the sidecar is an init container that goes on running; false for Kubernetes before 1.29
    #[arg(long, value_name = "BOOL")]
    native_sidecar: Option<bool>,
    /// Whether the kubelet's probes are led through the sidecar
    #[arg(long, value_name = "BOOL")]
    rewrite_probes: Option<bool>,
}

/// Flags of `meshctl uninject`.
#[derive(Args, Debug)]
pub(crate) struct Uninject {
    /// Files, folders of .yaml and .yml files, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Inject {
    /// Prints the documents with sidecars; all of them, or nothing when one is refused.
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let texts = self.texts(context, &read_files(&self.files)?)?;
        context.printer.data(&texts.concat())
    }

    fn texts(&self, context: &Context, files: &[FileText]) -> Outcome<Vec<String>> {
        let settings = self.settings()?;
        let documents = documents(files)?;
        let namespaces = namespaces(&documents);
        let namespace = |of: &Of| {
            let name = of
                .namespace
                .as_deref()
                .or(context.namespace().map(mesh_api::name::Name::as_str));
            let name = name.unwrap_or(mesh_api::name::DEFAULT_NAMESPACE);
            is_meant(context, of).then(|| namespaces.get(name).cloned().unwrap_or_else(Namespace::enabled))
        };
        let mut said = Said::default();
        let texts = documents.into_iter().map(|document| {
            document.changed(context, |object| {
                for (of, became) in inject::inject_all(object, namespace, &settings) {
                    said.about(context, &of, &became);
                }
            })
        });
        let texts: Vec<String> = texts.collect();
        if said.refused > 0 {
            context.printer.say("nothing was written");
            return Err(Failure::Silent);
        }
        if said.pods == 0 {
            context.printer.warn("there is no pod in these documents");
        }
        Ok(texts)
    }

    fn settings(&self) -> Outcome<Settings> {
        let mut settings = match &self.settings {
            None => Settings::default(),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                Settings::parse(&text)
                    .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?
            }
        };
        let set = |setting: &mut String, flag: &Option<String>| {
            if let Some(flag) = flag {
                setting.clone_from(flag);
            }
        };
        set(&mut settings.image, &self.image);
        set(&mut settings.control, &self.control);
        set(&mut settings.log, &self.log);
        settings.image_pull_policy = self.image_pull_policy.unwrap_or(settings.image_pull_policy);
        settings.native_sidecar = self.native_sidecar.unwrap_or(settings.native_sidecar);
        settings.rewrite_probes = self.rewrite_probes.unwrap_or(settings.rewrite_probes);
        settings.skip_inbound_ports.extend(&self.skip_inbound_ports);
        settings.skip_outbound_ports.extend(&self.skip_outbound_ports);
        settings.skip_cidrs.extend(&self.skip_cidrs);
        settings
            .validate()
            .map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(settings)
    }
}

impl Uninject {
    /// Prints the documents without sidecars.
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let texts = uninjected(context, &read_files(&self.files)?)?;
        context.printer.data(&texts.concat())
    }
}

fn uninjected(context: &Context, files: &[FileText]) -> Outcome<Vec<String>> {
    let texts = documents(files)?.into_iter().map(|document| {
        document.changed(context, |object| {
            for (of, undone) in inject::uninject_all(object, |of| is_meant(context, of)) {
                let name = called(&of);
                context.printer.say(match undone {
                    true => format!("uninjected {name}"),
                    false => format!("skipped {name}: not injected"),
                });
            }
        })
    });
    Ok(texts.collect())
}

/// What was said about pods.
#[derive(Default)]
struct Said {
    pods: usize,
    refused: usize,
}

impl Said {
    fn about(&mut self, context: &Context, of: &Of, became: &Became) {
        self.pods += 1;
        let name = called(of);
        match became {
            Became::Injected { warnings, .. } => {
                context.printer.say(format!("injected {name}"));
                for warning in warnings {
                    context.printer.warn(&format!("{name}: {warning}"));
                }
            }
            Became::Unchanged(reason) => context.printer.say(format!("skipped {name}: {reason}")),
            Became::Refused(refusal) => {
                self.refused += 1;
                context.printer.error(&format!("{name}: {refusal}"));
            }
        }
    }
}

/// Whether the namespace given is the object's, or the object names none.
fn is_meant(context: &Context, of: &Of) -> bool {
    match (context.namespace(), &of.namespace) {
        (Some(meant), Some(its)) => meant.as_str() == its,
        _ => true,
    }
}

/// Such as `deployment/fraud`.
fn called(of: &Of) -> String {
    let name = if of.name.is_empty() { "(no name)" } else { &of.name };
    format!("{}/{name}", of.kind.to_lowercase())
}

/// A part of what was read: the text before a document, and the document.
struct Document {
    before: String,
    source: Source,
    object: Value,
    after: String,
}

impl Document {
    /// The text, with the document changed in it.
    fn changed(mut self, context: &Context, change: impl FnOnce(&mut Value)) -> String {
        let before = self.object.clone();
        change(&mut self.object);
        let text = if before == self.object {
            self.source.text
        } else {
            let rewritten = rewrite(&self.source.text, &before, &self.object);
            if !rewritten.in_place {
                let place = format!("{}:{}", self.source.file.display(), self.source.line);
                context.printer.say(format!(
                    "{place}: written anew, without its comments: it can't be changed in place"
                ));
            }
            rewritten.text
        };
        [self.before, text, self.after].concat()
    }
}

/// The documents of files, which together are the whole text of them.
fn documents(files: &[FileText]) -> Outcome<Vec<Document>> {
    let mut documents: Vec<Document> = Vec::new();
    for FileText { file, text } in files {
        let mut at = 0;
        let mut first = !documents.is_empty();
        for source in sources(file, text) {
            let mut before = text[at..source.offset].to_owned();
            if std::mem::take(&mut first) {
                before = between(documents.last_mut(), &before);
            }
            at = source.offset + source.text.len();
            documents.push(Document {
                before,
                object: object(&source)?,
                source,
                after: String::new(),
            });
        }
        if let Some(last) = documents.last_mut() {
            last.after.push_str(&text[at..]);
        }
    }
    match documents.is_empty() {
        true => Err(Failure::new("there is no document to read")),
        false => Ok(documents),
    }
}

/// What separates the documents of two files.
fn between(last: Option<&mut Document>, before: &str) -> String {
    if let Some(last) = last {
        let end = if last.after.is_empty() {
            &mut last.source.text
        } else {
            &mut last.after
        };
        if !end.ends_with('\n') {
            end.push('\n');
        }
    }
    match before.trim_start().starts_with("---") {
        true => before.to_owned(),
        false => format!("---\n{before}"),
    }
}

fn object(source: &Source) -> Outcome<Value> {
    let place = format!("{}:{}", source.file.display(), source.line);
    let options = serde_saphyr::options! { with_snippet: false };
    let value: Value = serde_saphyr::from_str_with_options(&source.text, options).map_err(|error| {
        let reason = error.to_string();
        Failure::new(format!("{place}: {}", reason.lines().next().unwrap_or_default()))
    })?;
    match value["kind"].is_string() && value["apiVersion"].is_string() {
        true => Ok(value),
        false => Err(Failure::new(format!(
            "{place}: this is no Kubernetes object: it has no apiVersion and kind"
        ))),
    }
}

/// What the Namespaces among the documents say. Whoever injects by hand has said that sidecars are wanted, unless the
/// Namespace says otherwise.
fn namespaces(documents: &[Document]) -> BTreeMap<String, Namespace> {
    let map = |value: &Value| -> BTreeMap<String, String> {
        let entries = value.as_object().into_iter().flatten();
        let texts = entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        texts.collect()
    };
    let namespaces = documents
        .iter()
        .filter(|document| document.object["kind"] == "Namespace");
    namespaces
        .filter_map(|document| {
            let metadata = &document.object["metadata"];
            let mut namespace = Namespace {
                labels: map(&metadata["labels"]),
                annotations: map(&metadata["annotations"]),
            };
            if !namespace.annotations.contains_key(inject::INJECT) {
                let enabled = Namespace::enabled().labels;
                enabled.into_iter().for_each(|(name, value)| {
                    namespace.labels.entry(name).or_insert(value);
                });
            }
            Some((metadata["name"].as_str()?.to_owned(), namespace))
        })
        .collect()
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    serde_json::from_value(Value::from(text))
        .map_err(|_| format!("{text:?} is not Always, IfNotPresent or Never"))
}

#[cfg(test)]
mod tests;
