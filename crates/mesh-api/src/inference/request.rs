//! A recognised model request: what it asks for, and where on the wire it says so.

use std::ops::Range;

use super::{
    name::{ModelName, ModelVersion},
    operation::Operation,
};

/// What a request asks of which model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// What is asked.
    pub operation: Operation,
    /// The model by the name its server will see. `None`: the request names none (a health check, an MLflow scoring
    /// request, a default model), or its name cannot be read (see `unreadable`).
    pub model: Option<ModelName>,
    /// The version asked for. `None`: the server chooses, mostly the latest.
    pub version: Option<ModelVersion>,
    /// Where model and version stand, for rewriting.
    pub place: Place,
    /// That the header `seldon-model` names the model as well, with the suffix it has there (such as `.pipeline`, or
    /// nothing).
    pub seldon_suffix: Option<&'static str>,
    /// Why the name cannot be read although the protocol has one. The caller decides: under an access policy such a
    /// request is refused, without one it goes to the default backend.
    pub unreadable: Option<Unreadable>,
}

impl ModelRequest {
    /// A request that names no model.
    pub const fn unnamed(operation: Operation) -> Self {
        Self {
            operation,
            model: None,
            version: None,
            place: Place::Nowhere,
            seldon_suffix: None,
            unreadable: None,
        }
    }

    pub(super) const fn unreadable(operation: Operation, why: Unreadable) -> Self {
        let mut request = Self::unnamed(operation);
        request.unreadable = Some(why);
        request
    }
}

/// Why a name that should be in the body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// `content-encoding` is none that is read (gzip, x-gzip and deflate are), or several are stacked.
    ContentEncoding,
    /// A gRPC message is compressed with a `grpc-encoding` that is not read (gzip and deflate are).
    MessageEncoding,
}

impl Unreadable {
    /// The stable word for headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContentEncoding => "unreadable-content-encoding",
            Self::MessageEncoding => "unreadable-message-encoding",
        }
    }
}

/// Where a request names its model. Body offsets count from the first byte of the body as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Nowhere,
    /// In the path of the request target.
    Path(PathPlace),
    /// In the query of the request target.
    Query,
    /// In a JSON body: the bytes of the string, quotes included.
    Json(Range<u64>),
    /// In a multipart body: the bytes of the field's value.
    Multipart(Range<u64>),
    /// In a gRPC message.
    Message(MessagePlace),
    /// In a body or message that is compressed: its bytes cannot be spliced.
    Compressed,
}

/// Where a path names model and version, as byte ranges of the request target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPlace {
    /// The name's segment (or the part of it before `:`).
    pub name: Range<usize>,
    /// `/versions/{v}` or `/labels/{l}`, leading slash included; empty where it would be inserted.
    pub version: Range<usize>,
    /// Which grammar the path follows.
    pub style: PathStyle,
}

/// The grammar of a path that names a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStyle {
    /// TensorFlow Serving: `/versions/{digits}` or `/labels/{label}`; every character of a name may be escaped.
    TensorFlow,
    /// KServe V1: like TensorFlow Serving, but names keep their colons and may not escape much.
    KServe,
    /// Open Inference V2: `/versions/{text}`; servers disagree about escapes.
    OpenInference,
    /// A segment with a name and nothing about versions.
    NameOnly,
    /// The rest of the path is the name, slashes included (OpenAI's `/v1/models/{id}`).
    Rest,
}

/// Where a gRPC message names model and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePlace {
    /// Where the message's five-byte prefix begins.
    pub prefix: u64,
    /// The length that the prefix announces, in bytes.
    pub length: u32,
    /// How the message writes names.
    pub style: MessageStyle,
    /// Every place that names the model: one, except in `MultiInference`; none where the message leaves it out.
    pub specs: Vec<SpecPlace>,
}

/// How a gRPC message writes model and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageStyle {
    /// `tensorflow.serving.ModelSpec` in field 1.
    Spec,
    /// A string for the name and a string for the version in the message itself.
    Strings,
    /// A string for the name, no version (loading and unloading).
    NameOnly,
}

/// One place of a message that names the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecPlace {
    /// The lengths of the messages around it, outermost first, that change when it grows.
    pub lengths: [Option<LengthPlace>; 2],
    /// Where the fields begin.
    pub start: u64,
    /// The whole field that holds the name, with the field's number.
    pub name: Option<(u32, Range<u64>)>,
    /// The whole field that holds version or label.
    pub version: Option<Range<u64>>,
}

/// The length of an embedded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LengthPlace {
    /// Where the varint stands.
    pub at: Range<u64>,
    /// What it says, in bytes.
    pub value: u64,
}
