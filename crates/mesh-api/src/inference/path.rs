//! The one canonical reading of a request path, or a refusal.
//!
//! Servers disagree about `//`, dot segments, `;`, backslashes, encoded slashes and needless escapes: some decode
//! before they route, some after, some never. On a port that declares a model protocol such paths are refused, unless
//! the protocol itself says what they mean.

use std::{borrow::Cow, ops::Range};

use percent_encoding::percent_decode_str;

use super::{
    name::ModelName,
    refusal::{Refusal, RefusalReason, excerpt},
};

/// A path that was checked, and the target it stands in.
pub(super) struct Path<'a> {
    target: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    escapes: Escapes,
}

/// Whether a path holds escapes that servers read differently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Escapes {
    /// Of a letter, digit, `-`, `_`, `~` or `%`: some servers decode it before they match, some do not.
    needless: bool,
    /// Of `/`.
    slash: bool,
    /// Of `:`, which separates name and verb in V1 protocols.
    colon: bool,
}

impl<'a> Path<'a> {
    /// Reads a target: origin form (`/a?b`) or absolute form (`http://host/a?b`).
    pub(super) fn parse(target: &'a str) -> Result<Self, Refusal> {
        let local = origin_form(target)?;
        let (path, query) = match local.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (local, None),
        };
        Ok(Self {
            target,
            path,
            query,
            escapes: check(path)?,
        })
    }

    /// The path without the slashes at its ends, split at `/`; what exceeds `N` segments stays in the last one.
    pub(super) fn segments<const N: usize>(&self) -> Segments<'a, N> {
        let inner = self.path.strip_prefix('/').unwrap_or(self.path);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let mut segments = Segments {
            all: [""; N],
            count: 0,
        };
        for (slot, segment) in segments.all.iter_mut().zip(inner.splitn(N, '/')) {
            *slot = segment;
            segments.count += 1;
        }
        segments
    }

    /// Whether a slash stands behind the last segment.
    pub(super) fn ends_with_slash(&self) -> bool {
        self.path.len() > 1 && self.path.ends_with('/')
    }

    /// The query, without its `?`.
    pub(super) const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The part of the target that stands at a range of [`range_of`](Self::range_of).
    pub(super) fn text(&self, range: &Range<usize>) -> &'a str {
        &self.target[range.clone()]
    }

    /// Where a part of the target stands in it.
    pub(super) fn range_of(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr() as usize - self.target.as_ptr() as usize;
        start..start + part.len()
    }

    /// Refuses the path if it holds an escape that servers read differently.
    pub(super) fn without_odd_escapes(&self) -> Result<(), Refusal> {
        if self.escapes.needless || self.escapes.slash {
            return Err(self.ambiguous("escapes a slash, a percent sign or a character that needs no escape"));
        }
        Ok(())
    }

    /// Refuses the path if it escapes a letter, a digit or another character that needs no escape.
    pub(super) fn without_needless_escapes(&self) -> Result<(), Refusal> {
        if self.escapes.needless {
            return Err(self.ambiguous("escapes a percent sign or a character that needs no escape"));
        }
        Ok(())
    }

    /// Refuses the path if it escapes a colon, which separates name and verb.
    pub(super) fn without_escaped_colon(&self) -> Result<(), Refusal> {
        if self.escapes.colon {
            return Err(self.ambiguous("escapes a colon, which separates name and verb"));
        }
        Ok(())
    }

    /// A refusal of this path.
    pub(super) fn ambiguous(&self, why: &str) -> Refusal {
        ambiguous(self.path, why)
    }
}

/// The segments of a path, at most `N`.
pub(super) struct Segments<'a, const N: usize> {
    all: [&'a str; N],
    count: usize,
}

impl<'a, const N: usize> Segments<'a, N> {
    /// The segments, to be matched as a slice.
    pub(super) fn as_slice(&self) -> &[&'a str] {
        &self.all[..self.count]
    }
}

/// Whether a raw segment is a word of the protocol. Letters match in either case on every protocol: TensorFlow Serving
/// and some frameworks match so, and where a server does not, reading the name does no harm.
pub(super) fn is(segment: &str, word: &str) -> bool {
    segment.eq_ignore_ascii_case(word)
}

/// The model name that a raw segment holds.
pub(super) fn name(segment: &str) -> Result<ModelName, Refusal> {
    ModelName::from_bytes(&decoded(segment)?)
}

/// What a raw segment says once its escapes are decoded.
pub(super) fn decoded(segment: &str) -> Result<Cow<'_, [u8]>, Refusal> {
    let bytes: Cow<'_, [u8]> = percent_decode_str(segment).into();
    match &*bytes {
        b"." | b".." => Err(ambiguous(segment, "holds a dot segment")),
        _ => Ok(bytes),
    }
}

fn ambiguous(path: &str, why: &str) -> Refusal {
    Refusal::new(
        RefusalReason::AmbiguousPath,
        format!("the path {:?} {why}", excerpt(path)),
    )
}

/// Takes scheme and authority off a target in absolute form.
pub(super) fn origin_form(target: &str) -> Result<&str, Refusal> {
    if target.starts_with('/') {
        return Ok(target);
    }
    let Some((_, rest)) = target.split_once("://") else {
        return Err(ambiguous(target, "does not begin with a slash"));
    };
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => Ok(&rest[at..]),
        _ => Err(ambiguous(target, "is missing after the authority")),
    }
}

