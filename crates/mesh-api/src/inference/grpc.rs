//! gRPC: the method from the path, and the names in every message of a request's body.
//!
//! A body is a row of messages, each behind a five-byte prefix: a flag that says whether it is compressed, and its
//! length. A stream names its model in every message anew.

use http::{HeaderMap, header};

use super::{
    encoding::{Coding, Inflate, Inflated},
    layout::Layout,
    operation::Operation,
    path::origin_form,
    protobuf::{MessageScanner, Named},
    refusal::{Refusal, RefusalReason},
    request::{MessagePlace, MessageStyle, ModelRequest, Place, Unreadable},
};

/// What a gRPC method asks, and where its messages name the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcCall {
    pub(super) operation: Operation,
    pub(super) layout: Layout,
    /// Whether the client may send several messages.
    pub(super) streaming: bool,
}

/// The call that a target names, if its service is a model service. Servers compare the path byte by byte.
pub(super) fn call(target: &str, find: impl Fn(&str, &str) -> Option<GrpcCall>) -> Option<GrpcCall> {
    let (service, method) = origin_form(target).ok()?.strip_prefix('/')?.split_once('/')?;
    find(service, method)
}

/// Whether the content type says gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Reads the body of a gRPC request in chunks of any size.
pub(super) struct GrpcScanner {
    call: GrpcCall,
    coding: Coding,
    limit: u64,
    at: At,
    /// Of the next byte of the body.
    offset: u64,
    prefix: Prefix,
    /// Whether the message being read was handed out already.
    told: bool,
    messages: u64,
}

#[expect(
    clippy::large_enum_variant,
    reason = "compressed messages are rare, plain ones are the hot path"
)]
enum At {
    /// In the prefix; so many of its bytes were read.
    Prefix(usize),
    /// In a message, with so many bytes left.
    Plain(u32, MessageScanner),
    /// In a compressed message.
    Compressed(u32, Box<Inflate<MessageScanner>>),
    /// In a compressed message that cannot be read.
    Unreadable(u32),
}

#[derive(Clone, Copy, Default)]
struct Prefix {
    bytes: [u8; 5],
    /// Where it begins.
    offset: u64,
}

impl Prefix {
    const fn length(self) -> u32 {
        let [_, a, b, c, d] = self.bytes;
        u32::from_be_bytes([a, b, c, d])
    }
}

impl GrpcScanner {
    /// `limit`: the most bytes that compressed messages may inflate to.
    pub(super) fn new(call: GrpcCall, headers: &HeaderMap, limit: u64) -> Self {
        Self {
            call,
            coding: Coding::of_messages(headers),
            limit,
            at: At::Prefix(0),
            offset: 0,
            prefix: Prefix::default(),
            told: false,
            messages: 0,
        }
    }

    pub(super) const fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// From where on the bytes are needed to rewrite a message whose name is not yet certain.
    pub(super) fn hold_from(&self) -> Option<u64> {
        match self.at {
            At::Prefix(0) => (self.messages == 0).then_some(self.offset),
            _ => (!self.told).then_some(self.prefix.offset),
        }
    }

