//! Finds the field `model` in a `multipart/form-data` body that arrives in pieces.
//!
//! Files stream through unread. Parsers differ about bare line feeds, boundaries that are only the begin of a line,
//! preambles, folded headers and encoded fields: what one of them could read as another part is refused.

use std::ops::Range;

use http::{HeaderMap, header};
use memchr::memchr2;

use super::{
    disposition::{Part, media_parameter},
    name::{MAX_NAME_BYTES, ModelName},
    refusal::{Refusal, RefusalReason},
};

/// The boundary that `content-type: multipart/form-data` declares. `None`: another content type.
pub(super) fn boundary(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Refusal> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::new(
            RefusalReason::UnsupportedMedia,
            "the header content-type is repeated",
        ));
    }
    let value = value.as_bytes();
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    if !value[..end]
        .trim_ascii()
        .eq_ignore_ascii_case(b"multipart/form-data")
    {
        return Ok(None);
    }
    let boundary = media_parameter(&value[end..], b"boundary")
        .map_err(|why| Refusal::new(RefusalReason::UnsupportedMedia, why))?;
    match boundary {
        Some(boundary) if is_boundary(&boundary) => Ok(Some(boundary)),
        _ => Err(Refusal::new(
            RefusalReason::UnsupportedMedia,
            "multipart/form-data has no usable boundary",
        )),
    }
}

/// RFC 2046: 1 to 70 characters, and the last is no space.
fn is_boundary(text: &[u8]) -> bool {
    (1..=70).contains(&text.len())
        && text.iter().all(|&byte| byte.is_ascii_graphic() || byte == b' ')
        && text.last() != Some(&b' ')
}

/// The most bytes that the headers of one part may have.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Reads a multipart body in chunks of any size.
pub(super) struct MultipartScanner {
    /// `--` and the boundary.
    dashed: Vec<u8>,
    at: At,
    /// Of the next byte.
    offset: u64,
    /// Headers of the part, or the value of the field `model` with what may be the delimiter behind it.
    held: Vec<u8>,
    /// The part is the field `model`: where its value begins.
    value_start: Option<u64>,
    model_seen: bool,
    model: Option<ModelName>,
    value: Range<u64>,
}

/// Where the scanner stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first delimiter's line.
    Start,
    /// In a line that is the delimiter so far: how many bytes of it matched, and how the line before it ended.
    Delimiter(usize, Break),
    /// After the delimiter.
    DelimiterEnd(AfterDelimiter),
    /// In the headers of a part.
    Headers,
    /// In a part's content.
    Content,
    /// After a carriage return in it.
    ContentReturn,
    /// After the last delimiter.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Break {
    /// The body begins.
    Begin,
    CrLf,
    /// A carriage return or line feed alone, which only some parsers take for the end of a line.
    Bare,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterDelimiter {
    Nothing,
    Padding,
    Return,
    Dash,
}

impl MultipartScanner {
    pub(super) fn new(boundary: &[u8]) -> Self {
        Self {
            dashed: [b"--", boundary].concat(),
            at: At::Start,
            offset: 0,
            held: Vec::new(),
            value_start: None,
            model_seen: false,
            model: None,
            value: 0..0,
        }
    }

