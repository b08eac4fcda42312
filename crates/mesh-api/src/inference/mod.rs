//! From a request to the model it asks for: protocol → operation, model, version.
//!
//! [`recognise`] reads the head of a request on a port whose protocol is declared ([`AppProtocol`]). Either that says
//! everything, or the name stands in the body: then a [`BodyScanner`] reads it as it passes through. All of it is pure
//! and incremental: no sockets, no clock, no body kept.
//!
//! The answer is what the model server will act on, so that routing and authorisation see the same request as the
//! server. Where servers of one protocol would disagree, there is no answer but a [`Refusal`].
//!
//! ```
//! use http::{HeaderMap, Method};
//! use mesh_api::inference::{AppProtocol, Head, Operation, Recognition, recognise};
//!
//! let head = Head { method: &Method::POST, target: "/v2/models/fraud/infer", headers: &HeaderMap::new() };
//! let Recognition::Known(request) = recognise(AppProtocol::OpenInference, &head)? else { panic!() };
//! assert_eq!(request.model.as_ref().map(|model| model.as_str()), Some("fraud"));
//! assert_eq!(request.operation, Operation::Infer);
//!
//! let head = Head { method: &Method::POST, target: "/v1/chat/completions", headers: &HeaderMap::new() };
//! let Recognition::Body(mut scanner) = recognise(AppProtocol::OpenAi, &head)? else { panic!() };
//! scanner.push(br#"{"model": "llama", "messa"#)?;
//! assert_eq!(scanner.found().and_then(|request| request.model.as_ref()).map(|model| model.as_str()), Some("llama"));
//! # Ok::<(), mesh_api::inference::Refusal>(())
//! ```

mod body;
mod capture;
mod disposition;
mod encoding;
mod grpc;
mod json;
mod kserve;
mod layout;
mod mlflow;
mod multipart;
mod name;
mod open_inference;
mod openai;
mod operation;
mod path;
mod protobuf;
mod protocol;
mod refusal;
mod request;
pub mod rewrite;
mod tensorflow;
mod unescape;
mod varint;

use http::{HeaderMap, Method};

pub use body::{BodyScanner, Limits};
pub use name::{MAX_NAME_BYTES, ModelName, ModelVersion, VersionText};
pub use operation::{Operation, UnknownOperation};
pub use protocol::{AppProtocol, UnknownProtocol};
pub use refusal::{Refusal, RefusalReason};
pub use request::{
    LengthPlace, MessagePlace, MessageStyle, ModelRequest, PathPlace, PathStyle, Place, SpecPlace, Unreadable,
};

use grpc::GrpcCall;
use open_inference::SeldonModel;
use openai::OpenAiPath;
use path::Path;

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target: path and query, or a whole URI. `*` is none and is recognised as plain.
    pub target: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// What the head of a request says.
#[derive(Debug)]
pub enum Recognition {
    /// Not a model request: it is routed by its HTTP attributes.
    Plain,
    /// A model request that the head names completely.
    Known(ModelRequest),
    /// A model request whose body names the model.
    Body(BodyScanner),
}

/// Reads the head of a request on a port that speaks `protocol`.
pub fn recognise(protocol: AppProtocol, head: &Head<'_>) -> Result<Recognition, Refusal> {
    if head.target == "*" || protocol == AppProtocol::Tcp {
        return Ok(Recognition::Plain);
    }
    if let Some(call) = grpc_call(protocol, head) {
        return grpc_body(protocol, call, head);
    }
    if !protocol.names_models() {
        return Ok(Recognition::Plain);
    }
    let path = Path::parse(head.target)?;
    let known = match protocol {
        AppProtocol::TensorFlow => tensorflow::path(&path, head.method)?,
        AppProtocol::OpenInference => open_inference(&path, head)?,
        AppProtocol::KServe => match kserve::path(&path, head.method)? {
            Some(request) => Some(request),
            None => match open_inference(&path, head)? {
                Some(request) => Some(request),
                // KServe's runtimes for language models serve /openai/v1.
                None => return openai(&path, head),
            },
        },
        AppProtocol::OpenAi => return openai(&path, head),
        AppProtocol::Mlflow => mlflow::path(&path)?,
        AppProtocol::Http
        | AppProtocol::Http2
        | AppProtocol::Grpc
        | AppProtocol::Tcp
        | AppProtocol::Detect => None,
    };
    Ok(known.map_or(Recognition::Plain, Recognition::Known))
}

/// The gRPC call of a model service. Where such a service is to be expected, the path alone decides: gRPC servers are
/// lenient about the content type.
fn grpc_call(protocol: AppProtocol, head: &Head<'_>) -> Option<GrpcCall> {
    let expected = match protocol {
        AppProtocol::TensorFlow
        | AppProtocol::OpenInference
        | AppProtocol::KServe
        | AppProtocol::Http2
        | AppProtocol::Grpc => true,
        AppProtocol::Http | AppProtocol::Detect => grpc::is_grpc(head.headers),
        AppProtocol::OpenAi | AppProtocol::Mlflow | AppProtocol::Tcp => false,
    };
    if !expected {
        return None;
    }
    grpc::call(head.target, |service, method| {
        tensorflow::call(service, method).or_else(|| open_inference::call(service, method))
    })
}

fn grpc_body(protocol: AppProtocol, call: GrpcCall, head: &Head<'_>) -> Result<Recognition, Refusal> {
    let seldon = match protocol {
        AppProtocol::OpenInference | AppProtocol::KServe => SeldonModel::read(head.headers)?,
        _ => None,
    };
    Ok(Recognition::Body(BodyScanner::grpc(call, head.headers, seldon)))
}

fn open_inference(path: &Path<'_>, head: &Head<'_>) -> Result<Option<ModelRequest>, Refusal> {
    let Some(mut request) = open_inference::path(path)? else {
        return Ok(None);
    };
    if let Some(seldon) = SeldonModel::read(head.headers)? {
        seldon.join(&mut request)?;
    }
    Ok(Some(request))
}

fn openai(path: &Path<'_>, head: &Head<'_>) -> Result<Recognition, Refusal> {
    let (operation, takes_forms) = match openai::path(path, head.method)? {
        OpenAiPath::Plain => return Ok(Recognition::Plain),
        OpenAiPath::Known(request) => return Ok(Recognition::Known(request)),
        OpenAiPath::Body { operation, multipart } => (operation, multipart),
    };
    let scanner = match multipart::boundary(head.headers)? {
        // Servers that read JSON read it whatever its content type says.
        None => BodyScanner::json(operation, head.headers),
        Some(boundary) if takes_forms => BodyScanner::multipart(operation, head.headers, &boundary),
        Some(_) => {
            return Err(Refusal::new(
                RefusalReason::UnsupportedMedia,
                "this operation takes JSON, not multipart/form-data",
            ));
        }
    };
    Ok(Recognition::Body(scanner))
}

#[cfg(test)]
mod tests;
