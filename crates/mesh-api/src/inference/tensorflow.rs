//! TensorFlow Serving: REST paths and gRPC services.
//!
//! Paths follow the expressions of `http_rest_api_util.cc`: letters match in either case, and name and label are
//! percent-decoded after the match. The server matches path *and query* as one text, so that `GET /v1/models/a?b` asks
//! for a model named `a?b`; compatible servers ignore the query. Such requests are refused.

use http::Method;

use super::{
    grpc::GrpcCall,
    layout::Layout,
    name::{ModelName, ModelVersion},
    operation::Operation,
    path::{Path, decoded, is},
    refusal::{Refusal, RefusalReason},
    request::{ModelRequest, PathPlace, PathStyle, Place},
};

/// The operation and message layout of a method of `tensorflow.serving.*`.
pub(super) fn call(service: &str, method: &str) -> Option<GrpcCall> {
    let (operation, layout) = match (service, method) {
        ("tensorflow.serving.PredictionService", "Predict") => (Operation::Predict, Layout::Spec),
        ("tensorflow.serving.PredictionService", "Classify") => (Operation::Classify, Layout::Spec),
        ("tensorflow.serving.PredictionService", "Regress") => (Operation::Regress, Layout::Spec),
        ("tensorflow.serving.PredictionService", "MultiInference") => (Operation::Infer, Layout::Tasks),
        ("tensorflow.serving.PredictionService", "PredictStreamed") => {
            return Some(GrpcCall {
                operation: Operation::Predict,
                layout: Layout::Spec,
                streaming: true,
            });
        }
        ("tensorflow.serving.PredictionService", "GetModelMetadata")
        | ("tensorflow.serving.ModelService", "GetModelStatus") => (Operation::Metadata, Layout::Spec),
        ("tensorflow.serving.SessionService", "SessionRun") => (Operation::Predict, Layout::Spec),
        ("tensorflow.serving.ModelService", "HandleReloadConfigRequest") => {
            (Operation::Admin, Layout::Unnamed)
        }
        _ if service.starts_with("tensorflow.serving.") => (Operation::Other, Layout::Unnamed),
        _ => return None,
    };
    Some(GrpcCall {
        operation,
        layout,
        streaming: false,
    })
}

/// Reads a REST path. `None`: not a path about models.
pub(super) fn path(path: &Path<'_>, method: &Method) -> Result<Option<ModelRequest>, Refusal> {
    let segments = path.segments::<8>();
    let [version, models, rest @ ..] = segments.as_slice() else {
        return plain(path);
    };
    if !is(version, "v1") || !is(models, "models") {
        return plain(path);
    }
    if path.query().is_some() {
        return Err(path.ambiguous("has a query, which the server takes for a part of the name"));
    }
    let Some((resource, verb)) = read(rest) else {
        return Err(path.ambiguous("is none of TensorFlow Serving's"));
    };
    // A verb behind an escaped colon: the server finds none, one that decodes first does.
    if verb == Operation::Metadata && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Err(path.ambiguous("has no verb"));
    }
    let Some(Resource { name, version }) = resource else {
        return Ok(Some(ModelRequest::unnamed(Operation::Metadata)));
    };
    let name_at = path.range_of(name);
    let version_at = match &version {
        Some(Version { word, text, .. }) => path.range_of(word).start - 1..path.range_of(text).end,
        None => name_at.end..name_at.end,
    };
    Ok(Some(ModelRequest {
        model: Some(ModelName::from_bytes(&decoded(name)?)?),
        version: version.map(|version| version.read()).transpose()?,
        place: Place::Path(PathPlace {
            name: name_at,
            version: version_at,
            style: PathStyle::TensorFlow,
        }),
        ..ModelRequest::unnamed(verb)
    }))
}

fn plain(path: &Path<'_>) -> Result<Option<ModelRequest>, Refusal> {
    path.without_odd_escapes()?;
    Ok(None)
}

struct Resource<'a> {
    name: &'a str,
    version: Option<Version<'a>>,
}

struct Version<'a> {
    word: &'a str,
    text: &'a str,
    label: bool,
}

impl Version<'_> {
    fn read(&self) -> Result<ModelVersion, Refusal> {
        if self.label {
            return ModelVersion::label_bytes(&decoded(self.text)?);
        }
        // The server reads digits as an int64: 007 is version 7, and what overflows is an error there.
        match self.text.parse::<i64>() {
            Ok(number) if self.text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(ModelVersion::number(number))
            }
            _ => Err(Refusal::new(
                RefusalReason::AmbiguousVersion,
                "the version in the path is not an int64",
            )),
        }
    }
}

/// Reads what follows `/v1/models`. `None`: not of the grammar.
fn read<'a>(rest: &[&'a str]) -> Option<(Option<Resource<'a>>, Operation)> {
    let Some((last, before)) = rest.split_last() else {
        return Some((None, Operation::Metadata));
    };
    let (last, operation) = match last.split_once(':') {
        None => (*last, Operation::Metadata),
        Some((last, verb)) => (last, verb_operation(verb)?),
    };
    if before.iter().any(|segment| segment.contains(':')) || last.is_empty() {
        return None;
    }
    let asks_status = operation == Operation::Metadata;
    let resource = match (before, last) {
        ([], name) => Resource { name, version: None },
        ([name], last) if asks_status && is(last, "metadata") => Resource { name, version: None },
        ([name, word], text) => Resource {
            name,
            version: Some(version(word, text)?),
        },
        ([name, word, text], last) if asks_status && is(last, "metadata") => Resource {
            name,
            version: Some(version(word, text)?),
        },
        _ => return None,
    };
    Some((Some(resource), operation))
}

fn verb_operation(verb: &str) -> Option<Operation> {
    const VERBS: [(&str, Operation); 3] = [
        ("predict", Operation::Predict),
        ("classify", Operation::Classify),
        ("regress", Operation::Regress),
    ];
    VERBS
        .into_iter()
        .find(|(word, _)| is(verb, word))
        .map(|(_, operation)| operation)
}

fn version<'a>(word: &'a str, text: &'a str) -> Option<Version<'a>> {
    let label = is(word, "labels");
    (label || is(word, "versions")).then_some(Version { word, text, label })
}
