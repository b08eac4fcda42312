//! The OpenAI API and its relatives: the path says what is asked, the body (or query) which model.
//!
//! Servers and gateways put the same endpoints under many prefixes (`/v1`, `/openai/v1`, `/api/v1`, `/v1beta/openai`,
//! `/serving-endpoints`, none), so an endpoint is recognised at the path's end, after nothing or such a prefix.

use http::Method;

use super::{
    name::ModelName,
    operation::Operation,
    path::{Path, is, name},
    refusal::{Refusal, RefusalReason},
    request::{ModelRequest, PathPlace, PathStyle, Place},
};

/// What a path says.
pub(super) enum OpenAiPath {
    /// Not a path of the API.
    Plain,
    /// Everything there is to know.
    Known(ModelRequest),
    /// The body names the model.
    Body {
        operation: Operation,
        /// Whether the endpoint takes `multipart/form-data`, too.
        multipart: bool,
    },
}

struct Endpoint {
    path: &'static [&'static str],
    operation: Operation,
    multipart: bool,
}

const fn json(path: &'static [&'static str], operation: Operation) -> Endpoint {
    Endpoint {
        path,
        operation,
        multipart: false,
    }
}

const fn form(path: &'static [&'static str], operation: Operation) -> Endpoint {
    Endpoint {
        path,
        operation,
        multipart: true,
    }
}

/// Endpoints whose body names the model: OpenAI's, Anthropic's, then those of vLLM, llama.cpp, SGLang and Ollama.
const ENDPOINTS: &[Endpoint] = &[
    json(&["chat", "completions"], Operation::Generate),
    json(&["completions"], Operation::Generate),
    json(&["embeddings"], Operation::Embed),
    json(&["responses"], Operation::Generate),
    json(&["moderations"], Operation::Classify),
    json(&["images", "generations"], Operation::Image),
    form(&["images", "edits"], Operation::Image),
    form(&["images", "variations"], Operation::Image),
    json(&["audio", "speech"], Operation::Audio),
    form(&["audio", "transcriptions"], Operation::Audio),
    form(&["audio", "translations"], Operation::Audio),
    form(&["videos"], Operation::Image),
    json(&["messages"], Operation::Generate),
    json(&["messages", "count_tokens"], Operation::Metadata),
    json(&["responses", "input_tokens"], Operation::Metadata),
    json(&["rerank"], Operation::Rerank),
    json(&["reranking"], Operation::Rerank),
    json(&["score"], Operation::Rerank),
    json(&["classify"], Operation::Classify),
    json(&["pooling"], Operation::Infer),
    json(&["tokenize"], Operation::Metadata),
    json(&["detokenize"], Operation::Metadata),
    json(&["completion"], Operation::Generate),
    json(&["infill"], Operation::Generate),
    json(&["embedding"], Operation::Embed),
    json(&["generate"], Operation::Generate),
    json(&["invocations"], Operation::Generate),
    json(&["api", "chat"], Operation::Generate),
    json(&["api", "generate"], Operation::Generate),
    json(&["api", "embed"], Operation::Embed),
    json(&["api", "embeddings"], Operation::Embed),
    json(&["api", "show"], Operation::Metadata),
    json(&["load_lora_adapter"], Operation::Admin),
    json(&["unload_lora_adapter"], Operation::Admin),
    json(&["api", "pull"], Operation::Admin),
    json(&["api", "push"], Operation::Admin),
    json(&["api", "create"], Operation::Admin),
    json(&["api", "delete"], Operation::Admin),
];

/// Endpoints that change a server and name no model.
const ADMINISTRATION: &[&str] = &[
    "sleep",
    "wake_up",
    "reset_prefix_cache",
    "reset_mm_cache",
    "flush_cache",
    "update_weights",
    "lora-adapters",
    "collective_rpc",
    "start_profile",
    "stop_profile",
    "pause",
    "resume",
];

/// Reads a path.
pub(super) fn path(path: &Path<'_>, method: &Method) -> Result<OpenAiPath, Refusal> {
    let segments = path.segments::<12>();
    let all = segments.as_slice();
    for start in 0..all.len() {
        if start > 0 && !is_prefix(all[start - 1]) {
            continue;
        }
        let prefixed_by_openai = start > 0 && is(all[start - 1], "openai");
        if let Some(found) = endpoint(path, &all[start..], method, prefixed_by_openai)? {
            return Ok(found);
        }
    }
    path.without_odd_escapes()?;
    Ok(match all {
        [only] if is_health(only) => OpenAiPath::Known(ModelRequest::unnamed(Operation::Health)),
        [only] if is(only, "version") => OpenAiPath::Known(ModelRequest::unnamed(Operation::Metadata)),
        [first, ..] if method == Method::POST && ADMINISTRATION.iter().any(|word| is(first, word)) => {
            OpenAiPath::Known(ModelRequest::unnamed(Operation::Admin))
        }
        _ => OpenAiPath::Plain,
    })
}

