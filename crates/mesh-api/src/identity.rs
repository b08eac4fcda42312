//! Who a workload is: SPIFFE identities of the form `spiffe://<trust-domain>/ns/<namespace>/sa/<account>`.
//!
//! Source: SPIFFE-ID specification, §2 (trust domain, path) and the convention that Istio and Linkerd share.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::name::{Name, NameError};

/// The trust domain of a mesh that names none.
pub const DEFAULT_TRUST_DOMAIN: &str = "mesh.local";

/// The name of the authority that vouches for identities: 1 to 255 of `a-z`, `0-9`, `.`, `-`, `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

/// Why a text is not an identity or a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The trust domain has other characters than the specification allows, or none, or too many.
    #[error("{0:?} is not a trust domain: use 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// The text is not of the form this mesh issues.
    #[error("{0:?} is not an identity of the form spiffe://<trust-domain>/ns/<namespace>/sa/<account>")]
    Form(String),
    /// Namespace or account is not a name.
    #[error("identity: {0}")]
    Name(#[from] NameError),
}

impl TrustDomain {
    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self(DEFAULT_TRUST_DOMAIN.into())
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.into()));
        }
        Err(IdentityError::TrustDomain(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0.into()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for TrustDomain {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TrustDomain".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 255, "pattern": "^[a-z0-9._-]+$"})
    }
}

/// Who a workload is, as its certificate says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The authority that vouches for it.
    pub trust_domain: TrustDomain,
    /// The namespace it runs in.
    pub namespace: Name,
    /// The account it runs as.
    pub account: Name,
}

impl Identity {
    /// Puts the parts together.
    pub fn new(trust_domain: TrustDomain, namespace: Name, account: Name) -> Self {
        Self {
            trust_domain,
            namespace,
            account,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.account
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(text.chars().take(120).collect());
        let rest = text.strip_prefix("spiffe://").ok_or_else(form)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(form());
        };
        Ok(Self {
            trust_domain: domain.parse()?,
            namespace: namespace.parse()?,
            account: account.parse()?,
        })
    }
}

impl Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_exactly() {
        let text = "spiffe://mesh.local/ns/ml/sa/triton";
        assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        for bad in [
            "",
            "spiffe://",
            "spiffe:///ns/ml/sa/triton",
            "spiffe://mesh.local/ns/ml/sa/triton/",
            "spiffe://mesh.local/ns/ml/sa/",
            "spiffe://mesh.local/ns//sa/triton",
            "spiffe://mesh.local/sa/triton/ns/ml",
            "SPIFFE://mesh.local/ns/ml/sa/triton",
            "https://mesh.local/ns/ml/sa/triton",
            "spiffe://mesh.local:443/ns/ml/sa/triton",
            "spiffe://user@mesh.local/ns/ml/sa/triton",
            "spiffe://mesh.local/ns/ml/sa/triton?x=1",
            "spiffe://mesh.local/ns/%6dl/sa/triton",
            "spiffe://Mesh.local/ns/ml/sa/triton",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
