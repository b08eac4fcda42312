//! Decodes a JSON string that arrives in pieces, into a bounded capture.

use memchr::memchr2;

use super::{
    capture::Capture,
    name::ModelName,
    refusal::{Refusal, RefusalReason},
};

/// Decodes the inside of a JSON string up to its closing quote.
pub(super) struct Unescape {
    text: Capture,
    escape: Escape,
    /// A high surrogate that waits for its low one.
    high: Option<u16>,
    /// A surrogate stood alone: the string is no Unicode text, and servers replace or keep it as they like.
    broken: bool,
}

#[derive(Clone, Copy)]
enum Escape {
    None,
    Backslash,
    /// After `\u`: digits read, and their value.
    Hex(u8, u16),
}

impl Unescape {
    pub(super) const fn new() -> Self {
        Self {
            text: Capture::new(),
            escape: Escape::None,
            high: None,
            broken: false,
        }
    }

    pub(super) const fn clear(&mut self) {
        self.text.clear();
        self.escape = Escape::None;
        self.high = None;
        self.broken = false;
    }

    /// What was decoded so far, up to one byte more than a name may have.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The decoded string as a name; `None` if it is empty.
    pub(super) fn name(&self) -> Result<Option<ModelName>, Refusal> {
        if self.broken {
            return Err(Refusal::new(
                RefusalReason::BadName,
                "model name holds half a surrogate pair",
            ));
        }
        self.text.name()
    }

    /// Reads on. Says how many bytes were read, the closing quote included, and whether it was met.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        let mut read = 0;
        while let Some(&byte) = bytes.get(read) {
            match self.escape {
                Escape::None => {
                    let rest = &bytes[read..];
                    let plain = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    if plain > 0 {
                        self.end_surrogate();
                        self.text.extend(&rest[..plain]);
                        read += plain;
                        continue;
                    }
                    read += 1;
                    if byte == b'"' {
                        self.end_surrogate();
                        return Ok((read, true));
                    }
                    self.escape = Escape::Backslash;
                }
                Escape::Backslash => {
                    read += 1;
                    self.escape = Escape::None;
                    match byte {
                        b'"' | b'\\' | b'/' => self.plain(byte),
                        b'b' => self.plain(8),
                        b'f' => self.plain(12),
                        b'n' => self.plain(b'\n'),
                        b'r' => self.plain(b'\r'),
                        b't' => self.plain(b'\t'),
                        b'u' => self.escape = Escape::Hex(0, 0),
                        _ => return Err(bad_escape()),
                    }
                }
                Escape::Hex(digits, value) => {
                    read += 1;
                    let digit = char::from(byte)
                        .to_digit(16)
                        .and_then(|digit| u16::try_from(digit).ok());
                    let value = value << 4 | digit.ok_or_else(bad_escape)?;
                    self.escape = if digits == 3 {
                        Escape::None
                    } else {
                        Escape::Hex(digits + 1, value)
                    };
                    if digits == 3 {
                        self.unit(value);
                    }
                }
            }
        }
        Ok((read, false))
    }

    fn plain(&mut self, byte: u8) {
        self.end_surrogate();
        self.text.extend(&[byte]);
    }

    /// A UTF-16 unit, written as `\uXXXX`.
    fn unit(&mut self, unit: u16) {
        match (self.high.take(), unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                self.character(code);
            }
            (before, 0xd800..=0xdbff) => {
                self.broken |= before.is_some();
                self.high = Some(unit);
            }
            (before, _) => {
                self.broken |= before.is_some();
                self.character(u32::from(unit));
            }
        }
    }

    fn character(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(character) => self.text.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None => self.broken = true,
        }
    }

    const fn end_surrogate(&mut self) {
        self.broken |= self.high.take().is_some();
    }
}

fn bad_escape() -> Refusal {
    Refusal::new(
        RefusalReason::MalformedBody,
        "a JSON string holds an escape that does not exist",
    )
}
