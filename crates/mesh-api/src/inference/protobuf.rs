//! Finds model and version in a protobuf message that arrives in pieces.
//!
//! Only tags and lengths are read; what is of no interest is skipped by count, so the cost grows with the number of
//! fields and not with their bytes. Fields may come in any order. In protobuf the last of a repeated field wins, and a
//! repeated message is merged: a message that repeats a field of interest is refused. So are groups, reserved wire
//! types and varints that parsers read differently.

use super::{
    capture::Capture,
    layout::{Interest, Layout, Shape, Text},
    name::{ModelName, ModelVersion},
    open_inference::text_version,
    refusal::{Refusal, RefusalReason},
    request::{LengthPlace, SpecPlace},
    varint::Varint,
};

/// An open message.
#[derive(Clone)]
struct Frame {
    shape: Shape,
    /// Where it ends, in bytes of the outermost message.
    end: u64,
    /// Where the field that holds it begins.
    field: u64,
    length: Option<LengthPlace>,
    /// The numbers of interest that were met, as bits.
    seen: u8,
}

/// What the scanner reads next.
#[derive(Clone, Copy)]
enum Token {
    Tag(Varint),
    /// The value of a varint field.
    Value(u32, Varint),
    /// The length of a field.
    Length(u32, Varint),
    /// So many bytes of no interest.
    Skip(u64),
    /// So many bytes of a text.
    Text(Text, u32, u64),
}

/// What a message names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) model: Option<ModelName>,
    pub(super) version: Option<ModelVersion>,
    pub(super) specs: Vec<SpecPlace>,
}

/// Reads one message in chunks of any size.
pub(super) struct MessageScanner {
    frames: [Frame; 4],
    depth: usize,
    token: Token,
    /// Of the next byte, in the outermost message.
    offset: u64,
    /// Where the outermost message begins in the body.
    base: u64,
    /// Where the field being read begins.
    field: u64,
    text: Capture,
    named: Named,
    /// What the current `ModelSpec` says; compared with `named` when it ends.
    spec: Spec,
    certain: bool,
}

#[derive(Default)]
struct Spec {
    model: Option<ModelName>,
    version: Option<ModelVersion>,
    place: SpecPlace,
}

impl MessageScanner {
    /// Begins a message of `length` bytes (`None`: not known) at `base` of the body.
    pub(super) fn new(layout: Layout, base: u64, length: Option<u64>) -> Self {
        let root = Frame {
            shape: Shape::Root(layout),
            end: length.unwrap_or(u64::MAX),
            field: 0,
            length: None,
            seen: 0,
        };
        let mut scanner = Self {
            frames: std::array::from_fn(|_| root.clone()),
            depth: 0,
            token: Token::Tag(Varint::default()),
            offset: 0,
            base,
            field: 0,
            text: Capture::new(),
            named: Named::default(),
            spec: Spec::default(),
            certain: layout == Layout::Unnamed,
        };
        scanner.spec.place.start = base;
        scanner
    }

    /// What the message names, once a field that stands behind all fields of interest was met. A field of interest
    /// that comes later still is refused.
    pub(super) fn certain(&self) -> Option<&Named> {
        self.certain.then_some(&self.named)
    }

    /// Whether every byte to come can be left unread.
    pub(super) fn indifferent(&self) -> bool {
        self.frames[0].shape == Shape::Root(Layout::Unnamed)
    }

