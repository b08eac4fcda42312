//! Values as YAML: blocks for what stands on lines of its own, brackets for what stands within a line.

use serde_json::{Map, Value};

use super::tree::{Content, Tree};

/// What people expect to read first, in this order; the rest follows by name.
const FIRST: [&str; 19] = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "image",
    "imagePullPolicy",
    "restartPolicy",
    "command",
    "args",
    "env",
    "value",
    "valueFrom",
    "path",
    "port",
    "mountPath",
    "requests",
    "limits",
    "initContainers",
];

/// A value on lines of its own, `indent` columns from the left; items of lists stand `list` columns further in than the
/// key above them.
pub(crate) fn block(value: &Value, indent: usize, list: usize) -> String {
    let mut out = String::new();
    lines(&mut out, value, indent, list, None);
    out
}

/// A document, with its keys in the order of another.
pub(super) fn in_order(value: &Value, like: Option<&Tree>) -> String {
    let mut out = String::new();
    lines(&mut out, value, 0, 0, like);
    out
}

/// Writes whole lines, each with its end.
fn lines(out: &mut String, value: &Value, indent: usize, list: usize, like: Option<&Tree>) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in ordered(map, like) {
                out.push_str(&margin);
                entry(out, name, value, indent, list, child(like, name));
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                out.push_str(&margin);
                out.push_str("- ");
                let mut inner = String::new();
                lines(&mut inner, value, indent + 2, list, item(like, index));
                out.push_str(inner.trim_start_matches(' '));
            }
        }
        scalar => {
            out.push_str(&flow(scalar, None));
            out.push('\n');
        }
    }
}

/// A key and its value; the key's place is written already.
fn entry(out: &mut String, name: &str, value: &Value, indent: usize, list: usize, like: Option<&Tree>) {
    out.push_str(&text(name));
    out.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            lines(out, value, indent + 2, list, like);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            lines(out, value, indent + list, list, like);
        }
        scalar => {
            out.push(' ');
            out.push_str(&flow(scalar, None));
            out.push('\n');
        }
    }
}

fn child<'a>(like: Option<&'a Tree>, name: &str) -> Option<&'a Tree> {
    match &like?.content {
        Content::Map(entries) => entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, value)| value),
        _ => None,
    }
}

fn item(like: Option<&Tree>, index: usize) -> Option<&Tree> {
    match &like?.content {
        Content::List(items) => items.get(index),
        _ => None,
    }
}

fn ordered<'a>(map: &'a Map<String, Value>, like: Option<&Tree>) -> Vec<(&'a String, &'a Value)> {
    let there: Vec<&str> = match like.map(|like| &like.content) {
        Some(Content::Map(entries)) => entries.iter().map(|(key, _)| key.name.as_str()).collect(),
        _ => Vec::new(),
    };
    let place = |names: &[&str], name: &str| names.iter().position(|it| *it == name).unwrap_or(usize::MAX);
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| (place(&there, name), place(&FIRST, name), name.as_str()));
    entries
}

/// A value within a line, its keys in the order of another.
pub(super) fn flow(value: &Value, like: Option<&Tree>) -> String {
    match value {
        Value::String(value) => text(value),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let items: Vec<String> = items
                .map(|(index, value)| flow(value, item(like, index)))
                .collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<String> = ordered(map, like)
                .into_iter()
                .map(|(name, value)| format!("{}: {}", text(name), flow(value, child(like, name))))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        plain => plain.to_string(),
    }
}

/// A text, in quotes unless every reader of YAML takes it for one without.
pub(super) fn text(value: &str) -> String {
    if is_plain(value) {
        return value.to_owned();
    }
    // JSON in double quotes would be half backslashes.
    let quotable = value.contains(['"', '\\']) && !value.chars().any(char::is_control);
    match quotable {
        true => format!("'{}'", value.replace('\'', "''")),
        false => Value::from(value).to_string(),
    }
}

fn is_plain(value: &str) -> bool {
    let figures = value.trim_start_matches(|letter: char| letter.is_ascii_digit());
    if figures.len() < value.len() && ["m", "Ki", "Mi", "Gi"].contains(&figures) {
        return true;
    }
    let begins = value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/' || first == '$');
    let begins = begins || value.starts_with("--") && value.len() > 3;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@$()+-".contains(&byte);
    // Words that one reader or another takes for something else (YAML 1.1).
    let word = value.to_ascii_lowercase();
    let taken = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&word.as_str());
    begins && value.bytes().all(plain) && !value.ends_with(':') && !taken
}
