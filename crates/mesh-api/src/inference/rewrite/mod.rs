//! Makes a request ask for another model or version, by splicing the bytes that name it.
//!
//! Nothing is decoded and encoded again: what a request says apart from its model stays as it was, byte by byte.
//! Responses pass untouched, so the client sees which model and version served it.

mod message;
mod path;
mod splice;

use bytes::Bytes;
use http::HeaderValue;

use super::request::{ModelRequest, Place};
use crate::route::ModelRewrite;

pub use splice::{Splice, Splicer};

/// What to change in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The request target to send instead.
    pub target: Option<String>,
    /// The value of the header `seldon-model` to send instead.
    pub seldon_model: Option<HeaderValue>,
    /// What to replace in the body, by offset of the body as it came in, in order and without overlaps.
    pub splices: Vec<Splice>,
}

impl Rewritten {
    /// By how many bytes the body grows (or shrinks): to be added to `content-length`.
    pub fn growth(&self) -> i64 {
        self.splices.iter().map(Splice::growth).sum()
    }
}

/// Why a request cannot be made to ask for another model or version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CannotRewrite {
    /// It names no model, or names it where nothing can be put.
    #[error("the request does not name its model where another name could be put")]
    Nowhere,
    /// Its name could not be read.
    #[error("the request names its model in a body that cannot be read")]
    Unreadable,
    /// The name is in bytes that are compressed.
    #[error("the request names its model in a compressed body, which is not spliced")]
    Compressed,
    /// The protocol has no versions.
    #[error(
        "requests of this protocol carry no model version: give each version a name or a service of its own"
    )]
    NoVersions,
    /// The protocol has versions but no labels.
    #[error("requests of this protocol carry no version labels: use a version")]
    NoLabels,
    /// The protocol takes whole numbers for versions.
    #[error("requests of this protocol take a whole number for a version")]
    NotANumber,
    /// The name has characters that have no one reading in that place.
    #[error("the model name or version cannot be written there in a way that every server reads the same")]
    NotThere,
    /// The gRPC message would be longer than a message may be.
    #[error("the gRPC message would become too long")]
    TooLong,
}

impl CannotRewrite {
    /// The stable word for headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nowhere => "rewrite-nowhere",
            Self::Unreadable => "rewrite-unreadable",
            Self::Compressed => "rewrite-compressed",
            Self::NoVersions => "rewrite-no-versions",
            Self::NoLabels => "rewrite-no-labels",
            Self::NotANumber => "rewrite-not-a-number",
            Self::NotThere => "rewrite-not-there",
            Self::TooLong => "rewrite-too-long",
        }
    }
}

/// Says what to change so that a request asks for `to`. `target` is the target that the request was recognised by.
///
/// What `to` leaves out stays as it is, also when the request leaves it out; what the request says already is not
/// touched. In a stream, every message's [`ModelRequest`] is rewritten for itself.
pub fn rewrite(request: &ModelRequest, target: &str, to: &ModelRewrite) -> Result<Rewritten, CannotRewrite> {
    let change = Change {
        name: to
            .name
            .as_ref()
            .filter(|name| request.model.as_ref() != Some(name)),
        version: to
            .version
            .as_ref()
            .filter(|version| request.version.as_ref() != Some(version)),
    };
    let mut rewritten = Rewritten::default();
    if change.name.is_none() && change.version.is_none() {
        return Ok(rewritten);
    }
    if request.unreadable.is_some() {
        return Err(CannotRewrite::Unreadable);
    }
    match &request.place {
        Place::Nowhere | Place::Query => return Err(CannotRewrite::Nowhere),
        Place::Compressed => return Err(CannotRewrite::Compressed),
        Place::Path(place) => rewritten.target = Some(path::rewrite(target, place, change)?),
        Place::Json(at) => {
            let name = change.name_alone()?;
            let quoted = serde_json::to_vec(name.as_str()).map_err(|_| CannotRewrite::NotThere)?;
            rewritten.splices.push(Splice {
                range: at.clone(),
                with: quoted.into(),
            });
        }
        Place::Multipart(at) => {
            let name = change.name_alone()?;
            // It could be taken for a delimiter.
            if name.as_str().starts_with("--") {
                return Err(CannotRewrite::NotThere);
            }
            let with = Bytes::copy_from_slice(name.as_str().as_bytes());
            rewritten.splices.push(Splice {
                range: at.clone(),
                with,
            });
        }
        Place::Message(place) => rewritten.splices = message::rewrite(place, change)?,
    }
    if let (Some(suffix), Some(name)) = (request.seldon_suffix, change.name) {
        let value = format!("{name}{suffix}");
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| CannotRewrite::NotThere)?;
        rewritten.seldon_model = Some(value);
    }
    Ok(rewritten)
}

/// What is to become different.
#[derive(Clone, Copy)]
struct Change<'a> {
    name: Option<&'a super::ModelName>,
    version: Option<&'a super::ModelVersion>,
}

impl<'a> Change<'a> {
    /// The name, where there are no versions.
    fn name_alone(self) -> Result<&'a super::ModelName, CannotRewrite> {
        match self {
            Change { version: Some(_), .. } | Change { name: None, .. } => Err(CannotRewrite::NoVersions),
            Change {
                name: Some(name),
                version: None,
            } => Ok(name),
        }
    }
}

#[cfg(test)]
mod tests;
