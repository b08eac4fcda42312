//! Paths: percent-encodes what needs it, inserts or replaces the version, and checks that the result has one reading.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{CannotRewrite, Change};
use crate::inference::{
    name::ModelVersion,
    open_inference::text_version,
    path::{Path, decoded},
    request::{PathPlace, PathStyle},
};

/// What a path segment may hold raw in every reading: RFC 3986's unreserved characters.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What a segment may hold raw, and what stays raw because some servers do not decode names.
const SEGMENT: AsciiSet = UNRESERVED
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// As [`SEGMENT`], for names that stretch over several segments.
const REST: AsciiSet = SEGMENT.remove(b'/');

/// The target that asks for the change.
pub(super) fn rewrite(target: &str, place: &PathPlace, change: Change<'_>) -> Result<String, CannotRewrite> {
    let (Some(before), Some(between), Some(after)) = (
        target.get(..place.name.start),
        target.get(place.name.end..place.version.start),
        target.get(place.version.end..),
    ) else {
        return Err(CannotRewrite::Nowhere);
    };
    let mut new = before.to_owned();
    match change.name {
        Some(name) => new.extend(utf8_percent_encode(name.as_str(), set(place.style))),
        None => new.push_str(&target[place.name.clone()]),
    }
    let name_end = new.len();
    new.push_str(between);
    match change.version {
        Some(version) => new.push_str(&version_segments(version, place.style)?),
        None => new.push_str(&target[place.version.clone()]),
    }
    new.push_str(after);
    check(&new, &new[before.len()..name_end], place.style, change)?;
    Ok(new)
}

fn set(style: PathStyle) -> &'static AsciiSet {
    match style {
        PathStyle::TensorFlow => &UNRESERVED,
        PathStyle::KServe | PathStyle::OpenInference | PathStyle::NameOnly => &SEGMENT,
        PathStyle::Rest => &REST,
    }
}

fn version_segments(version: &ModelVersion, style: PathStyle) -> Result<String, CannotRewrite> {
    let text = version.as_str();
    let encoded = utf8_percent_encode(text, set(style));
    match (style, version) {
        (PathStyle::NameOnly | PathStyle::Rest, _) => Err(CannotRewrite::NoVersions),
        (PathStyle::OpenInference, ModelVersion::Exact(_)) => {
            text_version(text.as_bytes()).map_err(|_| CannotRewrite::NotThere)?;
            Ok(format!("/versions/{encoded}"))
        }
        (PathStyle::OpenInference, ModelVersion::Label(_)) => Err(CannotRewrite::NoLabels),
        (PathStyle::TensorFlow | PathStyle::KServe, ModelVersion::Exact(_)) => match text.parse::<i64>() {
            Ok(number @ 0..) => Ok(format!("/versions/{number}")),
            _ => Err(CannotRewrite::NotANumber),
        },
        (PathStyle::TensorFlow | PathStyle::KServe, ModelVersion::Label(_)) => {
            Ok(format!("/labels/{encoded}"))
        }
    }
}

/// Refuses a name that has no one reading in a path: with an empty or a dot segment, a backslash, and so on.
fn check(target: &str, name: &str, style: PathStyle, change: Change<'_>) -> Result<(), CannotRewrite> {
    let path = Path::parse(target).map_err(|_| CannotRewrite::NotThere)?;
    match style {
        // The server decodes names and labels, and nothing else of the path.
        PathStyle::TensorFlow => {}
        PathStyle::KServe | PathStyle::OpenInference | PathStyle::NameOnly | PathStyle::Rest => {
            path.without_odd_escapes().map_err(|_| CannotRewrite::NotThere)?;
        }
    }
    // A slash at the end is no part of a name.
    if name.ends_with('/') {
        return Err(CannotRewrite::NotThere);
    }
    let reads = decoded(name).map_err(|_| CannotRewrite::NotThere)?;
    match change.name {
        Some(wanted) if *reads != *wanted.as_str().as_bytes() => Err(CannotRewrite::NotThere),
        _ => Ok(()),
    }
}
