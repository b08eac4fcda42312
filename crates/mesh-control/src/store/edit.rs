//! Documents in and out of a file's text, everything else in it kept byte for byte.

use std::path::Path;

use mesh_api::document::{ObjectId, Source, parse_one, sources};

/// The document of an object in a file's text: the first that is good, else one that is bad but names the object.
pub fn find(path: &Path, text: &str, id: &ObjectId) -> Option<Source> {
    let mut bad = None;
    for source in sources(path, text) {
        match parse_one(&source) {
            Ok(document) if document.id() == *id => return Some(source),
            Err(error) if error.object.as_ref() == Some(id) => {
                bad.get_or_insert(source);
            }
            _ => {}
        }
    }
    bad
}

/// The file's text with another document in the place of one. Comments above the old one stay, unless the new one
/// brings its own.
pub fn replace(text: &str, old: &Source, new: &str) -> String {
    substitute(text, old, &rewritten(old, new))
}

/// The file's text with exactly this in the place of a document's text.
pub fn substitute(text: &str, old: &Source, new: &str) -> String {
    let (before, after) = around(text, old);
    [before, new, after].concat()
}

/// What goes in the place of a document's text so that the document is another one.
pub fn rewritten(old: &Source, new: &str) -> String {
    let new = new.trim_start_matches(['\r', '\n']);
    let mut text = match new.trim_start().starts_with('#') {
        true => String::new(),
        false => comments_above(&old.text).to_owned(),
    };
    // After a marker, and after comments on its line, the document begins on a line of its own.
    if old.offset > 0 && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(new);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The file's text with one more document at its end; none: the file is new.
pub fn append(text: Option<&str>, new: &str) -> String {
    let new = new.trim_start_matches(['\r', '\n']);
    let mut next = text.unwrap_or_default().to_owned();
    if !next.trim().is_empty() {
        if !next.ends_with('\n') {
            next.push('\n');
        }
        next.push_str("---\n");
    }
    next.push_str(new);
    if !next.ends_with('\n') {
        next.push('\n');
    }
    next
}

/// The file's text without a document, and without the `---` that belongs to it.
pub fn remove(text: &str, old: &Source) -> String {
    let (before, after) = around(text, old);
    match before.strip_suffix("---") {
        Some(before) => format!("{before}{after}"),
        None => {
            let after = after.strip_prefix("---").unwrap_or(after);
            let after = after.strip_prefix('\r').unwrap_or(after);
            format!("{before}{}", after.strip_prefix('\n').unwrap_or(after))
        }
    }
}

fn around<'a>(text: &'a str, source: &Source) -> (&'a str, &'a str) {
    let end = source.offset + source.text.len();
    (
        text.get(..source.offset).unwrap_or_default(),
        text.get(end..).unwrap_or_default(),
    )
}

/// The blank lines and comments that a document begins with.
fn comments_above(document: &str) -> &str {
    let length = document
        .split_inclusive('\n')
        .take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        .map(str::len)
        .sum();
    document.get(..length).unwrap_or_default()
}
