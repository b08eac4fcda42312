//! Open Inference Protocol V2 (Triton, MLServer, KServe, Seldon): REST paths and the gRPC service.
//!
//! Triton takes names raw from the path, Python servers decode the path before they match it. So a name may escape only
//! what a path cannot hold, and a path that escapes slashes or ordinary letters is refused. Triton reads versions as
//! numbers (`007` is 7), other servers as text: a number with leading zeros, a sign or a space is refused.

use http::HeaderMap;

use super::{
    grpc::GrpcCall,
    layout::Layout,
    name::{ModelName, ModelVersion},
    operation::Operation,
    path::{Path, decoded, is, name},
    refusal::{Refusal, RefusalReason},
    request::{ModelRequest, PathPlace, PathStyle, Place},
};

const SERVICE: &str = "inference.GRPCInferenceService";

/// The operation and message layout of a method of `inference.GRPCInferenceService`.
pub(super) fn call(service: &str, method: &str) -> Option<GrpcCall> {
    if service != SERVICE {
        return None;
    }
    let (operation, layout) = match method {
        "ModelInfer" => (Operation::Infer, Layout::Strings),
        "ModelStreamInfer" => {
            return Some(GrpcCall {
                operation: Operation::Infer,
                layout: Layout::Strings,
                streaming: true,
            });
        }
        "ModelReady" => (Operation::Health, Layout::Strings),
        "ModelMetadata" | "ModelConfig" | "ModelStatistics" => (Operation::Metadata, Layout::Strings),
        "ServerLive" | "ServerReady" => (Operation::Health, Layout::Unnamed),
        "ServerMetadata" => (Operation::Metadata, Layout::Unnamed),
        "RepositoryModelLoad" | "RepositoryModelUnload" => (Operation::Admin, Layout::Repository),
        _ if method.starts_with("Repository")
            || method.contains("SharedMemory")
            || method.ends_with("Setting")
            || method.ends_with("Settings") =>
        {
            (Operation::Admin, Layout::Unnamed)
        }
        _ => (Operation::Other, Layout::Unnamed),
    };
    Some(GrpcCall {
        operation,
        layout,
        streaming: false,
    })
}

/// Reads a REST path. `None`: not a path of the protocol.
pub(super) fn path(path: &Path<'_>) -> Result<Option<ModelRequest>, Refusal> {
    path.without_odd_escapes()?;
    let segments = path.segments::<9>();
    let (model, version, operation) = match segments.as_slice() {
        // MLServer's MLflow runtime and Triton's SageMaker mode.
        [only] if is(only, "invocations") => (None, None, Operation::Score),
        [v2, rest @ ..] if is(v2, "v2") => read(rest),
        _ => return Ok(None),
    };
    let Some(model) = model else {
        return Ok(Some(ModelRequest::unnamed(operation)));
    };
    let name_at = path.range_of(model);
    let version_at = match version {
        Some((word, text)) => path.range_of(word).start - 1..path.range_of(text).end,
        None => name_at.end..name_at.end,
    };
    let style = match operation {
        Operation::Admin => PathStyle::NameOnly,
        _ => PathStyle::OpenInference,
    };
    Ok(Some(ModelRequest {
        model: Some(name(model)?),
        version: version
            .map(|(_, text)| text_version(&decoded(text)?))
            .transpose()?,
        place: Place::Path(PathPlace {
            name: name_at,
            version: version_at,
            style,
        }),
        ..ModelRequest::unnamed(operation)
    }))
}

type Read<'a> = (Option<&'a str>, Option<(&'a str, &'a str)>, Operation);

