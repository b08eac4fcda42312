//! Finds the top-level key `model` in a JSON object that arrives in pieces.
//!
//! No tree, no recursion, no allocation: at the top level the object's grammar is followed, deeper only brackets are
//! counted and strings skipped. Servers disagree about repeated keys (most libraries take the last, some the first)
//! and about letter case (Go's `encoding/json` takes `Model` for `model`), so both are refused; so is everything
//! outside JSON's grammar that could make another parser see other keys, such as comments, UTF-16 and a second
//! document.

use std::ops::Range;

use memchr::memchr2;

use super::{
    name::ModelName,
    refusal::{Refusal, RefusalReason},
    unescape::Unescape,
};

/// Reads a JSON object in chunks of any size.
pub(super) struct JsonScanner {
    at: At,
    /// Of the next byte, from the begin of the text.
    offset: u64,
    /// Open brackets, the outermost included.
    depth: u64,
    key: Key,
    text: Unescape,
    scalar: Scalar,
    model_seen: bool,
    model: Option<ModelName>,
    /// Where the model's string stands, quotes included.
    value: Range<u64>,
    stream: Option<bool>,
}

/// Where the scanner stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the object; this many bytes of a byte order mark were read.
    Start(u8),
    /// After `{`: a key or `}`.
    FirstKey,
    /// After a comma: a key.
    NextKey,
    InKey,
    Colon,
    Value,
    /// In the string that is the model's name.
    InModel,
    /// In a string at the top level.
    InString,
    /// After a backslash in it.
    InEscape,
    InScalar,
    /// After a value: a comma or `}`.
    AfterValue,
    /// In a bracket of a value.
    Nested,
    /// In a string within brackets.
    NestedString,
    /// After a backslash in it.
    NestedEscape,
    /// After the object.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Model,
    Stream,
    Other,
}

/// The first bytes of a number or literal: enough for `false`.
#[derive(Clone, Copy, Default)]
struct Scalar {
    bytes: [u8; 6],
    len: usize,
}

