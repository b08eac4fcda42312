//! Weights changed where they stand in a document's text: every other byte, comments included, stays as it is.

use std::collections::BTreeMap;
use std::ops::Range;

use mesh_api::document::{Document, ModelRouteSpec, Object, Source, parse_one};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::store::edit;

/// Weights by the name of the backend.
pub type Weights = BTreeMap<String, u32>;

/// As much of a ModelRoute as tells where the weights stand.
#[derive(Deserialize)]
struct Route {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    split: Split,
}

#[derive(Deserialize)]
struct Split {
    backends: Vec<Spanned<Backend>>,
}

#[derive(Deserialize)]
struct Backend {
    name: Spanned<String>,
    weight: Option<Spanned<u32>>,
}

/// The document with other weights in its spec.
pub fn intended(object: &Object<ModelRouteSpec>, rule: usize, weights: &Weights) -> Object<ModelRouteSpec> {
    let mut object = object.clone();
    let backends = object
        .spec
        .rules
        .get_mut(rule)
        .map(|rule| &mut rule.split.backends);
    for backend in backends.into_iter().flatten() {
        if let Some(weight) = weights.get(backend.name.as_str()) {
            backend.weight = *weight;
        }
    }
    object
}

/// The document's text with other weights in one of its rules. Where the text can't be spliced (its weights are
/// aliases, say), the document is written anew, with the comments above it.
///
/// # Errors
/// When the document can't be written at all.
pub fn weights(
    source: &Source,
    object: &Object<ModelRouteSpec>,
    rule: usize,
    weights: &Weights,
) -> Result<String, serde_saphyr::ser::Error> {
    let intended = intended(object, rule, weights);
    let spliced = splice(&source.text, rule, weights).filter(|text| says(source, text, &intended));
    match spliced {
        Some(text) => Ok(text),
        None => Ok(edit::rewritten(source, &serde_saphyr::to_string(&intended)?)),
    }
}

/// Whether the text says exactly what is intended.
fn says(source: &Source, text: &str, intended: &Object<ModelRouteSpec>) -> bool {
    let candidate = Source {
        text: text.to_owned(),
        ..source.clone()
    };
    matches!(parse_one(&candidate), Ok(Document::ModelRoute(object)) if object == *intended)
}

fn splice(text: &str, rule: usize, weights: &Weights) -> Option<String> {
    let route: Route = serde_saphyr::from_str(text).ok()?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for backend in &route.spec.rules.get(rule)?.split.backends {
        let Some(weight) = weights.get(&backend.value.name.value) else {
            continue;
        };
        edits.push(match &backend.value.weight {
            Some(there) => (range(there, text)?, weight.to_string()),
            None => insertion(backend, text, *weight)?,
        });
    }
    // From the end, so that earlier places stay where they are.
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut next = text.to_owned();
    for (range, replacement) in edits {
        next.replace_range(range, &replacement);
    }
    Some(next)
}

/// Where a scalar stands; none when it stands elsewhere, as an alias does.
fn range<T>(value: &Spanned<T>, text: &str) -> Option<Range<usize>> {
    if value.referenced != value.defined {
        return None;
    }
    let span = value.referenced.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start + usize::try_from(span.byte_len()?).ok()?;
    text.get(start..end)?;
    Some(start..end)
}

/// Where a weight goes that was not written, and what is written there: right after the name, in the style of the map.
fn insertion(backend: &Spanned<Backend>, text: &str, weight: u32) -> Option<(Range<usize>, String)> {
    let name = range(&backend.value.name, text)?;
    let map = usize::try_from(backend.referenced.span().byte_offset()?).ok()?;
    if text.get(map..)?.starts_with('{') {
        // JSON is YAML, and stays JSON.
        let key = if text.get(..name.end)?.ends_with('"') {
            "\"weight\""
        } else {
            "weight"
        };
        return Some((name.end..name.end, format!(", {key}: {weight}")));
    }
    // In a block map each key has its own line, and all begin in the same column as `name`.
    let line = text.get(..name.start)?.rfind('\n').map_or(0, |at| at + 1);
    let before = text.get(line..name.start)?;
    let key = before
        .trim_end()
        .strip_suffix(':')?
        .trim_end()
        .trim_end_matches(['"', '\''])
        .strip_suffix("name")?
        .trim_end_matches(['"', '\'']);
    let end = text
        .get(name.end..)?
        .find('\n')
        .map_or(text.len(), |at| name.end + at);
    let (end, newline) = match text.get(..end)?.ends_with('\r') {
        true => (end - 1, "\r\n"),
        false => (end, "\n"),
    };
    let indent = " ".repeat(key.chars().count());
    Some((end..end, format!("{newline}{indent}weight: {weight}")))
}

#[cfg(test)]
mod tests;
