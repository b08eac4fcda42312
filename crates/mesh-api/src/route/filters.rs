//! What is changed of a request on its way to a backend, and of the response on its way back.

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

/// What is changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filters {
    /// Of the request's headers.
    pub request: HeaderEdits,
    /// Of the response's headers.
    pub response: HeaderEdits,
    /// The host that the request is for; none: the one it was sent to.
    pub host: Option<Host>,
    /// The request's path; none: unchanged.
    pub path: Option<PathRewrite>,
}

impl Filters {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty() && self.host.is_none() && self.path.is_none()
    }

    /// Each change, in words.
    pub fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (of, edits) in [("request", &self.request), ("response", &self.response)] {
            words.extend(
                edits
                    .remove
                    .iter()
                    .map(|name| format!("removes {of} header {name}")),
            );
            let set = edits.set.iter();
            words.extend(set.map(|(name, value)| format!("sets {of} header {name}: {}", text(value))));
            let add = edits.add.iter();
            words.extend(add.map(|(name, value)| format!("adds {of} header {name}: {}", text(value))));
        }
        words.extend(
            self.host
                .as_ref()
                .map(|host| format!("makes the host {}", host.authority)),
        );
        words.extend(self.path.as_ref().map(|path| match path {
            PathRewrite::Full(full) => format!("makes the path {full}"),
            PathRewrite::Prefix { from, to } => format!("makes {from}/ in the path {to}/"),
        }));
        words
    }

    /// For a rule or backend: nothing, when nothing is changed.
    pub fn boxed(self) -> Option<Box<Self>> {
        (!self.is_empty()).then(|| Box::new(self))
    }
}

/// A host, with a port if it has one, in the forms that HTTP/1.1 and HTTP/2 say it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    authority: Authority,
    value: HeaderValue,
}

impl Host {
    /// Reads a host; none: it is none.
    pub fn new(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let value = HeaderValue::from_str(text).ok()?;
        (!authority.host().is_empty() && !text.contains('@')).then_some(Self { authority, value })
    }

    /// As an authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// As the value of the header `host`.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.authority.as_str())
    }
}

/// Headers that are removed, set and added, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdits {
    /// Those that are gone.
    #[serde(serialize_with = "names_as_texts")]
    pub remove: Vec<HeaderName>,
    /// Those that have one value from then on.
    #[serde(serialize_with = "headers_as_pairs")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Those that have one more value.
    #[serde(serialize_with = "headers_as_pairs")]
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Changes headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// Why a header can't be changed on the way; none: it can. What frames bodies, belongs to one hop, or is said by the mesh
/// alone is not a route's to change, and neither is what a request is for: a rewrite of the host is.
pub fn untouchable(name: &HeaderName) -> Option<&'static str> {
    let of_the_hop = [CONNECTION, EXPECT, TE, TRAILER, UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str());
    if *name == HOST {
        Some("names what a request is for, which headers don't change")
    } else if of_the_hop {
        Some("belongs to one connection")
    } else if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
        Some("says how long a body is")
    } else if name.as_str().starts_with("mesh-") {
        Some("is said by the mesh alone")
    } else if ["grpc-timeout", "grpc-status", "grpc-message"].contains(&name.as_str()) {
        Some("is a part of gRPC itself")
    } else {
        None
    }
}

/// How a path is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// It becomes this one.
    Full(Box<str>),
    /// The part that a match for paths under it asked for becomes another one.
    Prefix {
        /// The part, without a `/` at its end: empty for all paths.
        from: Box<str>,
        /// What it becomes, without a `/` at its end.
        to: Box<str>,
    },
}

impl PathRewrite {
    /// It becomes this one.
    pub fn full(path: &str) -> Self {
        Self::Full(path.into())
    }

    /// The part that a match for paths under `from` asked for becomes `to`.
    pub fn prefix(from: &str, to: &str) -> Self {
        Self::Prefix {
            from: from.trim_end_matches('/').into(),
            to: to.trim_end_matches('/').into(),
        }
    }

    /// The path that a path becomes. One that does not begin with the part that is changed stays what it is.
    pub fn apply<'a>(&'a self, path: &'a str) -> Cow<'a, str> {
        match self {
            Self::Full(full) => Cow::Borrowed(full),
            Self::Prefix { from, to } => match path.strip_prefix(from.as_ref()) {
                Some("") if to.is_empty() => Cow::Borrowed("/"),
                Some(rest) if rest.is_empty() || rest.starts_with('/') => Cow::Owned(format!("{to}{rest}")),
                _ => Cow::Borrowed(path),
            },
        }
    }
}

fn names_as_texts<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

fn headers_as_pairs<S: Serializer>(
    headers: &[(HeaderName, HeaderValue)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|(name, value)| (name.as_str(), text(value))))
}

/// A header's value as text.
pub(crate) fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the Gateway API (HTTPPathModifier, replacePrefixMatch), and its edges.
    #[test]
    fn prefixes_are_replaced_by_elements() {
        for (path, from, to, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "/", "/xyz", "/xyz/foo"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/", "/", "/", "/"),
            ("/foobar", "/foo", "/xyz", "/foobar"),
            ("/v1/models", "/v1/models", "/v2/health", "/v2/health"),
        ] {
            assert_eq!(
                PathRewrite::prefix(from, to).apply(path),
                expected,
                "{path} {from} {to}"
            );
        }
        assert_eq!(PathRewrite::full("/one").apply("/full/one"), "/one");
    }

    #[test]
    fn headers_with_several_values_are_set_added_to_and_removed() {
        let pair = |name: &'static str, value: &'static str| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let edits = HeaderEdits {
            remove: vec![HeaderName::from_static("x-gone")],
            set: vec![pair("x-set", "new"), pair("x-both", "set")],
            add: vec![
                pair("x-add", "third"),
                pair("x-both", "added"),
                pair("x-new", "1"),
            ],
        };
        let before = [
            ("x-gone", "1"),
            ("x-gone", "2"),
            ("x-set", "a"),
            ("x-set", "b"),
            ("x-add", "first"),
            ("x-add", "second"),
            ("x-kept", "1"),
        ];
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in before {
            headers.append(name, HeaderValue::from_static(value));
        }
        edits.apply(&mut headers);
        let all = |name: &str| -> Vec<_> { headers.get_all(name).iter().map(text).collect() };
        assert!(all("x-gone").is_empty());
        assert_eq!(all("x-set"), ["new"]);
        assert_eq!(all("x-add"), ["first", "second", "third"]);
        assert_eq!(all("x-both"), ["set", "added"]);
        assert_eq!(all("x-new"), ["1"]);
        assert_eq!(all("x-kept"), ["1"]);
    }
}