    /// The model's name and where it stands.
    pub(super) fn model(&self) -> Option<(&ModelName, Range<u64>)> {
        self.model.as_ref().map(|model| (model, self.value.clone()))
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

    /// The body is over: refuses one that breaks off. An empty body names no model.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match self.at {
            At::Start | At::End => Ok(()),
            _ => Err(malformed("the multipart body breaks off")),
        }
    }

    /// Reads at least one byte of `bytes`, which holds at least one, and says how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let byte = bytes[0];
        match self.at {
            At::Start if byte == b'-' => self.at = At::Delimiter(1, Break::Begin),
            At::Start if matches!(byte, b'\r' | b'\n') => {}
            At::Start => return Err(malformed("the multipart body does not begin with its boundary")),
            At::Delimiter(matched, before) => return self.delimiter(byte, matched, before),
            At::DelimiterEnd(after) => self.delimiter_end(byte, after)?,
            At::Headers => self.header(byte)?,
            At::Content => return self.content(bytes),
            At::ContentReturn => {
                if byte == b'\n' {
                    self.hold(&bytes[..1])?;
                    self.at = At::Delimiter(0, Break::CrLf);
                } else {
                    // A return alone ends a line for some parsers; the byte after it is looked at again.
                    self.at = At::Delimiter(0, Break::Bare);
                    return self.step(bytes);
                }
            }
            At::End if matches!(byte, b'\r' | b'\n' | b' ' | b'\t') => {}
            At::End => return Err(malformed("the multipart body goes on after its end")),
        }
        Ok(1)
    }

    /// Reads content up to the next end of a line.
    fn content(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let end = memchr2(b'\r', b'\n', bytes);
        let read = end.map_or(bytes.len(), |end| end + 1);
        self.hold(&bytes[..read])?;
        self.at = match end.map(|end| bytes[end]) {
            None => At::Content,
            Some(b'\r') => At::ContentReturn,
            Some(_) => At::Delimiter(0, Break::Bare),
        };
        Ok(read)
    }

    /// Reads a line as long as it matches the delimiter.
    fn delimiter(&mut self, byte: u8, matched: usize, before: Break) -> Result<usize, Refusal> {
        if self.dashed.get(matched) != Some(&byte) {
            if before == Break::Begin {
                return Err(malformed("the multipart body does not begin with its boundary"));
            }
            // An ordinary line: the byte is looked at as content.
            self.at = At::Content;
            return self.content(&[byte]);
        }
        self.hold(&[byte])?;
        let matched = matched + 1;
        if matched < self.dashed.len() {
            self.at = At::Delimiter(matched, before);
            return Ok(1);
        }
        match before {
            Break::Begin => {}
            Break::CrLf => self.end_part()?,
            Break::Bare => return Err(malformed("a multipart boundary stands after a bare line end")),
        }
        self.at = At::DelimiterEnd(AfterDelimiter::Nothing);
        Ok(1)
    }

    fn delimiter_end(&mut self, byte: u8, after: AfterDelimiter) -> Result<(), Refusal> {
        self.at = match (after, byte) {
            (AfterDelimiter::Nothing, b'-') => At::DelimiterEnd(AfterDelimiter::Dash),
            (AfterDelimiter::Dash, b'-') => At::End,
            (AfterDelimiter::Nothing | AfterDelimiter::Padding, b' ' | b'\t') => {
                At::DelimiterEnd(AfterDelimiter::Padding)
            }
            (AfterDelimiter::Nothing | AfterDelimiter::Padding, b'\r') => {
                At::DelimiterEnd(AfterDelimiter::Return)
            }
            (AfterDelimiter::Return, b'\n') => {
                self.held.clear();
                At::Headers
            }
            _ => {
                return Err(malformed(
                    "a multipart boundary is followed by other bytes on its line",
                ));
            }
        };
        Ok(())
    }

    fn header(&mut self, byte: u8) -> Result<(), Refusal> {
        self.held.push(byte);
        if self.held.len() > MAX_HEADER_BYTES {
            return Err(malformed("the headers of a multipart part are too long"));
        }
        let no_headers = self.held == b"\r\n";
        if !no_headers && !self.held.ends_with(b"\r\n\r\n") {
            return Ok(());
        }
        let part = Part::parse(&self.held).map_err(malformed)?;
        self.held.clear();
        if part.is_field_model {
            if self.model_seen {
                return Err(Refusal::new(
                    RefusalReason::DuplicateModel,
                    "the field model stands twice in the body",
                ));
            }
            self.model_seen = true;
            self.value_start = Some(self.offset + 1);
        }
        // A delimiter that follows at once lacks a line break of its own: some parsers take it nevertheless.
        self.at = At::Delimiter(0, Break::Bare);
        Ok(())
    }

    /// Keeps bytes of the field `model`.
    fn hold(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.value_start.is_none() {
            return Ok(());
        }
        // A name, a line break and a delimiter.
        if self.held.len() + bytes.len() > MAX_NAME_BYTES + 2 + self.dashed.len() {
            return Err(Refusal::new(
                RefusalReason::BadName,
                "the field model is too long for a name",
            ));
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// A delimiter was met: what was held before it is the value of the field.
    fn end_part(&mut self) -> Result<(), Refusal> {
        let Some(start) = self.value_start.take() else {
            return Ok(());
        };
        let length = self.held.len() - (2 + self.dashed.len());
        let value = &self.held[..length];
        if !value.is_empty() {
            self.model = Some(ModelName::from_bytes(value)?);
        }
        self.value = start..start + length as u64;
        self.held.clear();
        Ok(())
    }
}

#[cold]
fn malformed(what: &'static str) -> Refusal {
    Refusal::new(RefusalReason::MalformedBody, what)
}

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
