//! Names of objects: one DNS label each, and the pair of namespace and name that identifies an object of a kind.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The namespace of a document that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// One DNS label (RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
/// Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a name: use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
)]
pub struct NameError {
    given: String,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace of documents that name none: `default`.
    pub fn default_namespace() -> Self {
        Self(DEFAULT_NAMESPACE.into())
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = text.as_bytes();
        if bytes.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last()) {
            return Ok(Self(text.into()));
        }
        // An error must not carry a megabyte of somebody's input into a log.
        Err(NameError {
            given: text.chars().take(80).collect(),
        })
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().into()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 63,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        })
    }
}

/// Namespace and name of an object, written `namespace/name`. A bare `name` is read as one in `default`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Where the object lives.
    pub namespace: Name,
    /// What it is called there.
    pub name: Name,
}

impl ObjectName {
    /// Puts the two together.
    pub fn new(namespace: Name, name: Name) -> Self {
        Self { namespace, name }
    }

    /// Reads `name` or `namespace/name`, a bare name being one of `namespace`.
    ///
    /// # Errors
    /// When either part is not a [`Name`].
    pub fn parse_in(text: &str, namespace: &Name) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((namespace, name)) => Ok(Self::new(namespace.parse()?, name.parse()?)),
            None => Ok(Self::new(namespace.clone(), text.parse()?)),
        }
    }
}

impl FromStr for ObjectName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse_in(text, &Name::default_namespace())
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for ObjectName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked() {
        let long = "a".repeat(63);
        let too_long = "a".repeat(64);
        for (text, good) in [
            ("fraud", true),
            ("fraud-v1", true),
            ("0", true),
            (long.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("Fraud", false),
            ("a.b", false),
            ("a/b", false),
            ("ä", false),
        ] {
            assert_eq!(text.parse::<Name>().is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn a_bare_object_name_lives_in_the_given_namespace() {
        let ml: Name = "ml".parse().unwrap();
        assert_eq!(
            ObjectName::parse_in("fraud", &ml).unwrap().to_string(),
            "ml/fraud"
        );
        assert_eq!(
            ObjectName::parse_in("a/fraud", &ml).unwrap().to_string(),
            "a/fraud"
        );
        assert!(ObjectName::parse_in("a/b/c", &ml).is_err());
    }

    #[test]
    fn an_error_quotes_a_bounded_part_of_the_input() {
        let error = "X".repeat(1_000_000).parse::<Name>().unwrap_err();
        assert!(error.to_string().len() < 300);
    }
}
