//! gRPC messages: replaces or inserts the fields that name model and version, and adjusts every length around them.

use std::ops::Range;

use bytes::Bytes;

use super::{CannotRewrite, Change, Splice};
use crate::inference::{
    name::{ModelName, ModelVersion},
    open_inference::text_version,
    request::{LengthPlace, MessagePlace, MessageStyle, SpecPlace},
};

/// What to replace so that a message asks for the change.
pub(super) fn rewrite(place: &MessagePlace, change: Change<'_>) -> Result<Vec<Splice>, CannotRewrite> {
    let name = change.name.map(ModelName::as_str);
    let version = change
        .version
        .map(|version| version_field(place.style, version))
        .transpose()?;
    let mut splices = Vec::new();
    for spec in &place.specs {
        fields(place.style, spec, name, version.as_deref(), &mut splices)?;
    }
    if place.specs.is_empty() {
        // The message leaves its ModelSpec out.
        let start = place.prefix + 5;
        let name = name.map(|name| text_field(1, name)).unwrap_or_default();
        let spec = [name, version.unwrap_or_default()].concat();
        splices.push(splice(start..start, bytes_field(1, &spec)));
    }
    let growth: i64 = splices.iter().map(Splice::growth).sum();
    let length = i64::from(place.length) + growth;
    let length = u32::try_from(length).map_err(|_| CannotRewrite::TooLong)?;
    splices.push(splice(
        place.prefix + 1..place.prefix + 5,
        length.to_be_bytes().to_vec(),
    ));
    // Stable: what is inserted at one place stays in order.
    splices.sort_by_key(|splice| splice.range.start);
    Ok(splices)
}

/// Changes the fields of one spec, and the lengths of the messages around it.
fn fields(
    style: MessageStyle,
    spec: &SpecPlace,
    name: Option<&str>,
    version: Option<&[u8]>,
    splices: &mut Vec<Splice>,
) -> Result<(), CannotRewrite> {
    let first = splices.len();
    let mut after_name = spec.start;
    match (&spec.name, name) {
        (Some((number, at)), name) => {
            after_name = at.end;
            if let Some(name) = name {
                put_name(at.clone(), text_field(*number, name), spec, splices);
            }
        }
        (None, Some(_)) if style == MessageStyle::NameOnly => return Err(CannotRewrite::Nowhere),
        (None, Some(name)) => put_name(spec.start..spec.start, text_field(1, name), spec, splices),
        (None, None) => {}
    }
    if let Some(version) = version {
        let at = spec.version.clone().unwrap_or(after_name..after_name);
        splices.push(splice(at, version.to_vec()));
    }
    let mut growth: i64 = splices[first..].iter().map(Splice::growth).sum();
    for LengthPlace { at, value } in spec.lengths.iter().rev().flatten() {
        let value = value.checked_add_signed(growth).ok_or(CannotRewrite::TooLong)?;
        let length = splice(at.clone(), varint(value));
        growth += length.growth();
        splices.push(length);
    }
    Ok(())
}

/// Puts the name where `at` is, or next to the version if that comes later: a message that gives its version only
/// after other fields is read to its end as long as it names no model, and refused once it does.
fn put_name(at: Range<u64>, name: Vec<u8>, spec: &SpecPlace, splices: &mut Vec<Splice>) {
    match &spec.version {
        Some(version) if at.end < version.start => {
            if !at.is_empty() {
                splices.push(splice(at, Vec::new()));
            }
            splices.push(splice(version.start..version.start, name));
        }
        _ => splices.push(splice(at, name)),
    }
}

/// The whole field that holds a version.
fn version_field(style: MessageStyle, version: &ModelVersion) -> Result<Vec<u8>, CannotRewrite> {
    match (style, version) {
        (MessageStyle::NameOnly, _) => Err(CannotRewrite::NoVersions),
        (MessageStyle::Strings, ModelVersion::Exact(_)) => {
            text_version(version.as_str().as_bytes()).map_err(|_| CannotRewrite::NotThere)?;
            Ok(text_field(2, version.as_str()))
        }
        (MessageStyle::Strings, ModelVersion::Label(_)) => Err(CannotRewrite::NoLabels),
        (MessageStyle::Spec, ModelVersion::Label(_)) => Ok(text_field(4, version.as_str())),
        (MessageStyle::Spec, ModelVersion::Exact(_)) => {
            let number: i64 = version.as_str().parse().map_err(|_| CannotRewrite::NotANumber)?;
            // google.protobuf.Int64Value: value = 1.
            let value = [vec![1 << 3], varint(number.cast_unsigned())].concat();
            Ok(bytes_field(2, &value))
        }
    }
}

fn text_field(number: u32, text: &str) -> Vec<u8> {
    bytes_field(number, text.as_bytes())
}

/// A length-delimited field.
fn bytes_field(number: u32, bytes: &[u8]) -> Vec<u8> {
    [
        varint(u64::from(number << 3 | 2)),
        varint(bytes.len() as u64),
        bytes.to_vec(),
    ]
    .concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn splice(range: Range<u64>, with: Vec<u8>) -> Splice {
    Splice {
        range,
        with: Bytes::from(with),
    }
}