/// Reads the part of a path after its prefix.
fn endpoint(
    path: &Path<'_>,
    rest: &[&str],
    method: &Method,
    after_openai: bool,
) -> Result<Option<OpenAiPath>, Refusal> {
    if let [models, id @ ..] = rest
        && is(models, "models")
    {
        return models_path(path, id, method).map(Some);
    }
    if let [word, deployment, rest @ ..] = rest
        && after_openai
        && is(word, "deployments")
        && let Some(endpoint) = find(rest)
    {
        // Azure: the deployment is the model, whatever the body says.
        path.without_odd_escapes()?;
        let at = path.range_of(deployment);
        let place = PathPlace {
            version: at.end..at.end,
            name: at,
            style: PathStyle::NameOnly,
        };
        return Ok(Some(OpenAiPath::Known(ModelRequest {
            model: Some(name(deployment)?),
            place: Place::Path(place),
            ..ModelRequest::unnamed(endpoint.operation)
        })));
    }
    if matches!(rest, [word] if is(word, "realtime")) {
        path.without_odd_escapes()?;
        return realtime(path).map(Some);
    }
    let Some(Endpoint {
        operation, multipart, ..
    }) = find(rest)
    else {
        return Ok(None);
    };
    path.without_odd_escapes()?;
    Ok(Some(match *method {
        // Stored answers are listed here; nothing is run.
        Method::GET | Method::HEAD => OpenAiPath::Known(ModelRequest::unnamed(Operation::Metadata)),
        Method::OPTIONS => OpenAiPath::Known(ModelRequest::unnamed(Operation::Other)),
        _ => OpenAiPath::Body {
            operation: *operation,
            multipart: *multipart,
        },
    }))
}

/// `/models[/{id}]`, where the id may hold slashes, escaped or not: servers decode it either way.
fn models_path(path: &Path<'_>, id: &[&str], method: &Method) -> Result<OpenAiPath, Refusal> {
    path.without_needless_escapes()?;
    let operation = match *method {
        Method::GET | Method::HEAD => Operation::Metadata,
        Method::OPTIONS => Operation::Other,
        _ => Operation::Admin,
    };
    let ([first, ..], [.., last]) = (id, id) else {
        return Ok(OpenAiPath::Known(ModelRequest::unnamed(operation)));
    };
    if path.ends_with_slash() {
        return Err(path.ambiguous("ends with a slash, which may be a part of the name"));
    }
    let at = path.range_of(first).start..path.range_of(last).end;
    Ok(OpenAiPath::Known(ModelRequest {
        model: Some(name(path.text(&at))?),
        place: Place::Path(PathPlace {
            version: at.end..at.end,
            name: at,
            style: PathStyle::Rest,
        }),
        ..ModelRequest::unnamed(operation)
    }))
}

/// `/realtime?model=…`: the only endpoint that names its model in the query.
fn realtime(path: &Path<'_>) -> Result<OpenAiPath, Refusal> {
    let mut models = path
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent_encoding::percent_decode_str(key);
            key.eq("model".bytes()).then_some(value)
        });
    let request = ModelRequest::unnamed(Operation::Generate);
    let Some(model) = models.next() else {
        return Ok(OpenAiPath::Known(request));
    };
    if models.next().is_some() {
        return Err(Refusal::new(
            RefusalReason::DuplicateModel,
            "the query names the model twice",
        ));
    }
    if model.contains('+') {
        return Err(Refusal::new(
            RefusalReason::AmbiguousModel,
            "the query's model holds a plus sign",
        ));
    }
    let model = percent_encoding::percent_decode_str(model).collect::<Vec<u8>>();
    let model = if model.is_empty() {
        None
    } else {
        Some(ModelName::from_bytes(&model)?)
    };
    Ok(OpenAiPath::Known(ModelRequest {
        model,
        place: Place::Query,
        ..request
    }))
}

fn find(rest: &[&str]) -> Option<&'static Endpoint> {
    let same = |endpoint: &&Endpoint| {
        endpoint.path.len() == rest.len()
            && endpoint
                .path
                .iter()
                .zip(rest)
                .all(|(word, segment)| is(segment, word))
    };
    ENDPOINTS.iter().find(same)
}

/// Whether endpoints may follow a segment: `v1`, `v1beta`, `openai`, `serving-endpoints`.
fn is_prefix(segment: &str) -> bool {
    match segment.as_bytes() {
        [b'v' | b'V', digit, ..] => digit.is_ascii_digit(),
        _ => is(segment, "openai") || is(segment, "serving-endpoints"),
    }
}

fn is_health(segment: &str) -> bool {
    const WORDS: [&str; 8] = [
        "health",
        "healthz",
        "health_generate",
        "ping",
        "live",
        "livez",
        "ready",
        "readyz",
    ];
    WORDS.iter().any(|word| is(segment, word))
}