    /// Reads the next piece, and hands out what each message names as soon as it is certain.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        tell: &mut impl FnMut(ModelRequest) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let read = self.step(rest)?;
            self.offset += read as u64;
            rest = &rest[read..];
            self.tell_if_certain(tell)?;
        }
        Ok(())
    }

    /// The body is over: refuses one that breaks off.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match self.at {
            At::Prefix(0) => Ok(()),
            _ => Err(malformed("the last gRPC message breaks off")),
        }
    }

    /// Reads at least one byte of `bytes`, which holds at least one, and says how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match &mut self.at {
            At::Prefix(have) => {
                let start = *have;
                if start == 0 {
                    self.prefix.offset = self.offset;
                    self.told = false;
                }
                let read = bytes.len().min(5 - start);
                self.prefix.bytes[start..start + read].copy_from_slice(&bytes[..read]);
                *have += read;
                if start + read == 5 {
                    self.begin_message()?;
                }
                Ok(read)
            }
            At::Plain(left, scanner) => {
                let (piece, read) = take(left, bytes);
                scanner.push(piece)?;
                Ok(read)
            }
            At::Compressed(left, inflate) => {
                let (piece, read) = take(left, bytes);
                inflate.push(piece)?;
                Ok(read)
            }
            At::Unreadable(left) => Ok(take(left, bytes).1),
        }
    }

    fn begin_message(&mut self) -> Result<(), Refusal> {
        let length = self.prefix.length();
        self.messages += 1;
        if self.messages > 1 && !self.call.streaming {
            return Err(malformed("a unary gRPC request holds a second message"));
        }
        let (layout, base) = (self.call.layout, self.prefix.offset + 5);
        let scanner = |length| MessageScanner::new(layout, base, length);
        self.at = match (self.prefix.bytes[0], self.coding) {
            (0, _) => At::Plain(length, scanner(Some(u64::from(length)))),
            (1, Coding::Identity) => {
                return Err(malformed("a gRPC message is compressed without a grpc-encoding"));
            }
            (1, Coding::Foreign) => At::Unreadable(length),
            (1, coding) => At::Compressed(length, Box::new(Inflate::new(coding, scanner(None), self.limit))),
            _ => return Err(malformed("a gRPC message has unknown flags")),
        };
        Ok(())
    }

    /// Hands out what the current message names, and leaves the message at its end.
    fn tell_if_certain(
        &mut self,
        tell: &mut impl FnMut(ModelRequest) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let call = self.call;
        let (ended, request) = match &mut self.at {
            At::Prefix(_) => return Ok(()),
            At::Plain(left, scanner) => {
                let named = if *left == 0 {
                    Some(scanner.finish()?)
                } else {
                    scanner.certain()
                };
                let told = self.told;
                let request = named
                    .filter(|_| !told)
                    .map(|named| plain(call, named, self.prefix));
                (*left == 0, request)
            }
            At::Compressed(left, inflate) => {
                let named = if *left == 0 {
                    inflate.finish()?;
                    Some(inflate.scanner_mut().finish()?)
                } else {
                    inflate.scanner().certain()
                };
                let told = self.told;
                (
                    *left == 0,
                    named.filter(|_| !told).map(|named| compressed(call, named)),
                )
            }
            At::Unreadable(left) => {
                let request = ModelRequest::unreadable(call.operation, Unreadable::MessageEncoding);
                (*left == 0, (!self.told).then_some(request))
            }
        };
        if let Some(request) = request {
            self.told = true;
            tell(request)?;
        }
        if ended {
            self.at = At::Prefix(0);
        }
        Ok(())
    }
}

impl Inflated for MessageScanner {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        Self::push(self, bytes)
    }
}

/// Takes the part of `bytes` that belongs to a message with `left` bytes to come.
fn take<'a>(left: &mut u32, bytes: &'a [u8]) -> (&'a [u8], usize) {
    let read = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= u32::try_from(read).unwrap_or(*left);
    (&bytes[..read], read)
}

fn plain(call: GrpcCall, named: &Named, prefix: Prefix) -> ModelRequest {
    let style = match call.layout {
        Layout::Unnamed => return ModelRequest::unnamed(call.operation),
        // Without tasks there is nothing to name a model for.
        Layout::Tasks if named.specs.is_empty() => return ModelRequest::unnamed(call.operation),
        Layout::Spec | Layout::Tasks => MessageStyle::Spec,
        Layout::Strings => MessageStyle::Strings,
        Layout::Repository => MessageStyle::NameOnly,
    };
    let place = MessagePlace {
        prefix: prefix.offset,
        length: prefix.length(),
        style,
        specs: named.specs.clone(),
    };
    ModelRequest {
        model: named.model.clone(),
        version: named.version.clone(),
        place: Place::Message(place),
        ..ModelRequest::unnamed(call.operation)
    }
}

fn compressed(call: GrpcCall, named: &Named) -> ModelRequest {
    ModelRequest {
        model: named.model.clone(),
        version: named.version.clone(),
        place: Place::Compressed,
        ..ModelRequest::unnamed(call.operation)
    }
}

#[cold]
fn malformed(what: &'static str) -> Refusal {
    Refusal::new(RefusalReason::MalformedBody, what)
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
