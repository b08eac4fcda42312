//! Reads the body of a request for the model it names, as the body passes through.

use http::HeaderMap;

use super::{
    encoding::{Coding, Inflate, Inflated},
    grpc::{GrpcCall, GrpcScanner},
    json::JsonScanner,
    multipart::MultipartScanner,
    open_inference::SeldonModel,
    operation::Operation,
    refusal::Refusal,
    request::{ModelRequest, Place, Unreadable},
};

/// Bounds on what a scanner does for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that a compressed body, or one compressed gRPC message, may inflate to while it is read for its
    /// name. Nothing of it is kept: this bounds work, not memory.
    pub inflated_bytes: u64,
}

impl Default for Limits {
    /// 64 MiB.
    fn default() -> Self {
        Self {
            inflated_bytes: 64 << 20,
        }
    }
}

/// Reads a request's body, in chunks of any size, for the model it names.
///
/// It keeps no byte of the body beyond the name. Feed it every chunk with [`push`](Self::push), also after
/// [`found`](Self::found) answers: what comes later can still show that servers would disagree about the name, which
/// is a [`Refusal`]. Whoever must not act on a request that may yet be refused waits for [`finish`](Self::finish).
///
/// However a body is cut into chunks, the answers are the same at its end.
pub struct BodyScanner {
    operation: Operation,
    /// Boxed: it is large, and a request is moved more often than it is read.
    reader: Box<Reader>,
    seldon: Option<SeldonModel>,
    found: Option<ModelRequest>,
    offset: u64,
}

#[expect(clippy::large_enum_variant, reason = "boxed as a whole")]
enum Reader {
    Text(TextScanner),
    Compressed(Box<Inflate<TextScanner>>),
    Grpc(GrpcScanner),
    /// Nothing can be read, or nothing needs to be.
    Done,
}

/// A scanner of a body that names one model.
#[expect(clippy::large_enum_variant, reason = "forms are rare, JSON is the hot path")]
enum TextScanner {
    Json(JsonScanner),
    Multipart(Box<MultipartScanner>),
}

impl BodyScanner {
    pub(super) fn json(operation: Operation, headers: &HeaderMap) -> Self {
        Self::text(operation, headers, TextScanner::Json(JsonScanner::new()))
    }

    pub(super) fn multipart(operation: Operation, headers: &HeaderMap, boundary: &[u8]) -> Self {
        let scanner = MultipartScanner::new(boundary);
        Self::text(operation, headers, TextScanner::Multipart(Box::new(scanner)))
    }

    pub(super) fn grpc(call: GrpcCall, headers: &HeaderMap, seldon: Option<SeldonModel>) -> Self {
        let scanner = GrpcScanner::new(call, headers, Limits::default().inflated_bytes);
        Self {
            operation: call.operation,
            reader: Box::new(Reader::Grpc(scanner)),
            seldon,
            found: None,
            offset: 0,
        }
    }

    fn text(operation: Operation, headers: &HeaderMap, scanner: TextScanner) -> Self {
        let mut found = None;
        let reader = match Coding::of_body(headers) {
            Coding::Identity => Reader::Text(scanner),
            Coding::Foreign => {
                found = Some(ModelRequest::unreadable(operation, Unreadable::ContentEncoding));
                Reader::Done
            }
            coding => {
                let inflate = Inflate::new(coding, scanner, Limits::default().inflated_bytes);
                Reader::Compressed(Box::new(inflate))
            }
        };
        Self {
            operation,
            reader: Box::new(reader),
            seldon: None,
            found,
            offset: 0,
        }
    }