/// Looks at every byte of a path.
fn check(path: &str) -> Result<Escapes, Refusal> {
    let bytes = path.as_bytes();
    if is_plain(bytes) {
        return Ok(Escapes::default());
    }
    let mut escapes = Escapes::default();
    let mut at = 0;
    let mut segment = Segment::default();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'/' => {
                if at > 0 {
                    segment.end(path)?;
                }
                segment = Segment::default();
            }
            b'%' => {
                let value = escaped(bytes, at).ok_or_else(|| ambiguous(path, "holds a broken escape"))?;
                match value {
                    0..=0x1f | 0x7f => return Err(ambiguous(path, "escapes a control character")),
                    b'\\' => return Err(ambiguous(path, "escapes a backslash")),
                    b';' => return Err(ambiguous(path, "escapes a semicolon")),
                    b'/' => escapes.slash = true,
                    b':' => escapes.colon = true,
                    b'-' | b'_' | b'.' | b'~' | b'%' => escapes.needless = true,
                    _ if value.is_ascii_alphanumeric() => escapes.needless = true,
                    _ => {}
                }
                segment.take(value);
                at += 2;
            }
            b'\\' => return Err(ambiguous(path, "holds a backslash")),
            b';' => return Err(ambiguous(path, "holds a semicolon")),
            b'#' => return Err(ambiguous(path, "holds a fragment")),
            0..=0x20 | 0x7f.. => return Err(ambiguous(path, "holds a byte that is not printable ASCII")),
            _ => segment.take(byte),
        }
        at += 1;
    }
    if !segment.is_empty() {
        segment.end(path)?;
    }
    Ok(escapes)
}

/// Whether a path is like nearly all of them: unreserved characters and colons, and no segment that is empty or begins
/// with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&byte| {
        let plain = PLAIN[usize::from(byte)] && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        plain
    })
}

const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' | b':');
        byte += 1;
    }
    plain
};

/// What is known of the segment being read.
#[derive(Default)]
struct Segment {
    dots: usize,
    length: usize,
}

impl Segment {
    fn take(&mut self, byte: u8) {
        self.dots += usize::from(byte == b'.');
        self.length += 1;
    }

    const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn end(&self, path: &str) -> Result<(), Refusal> {
        match (self.length, self.dots) {
            (0, _) => Err(ambiguous(path, "holds an empty segment")),
            (1, 1) | (2, 2) => Err(ambiguous(path, "holds a dot segment")),
            _ => Ok(()),
        }
    }
}

/// The byte that the escape at `at` stands for.
fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let value = digit(at + 1)? * 16 + digit(at + 2)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(target: &str) -> Option<RefusalReason> {
        Path::parse(target).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn one_reading_or_none() {
        for clean in [
            "/",
            "/v1/models",
            "/v1/models/",
            "/a.b/..c/d..",
            "/a%20b",
            "/a?b//../;\\",
            "http://h/v2?x",
        ] {
            assert_eq!(reason(clean), None, "{clean}");
        }
        for odd in [
            "",
            "*",
            "v2/models",
            "//",
            "/a//b",
            "//a",
            "/a//",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a/.%2E",
            "/a;b",
            "/a%3bb",
            "/a\\b",
            "/a%5Cb",
            "/a%00",
            "/a%0ab",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a b",
            "/ä",
            "/a#b",
            "http://host",
            "http://host?x",
            "mailto:x",
        ] {
            assert_eq!(reason(odd), Some(RefusalReason::AmbiguousPath), "{odd}");
        }
    }

    #[test]
    fn plain_paths_need_no_second_look() {
        assert!(is_plain(b"/v1/models/half_plus-two~/versions/3.1:predict/"));
        for other in [
            &b"/a//b"[..],
            b"/.",
            b"/..",
            b"/a/./b",
            b"/.well-known",
            b"/a%20",
            b"/a;",
            b"/a b",
            b"/\xff",
        ] {
            assert!(!is_plain(other));
        }
    }

    #[test]
    fn odd_escapes_are_known() {
        let odd = |target| Path::parse(target).unwrap().without_odd_escapes().is_err();
        assert!(!odd("/a%20b%C3%A4%3A%40"));
        assert!(odd("/%61"));
        assert!(odd("/a%2Fb"));
        assert!(odd("/a%252Fb"));
        assert!(Path::parse("/a%2Fb").unwrap().without_needless_escapes().is_ok());
        assert!(Path::parse("/a%3ab").unwrap().without_escaped_colon().is_err());
    }

    #[test]
    fn segments_and_ranges() {
        let target = "http://host/v2/models/x/infer/?q";
        let path = Path::parse(target).unwrap();
        let segments = path.segments::<8>();
        assert_eq!(segments.as_slice(), ["v2", "models", "x", "infer"]);
        assert_eq!(&target[path.range_of(segments.as_slice()[2])], "x");
        assert_eq!(path.segments::<2>().as_slice(), ["v2", "models/x/infer"]);
        assert_eq!(path.query(), Some("q"));
    }
}