impl Scalar {
    fn extend(&mut self, more: &[u8]) {
        let take = more.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + take].copy_from_slice(&more[..take]);
        self.len += take;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl JsonScanner {
    pub(super) const fn new() -> Self {
        Self {
            at: At::Start(0),
            offset: 0,
            depth: 0,
            key: Key::Other,
            text: Unescape::new(),
            scalar: Scalar {
                bytes: [0; 6],
                len: 0,
            },
            model_seen: false,
            model: None,
            value: 0..0,
            stream: None,
        }
    }

    /// The model's name and where its string stands, quotes included.
    pub(super) fn model(&self) -> Option<(&ModelName, Range<u64>)> {
        self.model.as_ref().map(|model| (model, self.value.clone()))
    }

    /// What the top-level key `stream` says, once it was seen.
    pub(super) const fn stream(&self) -> Option<bool> {
        self.stream
    }

    /// Reads the next piece.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let read = self.step(rest)?;
            self.offset += read as u64;
            rest = &rest[read..];
        }
        Ok(())
    }

    /// The text is over: refuses one that broke off. An empty text names no model.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match self.at {
            At::Start(0) | At::End => Ok(()),
            _ => Err(self.malformed("the JSON object breaks off")),
        }
    }

    /// Reads at least one byte of `bytes`, which holds at least one, and says how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self.at {
            At::Nested => return self.nested(bytes),
            At::NestedString => return Ok(self.skip_string(bytes, At::NestedEscape, At::Nested)),
            At::InString => return Ok(self.skip_string(bytes, At::InEscape, At::AfterValue)),
            At::NestedEscape => self.at = At::NestedString,
            At::InEscape => self.at = At::InString,
            At::InKey => return self.in_key(bytes),
            At::InModel => return self.in_model(bytes),
            At::InScalar => return self.in_scalar(bytes),
            At::Start(_) | At::FirstKey | At::NextKey | At::Colon | At::Value | At::AfterValue | At::End => {
                return self.structure(bytes);
            }
        }
        Ok(1)
    }

    /// Reads white space and one structural byte at the top level.
    fn structure(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some(space) = bytes
            .iter()
            .position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        else {
            return Ok(bytes.len());
        };
        let byte = bytes[space];
        self.at = match (self.at, byte) {
            (At::Start(0), 0xef) if self.offset == 0 && space == 0 => At::Start(1),
            (At::Start(1), 0xbb) if space == 0 => At::Start(2),
            (At::Start(2), 0xbf) if space == 0 => At::Start(0),
            (At::Start(0), b'{') => {
                self.depth = 1;
                At::FirstKey
            }
            (At::Start(_), _) => return Err(self.malformed("the body is not a JSON object in UTF-8")),
            (At::FirstKey | At::NextKey, b'"') => {
                self.text.clear();
                At::InKey
            }
            (At::FirstKey | At::AfterValue, b'}') => {
                self.depth = 0;
                At::End
            }
            (At::Colon, b':') => At::Value,
            (At::AfterValue, b',') => At::NextKey,
            (At::Value, _) => self.value(byte, self.offset + space as u64)?,
            _ => return Err(self.malformed("the JSON object is malformed")),
        };
        // A scalar's first byte belongs to the scalar.
        let taken = usize::from(self.at != At::InScalar);
        Ok(if space + taken == 0 {
            self.in_scalar(bytes)?
        } else {
            space + taken
        })
    }

    /// The first byte of a top-level value, which stands at `offset`.
    fn value(&mut self, byte: u8, offset: u64) -> Result<At, Refusal> {
        match (self.key, byte) {
            (Key::Model, b'"') => {
                self.text.clear();
                self.value.start = offset;
                Ok(At::InModel)
            }
            (_, b'"') => Ok(At::InString),
            (Key::Model, b'{' | b'[') => Err(Refusal::new(RefusalReason::BadName, "model is not a string")),
            (_, b'{' | b'[') => {
                self.depth = 2;
                Ok(At::Nested)
            }
            (_, byte) if class(byte) == Class::Scalar => {
                self.scalar = Scalar::default();
                Ok(At::InScalar)
            }
            _ => Err(self.malformed("the JSON object is malformed")),
        }
    }

    fn in_scalar(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let end = bytes.iter().position(|&byte| class(byte) != Class::Scalar);
        self.scalar.extend(&bytes[..end.unwrap_or(bytes.len())]);
        let Some(end) = end else { return Ok(bytes.len()) };
        match (self.key, self.scalar.as_bytes()) {
            // Servers take null for a missing key.
            (Key::Model, b"null") => {}
            (Key::Model, _) => return Err(Refusal::new(RefusalReason::BadName, "model is not a string")),
            (Key::Stream, b"true") => self.stream = Some(true),
            (Key::Stream, b"false") => self.stream = Some(false),
            (Key::Stream | Key::Other, _) => {}
        }
        self.at = At::AfterValue;
        // The byte that ends a scalar is structural.
        self.structure(&bytes[end..]).map(|read| end + read)
    }

    fn in_key(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let (read, done) = self.text.push(bytes)?;
        if done {
            self.key = self.classify_key()?;
            self.at = At::Colon;
        }
        Ok(read)
    }

    fn classify_key(&mut self) -> Result<Key, Refusal> {
        let key = self.text.as_bytes();
        if key == b"model" {
            if self.model_seen {
                return Err(Refusal::new(
                    RefusalReason::DuplicateModel,
                    "the key model stands twice in the body",
                ));
            }
            self.model_seen = true;
            return Ok(Key::Model);
        }
        if key.eq_ignore_ascii_case(b"model") {
            return Err(Refusal::new(
                RefusalReason::AmbiguousModel,
                "a key differs from model in letter case only, which some servers ignore",
            ));
        }
        Ok(if key == b"stream" { Key::Stream } else { Key::Other })
    }

    fn in_model(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let (read, done) = self.text.push(bytes)?;
        if done {
            self.value.end = self.offset + read as u64;
            self.model = self.text.name()?;
            self.at = At::AfterValue;
        }
        Ok(read)
    }

    /// Skips a string, or what there is of it.
    fn skip_string(&mut self, bytes: &[u8], escape: At, after: At) -> usize {
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            return bytes.len();
        };
        self.at = if bytes[end] == b'"' { after } else { escape };
        end + 1
    }

    /// Counts brackets until the top level is reached again, or a string begins.
    fn nested(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut read = 0;
        let mut depth = self.depth;
        loop {
            read += boring(&bytes[read..]);
            let Some(&byte) = bytes.get(read) else { break };
            read += 1;
            match class(byte) {
                Class::Scalar | Class::Between => {}
                Class::Quote => {
                    // Short strings end in this very chunk: stay in the loop.
                    match memchr2(b'"', b'\\', &bytes[read..]) {
                        Some(end) if bytes[read + end] == b'"' => read += end + 1,
                        _ => {
                            self.at = At::NestedString;
                            break;
                        }
                    }
                }
                Class::Open => depth += 1,
                Class::Close => {
                    depth -= 1;
                    if depth == 1 {
                        self.at = At::AfterValue;
                        break;
                    }
                }
                Class::Foreign => return Err(self.malformed("the JSON object is malformed")),
            }
        }
        self.depth = depth;
        Ok(read)
    }

    #[cold]
    fn malformed(&self, what: &'static str) -> Refusal {
        Refusal::new(RefusalReason::MalformedBody, what)
    }
}

/// What a byte is, outside strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Of a number or literal; NaN and Infinity included, which Python reads.
    Scalar,
    /// White space, comma, colon.
    Between,
    Quote,
    Open,
    Close,
    /// Nothing that JSON knows.
    Foreign,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Foreign; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.' => Class::Scalar,
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => Class::Between,
            b'"' => Class::Quote,
            b'{' | b'[' => Class::Open,
            b'}' | b']' => Class::Close,
            _ => Class::Foreign,
        };
        byte += 1;
    }
    classes
};

/// How many bytes at the start, eight at a time, are of numbers, literals and between them.
#[inline]
fn boring(bytes: &[u8]) -> usize {
    let (eights, _) = bytes.as_chunks::<8>();
    let is_boring = |eight: &&[u8; 8]| {
        eight
            .iter()
            .fold(true, |all, &byte| all & BORING[usize::from(byte)])
    };
    8 * eights.iter().take_while(is_boring).count()
}

const BORING: [bool; 256] = {
    let mut boring = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        boring[byte] = matches!(CLASSES[byte], Class::Scalar | Class::Between);
        byte += 1;
    }
    boring
};

#[inline]
fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
