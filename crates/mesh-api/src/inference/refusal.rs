//! Why a request is refused before it is routed: a closed set of reasons, each with a stable word.

use std::{borrow::Cow, fmt};

use http::StatusCode;

/// A request that cannot be given one canonical meaning, or that breaks a bound.
///
/// Servers disagree about such requests: routing or authorising on one reading would let another one through. The
/// request is answered with [`status`](Self::status) and the reason's word, and never forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The kind of trouble.
    pub reason: RefusalReason,
    /// What was found, in a few words; it never repeats more than 64 bytes of the request.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(reason: RefusalReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    /// The HTTP status that says best what is wrong: 400, 413 or 415.
    pub const fn status(&self) -> StatusCode {
        self.reason.status()
    }
}

/// The kinds of trouble a request can be refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalReason {
    /// The path has more than one reading: dot segments, `//`, encoded slashes, `;`, backslashes.
    AmbiguousPath,
    /// Two places name different models, or one place in a way that servers read differently.
    AmbiguousModel,
    /// The version has more than one reading, such as a number with leading zeros.
    AmbiguousVersion,
    /// The body names the model (or its version) more than once.
    DuplicateModel,
    /// A model name or version is empty, too long, not UTF-8, holds control characters, or is not a string.
    BadName,
    /// The body is not what its protocol says it is.
    MalformedBody,
    /// The body inflates past the bound set for it.
    InflatesTooFar,
    /// The content type is none that the operation takes.
    UnsupportedMedia,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::AmbiguousPath,
        Self::AmbiguousModel,
        Self::AmbiguousVersion,
        Self::DuplicateModel,
        Self::BadName,
        Self::MalformedBody,
        Self::InflatesTooFar,
        Self::UnsupportedMedia,
    ];

    /// The stable word for headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AmbiguousPath => "ambiguous-path",
            Self::AmbiguousModel => "ambiguous-model",
            Self::AmbiguousVersion => "ambiguous-version",
            Self::DuplicateModel => "duplicate-model",
            Self::BadName => "bad-name",
            Self::MalformedBody => "malformed-body",
            Self::InflatesTooFar => "inflates-too-far",
            Self::UnsupportedMedia => "unsupported-media",
        }
    }

    /// The HTTP status that fits the reason.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::AmbiguousPath
            | Self::AmbiguousModel
            | Self::AmbiguousVersion
            | Self::DuplicateModel
            | Self::BadName
            | Self::MalformedBody => StatusCode::BAD_REQUEST,
            Self::InflatesTooFar => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// At most 64 bytes of `text`, for a refusal's detail.
pub(super) fn excerpt(text: &str) -> &str {
    let end = (0..=text.len().min(64))
        .rev()
        .find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        for reason in RefusalReason::ALL {
            assert!(
                reason
                    .as_str()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{reason}"
            );
            assert!(reason.status().is_client_error());
        }
    }

    #[test]
    fn excerpts_end_on_a_character() {
        assert_eq!(excerpt("short"), "short");
        assert!(excerpt(&"ü".repeat(50)).len() <= 64);
    }
}
