//! KServe's V1 paths; its V2 paths are those of `open_inference`, its OpenAI paths those of `openai`.
//!
//! KServe's Python server decodes the path before it matches, and lets names hold colons: the last one separates the
//! verb. TensorFlow Serving as a KServe runtime knows versions and metadata, so they are read as well.

use http::Method;

use super::{
    name::ModelVersion,
    open_inference::text_version,
    operation::Operation,
    path::{Path, decoded, is, name},
    refusal::Refusal,
    request::{ModelRequest, PathPlace, PathStyle, Place},
};

/// Reads a V1 path. `None`: not one.
pub(super) fn path(path: &Path<'_>, method: &Method) -> Result<Option<ModelRequest>, Refusal> {
    let segments = path.segments::<8>();
    let [v1, models, rest @ ..] = segments.as_slice() else {
        return Ok(None);
    };
    if !is(v1, "v1") || !is(models, "models") {
        return Ok(None);
    }
    path.without_odd_escapes()?;
    path.without_escaped_colon()?;
    let Some((last, before)) = rest.split_last() else {
        return Ok(Some(ModelRequest::unnamed(Operation::Metadata)));
    };
    let (last, operation) = verb(last, method);
    let (model, version, operation) = match (before, last) {
        ([], model) => (model, None, operation),
        ([model], last) if is(last, "metadata") => (*model, None, Operation::Metadata),
        ([model, word], text) if is_version(word) => (*model, Some((*word, text)), operation),
        ([model, word, text], last) if is_version(word) && is(last, "metadata") => {
            (*model, Some((*word, *text)), Operation::Metadata)
        }
        _ => return Err(path.ambiguous("is none of KServe's")),
    };
    let name_at = path.range_of(model);
    let version_at = match version {
        None => name_at.end..name_at.end,
        Some((word, text)) => path.range_of(word).start - 1..path.range_of(text).end,
    };
    Ok(Some(ModelRequest {
        model: Some(name(model)?),
        version: version.map(|(word, text)| read_version(word, text)).transpose()?,
        place: Place::Path(PathPlace {
            name: name_at,
            version: version_at,
            style: PathStyle::KServe,
        }),
        ..ModelRequest::unnamed(operation)
    }))
}

/// Takes the verb off the last segment. Readiness is asked by `GET /v1/models/{m}`, where a colon is part of the name.
fn verb<'a>(last: &'a str, method: &Method) -> (&'a str, Operation) {
    const VERBS: [(&str, Operation); 4] = [
        ("predict", Operation::Predict),
        ("explain", Operation::Explain),
        ("classify", Operation::Classify),
        ("regress", Operation::Regress),
    ];
    if method == Method::GET || method == Method::HEAD {
        return (last, Operation::Health);
    }
    let Some((before, verb)) = last.rsplit_once(':') else {
        return (last, Operation::Other);
    };
    match VERBS.into_iter().find(|(word, _)| is(verb, word)) {
        Some((_, operation)) => (before, operation),
        None => (last, Operation::Other),
    }
}

fn is_version(word: &str) -> bool {
    is(word, "versions") || is(word, "labels")
}

fn read_version(word: &str, text: &str) -> Result<ModelVersion, Refusal> {
    let text = decoded(text)?;
    if is(word, "labels") {
        ModelVersion::label_bytes(&text)
    } else {
        text_version(&text)
    }
}