/// Reads what follows `/v2`: model, version (with the word before it), operation.
fn read<'a>(rest: &[&'a str]) -> Read<'a> {
    match rest {
        [] => (None, None, Operation::Metadata),
        [word, ..] if is(word, "health") => (None, None, Operation::Health),
        [word] if is(word, "models") => (None, None, Operation::Metadata),
        // Triton's statistics of all models.
        [word, stats] if is(word, "models") && is(stats, "stats") => (None, None, Operation::Metadata),
        [word, model, versions, version, action @ ..] if is(word, "models") && is(versions, "versions") => {
            (Some(model), Some((versions, version)), action_operation(action))
        }
        [word, model, action @ ..] if is(word, "models") => (Some(model), None, action_operation(action)),
        [word, index @ ..] if is(word, "repository") => (repository_model(index), None, Operation::Admin),
        [word, ..] if is_administration(word) => (None, None, Operation::Admin),
        _ => (None, None, Operation::Other),
    }
}

fn action_operation(action: &[&str]) -> Operation {
    const ACTIONS: [(&str, Operation); 9] = [
        ("infer", Operation::Infer),
        ("infer_stream", Operation::Infer),
        ("generate", Operation::Generate),
        ("generate_stream", Operation::Generate),
        ("explain", Operation::Explain),
        ("ready", Operation::Health),
        ("config", Operation::Metadata),
        ("stats", Operation::Metadata),
        ("versions", Operation::Metadata),
    ];
    match action {
        [] => Operation::Metadata,
        [word, ..] if is(word, "trace") => Operation::Admin,
        [word] => {
            let known = ACTIONS.into_iter().find(|(action, _)| is(word, action));
            known.map_or(Operation::Other, |(_, operation)| operation)
        }
        _ => Operation::Other,
    }
}

/// The model that `/v2/repository/[{repository}/]models/{model}/{load|unload}` names.
fn repository_model<'a>(rest: &[&'a str]) -> Option<&'a str> {
    match rest {
        [models, model, _] | [_, models, model, _] if is(models, "models") => Some(model),
        _ => None,
    }
}

fn is_administration(word: &str) -> bool {
    is(word, "trace") || is(word, "logging") || word.to_ascii_lowercase().ends_with("sharedmemory")
}

/// The version that a text stands for, where Triton and servers that keep it as text agree.
pub(super) fn text_version(text: &[u8]) -> Result<ModelVersion, Refusal> {
    let padded = text.len() > 1 && text[0] == b'0' && text.iter().all(u8::is_ascii_digit);
    let signed = text
        .first()
        .is_some_and(|first| matches!(first, b'+' | b'-' | b' '));
    if padded || signed {
        return Err(Refusal::new(
            RefusalReason::AmbiguousVersion,
            "the version is a number with leading zeros, a sign or a space, which servers read differently",
        ));
    }
    ModelVersion::exact_bytes(text)
}

/// What the header `seldon-model` says.
pub(super) struct SeldonModel {
    /// The name, without its suffix.
    name: ModelName,
    /// What Seldon appends to address something else than a model.
    suffix: &'static str,
}

impl SeldonModel {
    /// Reads the header.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        const SUFFIXES: [&str; 3] = [".pipeline", ".experiment", ".model"];
        let mut values = headers.get_all("seldon-model").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Refusal::new(
                RefusalReason::AmbiguousModel,
                "the header seldon-model is repeated",
            ));
        }
        let value = value.as_bytes();
        let suffix = SUFFIXES
            .into_iter()
            .find(|suffix| value.ends_with(suffix.as_bytes()))
            .unwrap_or("");
        let name = ModelName::from_bytes(&value[..value.len() - suffix.len()])?;
        Ok(Some(Self { name, suffix }))
    }

    /// Adds to a request what the header says. It wins in Seldon, the request's own name in a server that does not
    /// know the header: so they must agree, and the header decides alone where the request names nothing.
    pub(super) fn join(&self, request: &mut ModelRequest) -> Result<(), Refusal> {
        match &request.model {
            Some(named) if *named != self.name => {
                return Err(Refusal::new(
                    RefusalReason::AmbiguousModel,
                    "the header seldon-model and the request name different models",
                ));
            }
            Some(_) => {}
            None if request.operation.runs_model() => request.model = Some(self.name.clone()),
            None => return Ok(()),
        }
        request.seldon_suffix = Some(self.suffix);
        Ok(())
    }
}
