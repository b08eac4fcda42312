//! Names and versions of models as requests carry them: bounded, valid, cheap to clone.
//!
//! Both hold a [`SmolStr`]: up to 23 bytes stand inline (most names, every version), longer ones are shared, so a clone
//! never copies and recognising a short name allocates nothing.

use std::{borrow::Borrow, fmt};

use smol_str::SmolStr;

use super::refusal::{Refusal, RefusalReason};

/// The longest model name or version a request may carry, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// The name of a model as its server will see it: 1 to [`MAX_NAME_BYTES`] bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(SmolStr);

impl ModelName {
    /// Takes a name, or says why it cannot be one.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        checked("model name", text.as_bytes()).map(Self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        checked("model name", bytes).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which version of a model a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelVersion {
    /// A version by its own name: a number in TensorFlow Serving and Triton, any text in the V2 specification.
    Exact(VersionText),
    /// A label that the server resolves to a version (TensorFlow Serving's `version_label`).
    Label(VersionText),
}

impl ModelVersion {
    /// Takes a version by its own name, or says why it cannot be one.
    pub fn exact(text: &str) -> Result<Self, Refusal> {
        Self::exact_bytes(text.as_bytes())
    }

    /// Takes a label, or says why it cannot be one.
    pub fn label(text: &str) -> Result<Self, Refusal> {
        Self::label_bytes(text.as_bytes())
    }

    pub(super) fn exact_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        checked("model version", bytes).map(|text| Self::Exact(VersionText(text)))
    }

    pub(super) fn label_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        checked("version label", bytes).map(|text| Self::Label(VersionText(text)))
    }

    pub(super) fn number(number: i64) -> Self {
        use std::io::Write;
        let mut digits = [0_u8; 20];
        let mut rest = &mut digits[..];
        // An i64 has at most 20 characters: writing into 20 bytes cannot fail.
        let _ = write!(rest, "{number}");
        let unused = rest.len();
        let text = std::str::from_utf8(&digits[..20 - unused]).unwrap_or_default();
        Self::Exact(VersionText(SmolStr::new(text)))
    }

    /// The version or label, without saying which of the two it is.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Label(text) => &text.0,
        }
    }

    /// Whether this is a label, to be resolved by the server.
    pub const fn is_label(&self) -> bool {
        matches!(self, Self::Label(_))
    }
}

/// The text of a version: 1 to [`MAX_NAME_BYTES`] bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionText(SmolStr);

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for ModelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Lets a `HashMap<ModelName, _>` be asked with a `&str`.
impl Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for ModelName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

fn checked(what: &'static str, bytes: &[u8]) -> Result<SmolStr, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::new(RefusalReason::BadName, format!("{what} is empty")));
    }
    if bytes.len() > MAX_NAME_BYTES {
        let detail = format!("{what} has {} bytes, more than {MAX_NAME_BYTES}", bytes.len());
        return Err(Refusal::new(RefusalReason::BadName, detail));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Refusal::new(
            RefusalReason::BadName,
            format!("{what} is not UTF-8"),
        ));
    };
    if text.chars().any(char::is_control) {
        return Err(Refusal::new(
            RefusalReason::BadName,
            format!("{what} holds a control character"),
        ));
    }
    Ok(SmolStr::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_utf8_without_controls() {
        assert_eq!(ModelName::new("fraud").unwrap().as_str(), "fraud");
        assert_eq!(ModelName::new("größe/模型:2").unwrap().as_str(), "größe/模型:2");
        assert!(ModelName::new(&"x".repeat(256)).is_ok());
        for bad in ["", "a\0b", "a\nb", "a\u{85}b", &"x".repeat(257)] {
            assert_eq!(
                ModelName::new(bad).unwrap_err().reason,
                RefusalReason::BadName,
                "{bad:?}"
            );
        }
        assert!(ModelName::from_bytes(b"\xff\xfe").is_err());
    }

    #[test]
    fn numbers_become_versions() {
        for number in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(ModelVersion::number(number).as_str(), number.to_string());
        }
    }
}