    /// Sets the bounds; to be called before the first [`push`](Self::push).
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        match &mut *self.reader {
            Reader::Compressed(inflate) => inflate.set_limit(limits.inflated_bytes),
            Reader::Grpc(scanner) => scanner.set_limit(limits.inflated_bytes),
            Reader::Text(_) | Reader::Done => {}
        }
        self
    }

    /// What is asked; known from the head on.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Reads the next chunk of the body, as it came over the wire.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        self.push_messages(chunk, |_| {})
    }

    /// [`push`](Self::push), for streams in which every message names its model: `tell` is called with every message,
    /// in order, as soon as its name is certain. The first one pins the route; the caller decides about a later one
    /// that names another model. Bodies that are no streams tell once.
    pub fn push_messages(
        &mut self,
        chunk: &[u8],
        mut tell: impl FnMut(&ModelRequest),
    ) -> Result<(), Refusal> {
        self.offset += chunk.len() as u64;
        match &mut *self.reader {
            Reader::Done => Ok(()),
            Reader::Text(scanner) => {
                scanner.push(chunk)?;
                if self.found.is_none()
                    && let Some(request) = scanner.found(self.operation)
                {
                    tell(self.found.insert(request));
                }
                Ok(())
            }
            Reader::Compressed(inflate) => {
                inflate.push(chunk)?;
                if self.found.is_none()
                    && let Some(request) = inflate.scanner().found(self.operation)
                {
                    tell(self.found.insert(ModelRequest {
                        place: Place::Compressed,
                        ..request
                    }));
                }
                Ok(())
            }
            Reader::Grpc(scanner) => {
                let (seldon, found) = (&self.seldon, &mut self.found);
                scanner.push(chunk, &mut |mut request| {
                    if let Some(seldon) = seldon {
                        seldon.join(&mut request)?;
                    }
                    tell(&request);
                    found.get_or_insert(request);
                    Ok(())
                })
            }
        }
    }

    /// What the request asks of which model, as soon as it is certain enough to route: the first complete name of a
    /// JSON or multipart body, the first gRPC message whose fields of interest have passed.
    pub const fn found(&self) -> Option<&ModelRequest> {
        self.found.as_ref()
    }

    /// The end of the body: what the request asks of which model, if it names one.
    pub fn finish(&mut self) -> Result<ModelRequest, Refusal> {
        match &mut *self.reader {
            Reader::Done => {}
            Reader::Text(scanner) => scanner.finish()?,
            Reader::Compressed(inflate) => {
                inflate.finish()?;
                inflate.scanner().finish()?;
            }
            Reader::Grpc(scanner) => scanner.finish()?,
        }
        if let Some(found) = &self.found {
            return Ok(found.clone());
        }
        let mut request = ModelRequest::unnamed(self.operation);
        if let Some(seldon) = &self.seldon {
            seldon.join(&mut request)?;
        }
        Ok(request)
    }

    /// From which byte of the body on nothing may be forwarded yet if the name is to be rewritten: the begin of the
    /// body or gRPC message whose name is not certain. `None`: everything read so far may go.
    pub fn hold_from(&self) -> Option<u64> {
        match &*self.reader {
            Reader::Done => None,
            Reader::Text(_) | Reader::Compressed(_) => self.found.is_none().then_some(0),
            Reader::Grpc(scanner) => scanner.hold_from(),
        }
    }

    /// How many bytes of the body were read.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// What the top-level key `stream` of a JSON body says, once it has passed.
    pub fn stream(&self) -> Option<bool> {
        match &*self.reader {
            Reader::Text(TextScanner::Json(json)) => json.stream(),
            Reader::Compressed(inflate) => match inflate.scanner() {
                TextScanner::Json(json) => json.stream(),
                TextScanner::Multipart(_) => None,
            },
            Reader::Text(TextScanner::Multipart(_)) | Reader::Grpc(_) | Reader::Done => None,
        }
    }
}

impl std::fmt::Debug for BodyScanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyScanner")
            .field("operation", &self.operation)
            .field("offset", &self.offset)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl TextScanner {
    fn found(&self, operation: Operation) -> Option<ModelRequest> {
        let (model, place) = match self {
            Self::Json(json) => json.model().map(|(model, at)| (model, Place::Json(at)))?,
            Self::Multipart(multipart) => multipart
                .model()
                .map(|(model, at)| (model, Place::Multipart(at)))?,
        };
        Some(ModelRequest {
            model: Some(model.clone()),
            place,
            ..ModelRequest::unnamed(operation)
        })
    }

    fn finish(&self) -> Result<(), Refusal> {
        match self {
            Self::Json(json) => json.finish(),
            Self::Multipart(multipart) => multipart.finish(),
        }
    }
}

impl Inflated for TextScanner {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self {
            Self::Json(json) => json.push(bytes),
            Self::Multipart(multipart) => multipart.push(bytes),
        }
    }
}