    /// Reads the next piece.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        if self.indifferent() {
            return Ok(());
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let read = self.step(rest)?;
            self.offset += read as u64;
            rest = &rest[read..];
            self.leave_ended()?;
        }
        Ok(())
    }

    /// The message is over: what it names.
    pub(super) fn finish(&mut self) -> Result<&Named, Refusal> {
        let between_fields = matches!(self.token, Token::Tag(Varint { bytes: 0, .. }));
        if !self.indifferent() && (self.depth > 0 || !between_fields) {
            return Err(malformed("a protobuf message breaks off"));
        }
        self.conclude()?;
        Ok(&self.named)
    }

    /// Reads at least one byte of `bytes`, which holds at least one, and says how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let byte = bytes[0];
        match &mut self.token {
            Token::Tag(varint) => {
                if varint.bytes == 0 {
                    self.field = self.offset;
                }
                if let Some(tag) = varint.push(byte, 5)? {
                    // A padded tag is what some parsers refuse and others read.
                    if varint.bytes > 1 && byte == 0 {
                        return Err(malformed("a protobuf tag is padded"));
                    }
                    self.tag(tag)?;
                }
                Ok(1)
            }
            Token::Value(number, varint) => {
                let number = *number;
                if let Some(value) = varint.push(byte, 10)? {
                    self.value(number, value);
                    self.token = Token::Tag(Varint::default());
                }
                Ok(1)
            }
            Token::Length(number, varint) => {
                let number = *number;
                if let Some(length) = varint.push(byte, 5)? {
                    let bytes = varint.bytes;
                    self.length(number, length, bytes)?;
                }
                Ok(1)
            }
            Token::Skip(left) => {
                let read = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= read as u64;
                if *left == 0 {
                    self.token = Token::Tag(Varint::default());
                }
                Ok(read)
            }
            Token::Text(text, number, left) => {
                let read = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= read as u64;
                let (text, number, done) = (*text, *number, *left == 0);
                self.text.extend(&bytes[..read]);
                if done {
                    self.text(text, number, self.offset + read as u64)?;
                }
                Ok(read)
            }
        }
    }

    /// A tag was read: begins the field.
    fn tag(&mut self, tag: u64) -> Result<(), Refusal> {
        let tag = u32::try_from(tag).map_err(|_| malformed("a protobuf tag has more than 32 bits"))?;
        let (number, wire) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err(malformed("a protobuf field has number 0"));
        }
        let frame = &mut self.frames[self.depth];
        let interest = frame.shape.interest(number);
        if interest == Interest::None {
            if self.depth == 0 && number > frame.shape.last() && !self.certain {
                self.conclude_if_named()?;
            }
        } else {
            let bit = 1_u8 << number;
            let repeatable = frame.shape == Shape::Root(Layout::Tasks);
            if self.certain || (frame.seen & bit != 0 && !repeatable) {
                return Err(Refusal::new(
                    RefusalReason::DuplicateModel,
                    "a protobuf message names model or version twice, or after other fields",
                ));
            }
            frame.seen |= bit;
            let expected = if interest == Interest::Number { 0 } else { 2 };
            if wire != expected {
                return Err(malformed(
                    "a protobuf field that names the model has the wrong wire type",
                ));
            }
        }
        self.token = match wire {
            0 => Token::Value(number, Varint::default()),
            1 => Token::Skip(8),
            2 => Token::Length(number, Varint::default()),
            5 => Token::Skip(4),
            _ => {
                return Err(malformed(
                    "a protobuf field is a group or of a reserved wire type",
                ));
            }
        };
        Ok(())
    }

    /// The value of a varint field was read.
    fn value(&mut self, number: u32, value: u64) {
        if self.frames[self.depth].shape.interest(number) == Interest::Number {
            self.spec.version = Some(ModelVersion::number(value.cast_signed()));
        }
    }

    /// The length of a field was read, in so many bytes of varint.
    fn length(&mut self, number: u32, length: u64, bytes: u8) -> Result<(), Refusal> {
        let after = self.offset + 1;
        let end = after + length;
        if end > self.frames[self.depth].end {
            return Err(malformed("a protobuf field ends after its message"));
        }
        self.token = match self.frames[self.depth].shape.interest(number) {
            Interest::None | Interest::Number if length == 0 => Token::Tag(Varint::default()),
            Interest::None | Interest::Number => Token::Skip(length),
            Interest::Enter(shape) => {
                let at = self.base + after - u64::from(bytes)..self.base + after;
                self.enter(shape, end, LengthPlace { at, value: length });
                Token::Tag(Varint::default())
            }
            Interest::Capture(text) => {
                self.text.clear();
                if length == 0 {
                    self.text(text, number, after)?;
                    Token::Tag(Varint::default())
                } else {
                    Token::Text(text, number, length)
                }
            }
        };
        Ok(())
    }

    fn enter(&mut self, shape: Shape, end: u64, length: LengthPlace) {
        if shape == Shape::Spec {
            let mut lengths = [None, None];
            let around = self.frames[1..=self.depth]
                .iter()
                .filter_map(|frame| frame.length.clone());
            for (slot, length) in lengths.iter_mut().zip(around.chain([length.clone()])) {
                *slot = Some(length);
            }
            let start = length.at.end;
            self.spec = Spec {
                place: SpecPlace {
                    lengths,
                    start,
                    name: None,
                    version: None,
                },
                ..Spec::default()
            };
        }
        if shape == Shape::Int64 {
            // Without a value, an Int64Value is 0.
            self.spec.version = Some(ModelVersion::number(0));
        }
        // Shapes nest at most Root, Task, Spec, Int64: four frames.
        self.depth += 1;
        self.frames[self.depth] = Frame {
            shape,
            end,
            field: self.field,
            length: Some(length),
            seen: 0,
        };
    }

    /// A text was captured whole; its field ends at `end`.
    fn text(&mut self, text: Text, number: u32, end: u64) -> Result<(), Refusal> {
        self.token = Token::Tag(Varint::default());
        let at = self.base + self.field..self.base + end;
        match text {
            Text::Name => {
                if let Some(name) = self.text.name()? {
                    if self.spec.model.is_some() {
                        return Err(Refusal::new(
                            RefusalReason::AmbiguousModel,
                            "the message names a repository and a model, which servers tell apart differently",
                        ));
                    }
                    self.spec.model = Some(name);
                    self.spec.place.name = Some((number, at));
                } else if self.spec.place.name.is_none() {
                    self.spec.place.name = Some((number, at));
                }
            }
            Text::Version => {
                self.spec.place.version = Some(at);
                if !self.text.as_bytes().is_empty() {
                    self.spec.version = Some(text_version(self.text.as_bytes())?);
                }
            }
            Text::Label => {
                if self.spec.place.version.is_some() {
                    return Err(two_versions());
                }
                self.spec.place.version = Some(at);
                if !self.text.as_bytes().is_empty() {
                    self.spec.version = Some(ModelVersion::label_bytes(self.text.as_bytes())?);
                }
            }
        }
        Ok(())
    }

    /// Leaves the messages that end here, and refuses fields that reach over the end of theirs.
    fn leave_ended(&mut self) -> Result<(), Refusal> {
        while self.depth > 0 && self.offset >= self.frames[self.depth].end {
            let between_fields = matches!(self.token, Token::Tag(Varint { bytes: 0, .. }));
            if self.offset > self.frames[self.depth].end || !between_fields {
                return Err(malformed("a protobuf field ends after its message"));
            }
            let Frame { shape, field, .. } = self.frames[self.depth];
            self.depth -= 1;
            match shape {
                Shape::Int64 => {
                    if self.spec.place.version.is_some() {
                        return Err(two_versions());
                    }
                    self.spec.place.version = Some(self.base + field..self.base + self.offset);
                }
                Shape::Spec => self.end_spec()?,
                Shape::Task | Shape::Root(_) => {}
            }
        }
        Ok(())
    }

    /// A spec is complete. Several of them (`MultiInference`) must name the same: the server runs the first.
    fn end_spec(&mut self) -> Result<(), Refusal> {
        let spec = std::mem::take(&mut self.spec);
        if self.named.specs.is_empty() {
            self.named.model = spec.model;
            self.named.version = spec.version;
        } else if self.named.model != spec.model || self.named.version != spec.version {
            return Err(Refusal::new(
                RefusalReason::DuplicateModel,
                "the tasks of a MultiInference name different models or versions",
            ));
        }
        if self.named.specs.len() == MAX_SPECS {
            return Err(malformed("a MultiInference has too many tasks"));
        }
        self.named.specs.push(spec.place);
        Ok(())
    }

    /// A field behind all fields of interest was met: the answer is certain if there is one.
    fn conclude_if_named(&mut self) -> Result<(), Refusal> {
        if self.named.model.is_some() || self.spec.model.is_some() {
            self.conclude()?;
            self.certain = true;
        }
        Ok(())
    }

    /// In messages that are their own spec, what was read so far is the answer.
    fn conclude(&mut self) -> Result<(), Refusal> {
        let own = matches!(
            self.frames[0].shape,
            Shape::Root(Layout::Strings | Layout::Repository)
        );
        if own && self.named.specs.is_empty() {
            self.end_spec()?;
        }
        Ok(())
    }
}

/// The most tasks a `MultiInference` may have: TensorFlow Serving runs a task for each signature of one model.
const MAX_SPECS: usize = 64;

fn two_versions() -> Refusal {
    Refusal::new(
        RefusalReason::DuplicateModel,
        "a ModelSpec holds both a version and a version label",
    )
}

#[cold]
fn malformed(what: &'static str) -> Refusal {
    Refusal::new(RefusalReason::MalformedBody, what)
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
