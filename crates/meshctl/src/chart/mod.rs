//! The Helm chart, in the program: its files, its values, and the objects it makes of them.
//!
//! The chart is the one source of what is installed. meshctl renders it by itself, so that nobody needs Helm; a test
//! holds the objects together with those of the real `helm template`.

mod render;
mod template;
mod values;

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

pub(crate) use values::{assignment, merge};

/// The chart's files and their texts, sorted by path.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/chart.rs"));

/// The chart's default values.
///
/// # Errors
/// Never, unless the program was built wrong.
pub(crate) fn defaults() -> anyhow::Result<Value> {
    let (_, text) = FILES
        .iter()
        .find(|(file, _)| *file == "values.yaml")
        .context("the chart has no values.yaml")?;
    Ok(serde_saphyr::from_str(text)?)
}

/// The definitions of the mesh's kinds.
///
/// # Errors
/// Never, unless the program was built wrong.
pub(crate) fn crds() -> anyhow::Result<Vec<Value>> {
    let files = FILES.iter().filter(|(file, _)| file.starts_with("crds/"));
    let texts: Vec<(&str, String)> = files.map(|(file, text)| (*file, (*text).to_owned())).collect();
    objects(&texts)
}

/// The objects of the chart with these values, in a namespace; neither the namespace nor the CRDs are among them.
///
/// # Errors
/// Which value is wrong, and why.
pub(crate) fn objects_with(values: &Value, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let values_checked = values::check(values).map_err(|error| anyhow!("{error}"))?;
    let root = json!({
        "Values": serde_json::to_value(values_checked)?,
        "Release": {"Namespace": namespace},
        "Chart": {"AppVersion": env!("CARGO_PKG_VERSION")},
    });
    let mut defined = BTreeMap::new();
    let mut templates = Vec::new();
    for (file, text) in FILES.iter().filter(|(file, _)| file.starts_with("templates/")) {
        let template = template::parse(text).map_err(|error| anyhow!("{file}: {error}"))?;
        defined.extend(template.defined);
        templates.push((*file, template.nodes));
    }
    let mut texts = Vec::new();
    for (file, nodes) in templates {
        let text = render::render(&nodes, &defined, &root).map_err(|error| anyhow!("{file}: {error}"))?;
        texts.push((file, text));
    }
    objects(&texts)
}

/// The objects in YAML texts; documents of nothing are none.
fn objects(texts: &[(&str, String)]) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (file, text) in texts {
        let read: Vec<Value> =
            serde_saphyr::from_multiple(text).with_context(|| format!("{file} is not YAML"))?;
        objects.extend(read.into_iter().filter(|object| !object.is_null()));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests;
