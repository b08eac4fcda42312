//! The edits that make a text say something else.
//!
//! What goes into a block map or list goes right below the key that it belongs to, so that comments above what is there stay
//! above it. What goes out of one goes by whole lines. Where that can't be told from the text, there is no edit, and the
//! document is written anew.

use std::ops::Range;

use mesh_api::inject::{Step, aligned};
use serde_json::{Map, Value};

use super::emit::{block, flow, text as quoted};
use super::tree::{Content, Key, Tree};

/// The text with the edits; none: it can't be edited.
pub(super) fn splice(text: &str, tree: &Tree, before: &Value, after: &Value) -> Option<String> {
    let mut editor = Editor {
        text,
        list: list_indent(text, tree, None).unwrap_or(0),
        edits: Vec::new(),
    };
    editor.value(tree, before, after, None)?;
    let mut edits = editor.edits;
    // From the end, so that earlier places stay where they are; what goes out of a place goes before what comes into it.
    edits.sort_by_key(|(range, _)| std::cmp::Reverse((range.start, range.end)));
    let mut next = text.to_owned();
    let mut edited = usize::MAX;
    for (range, replacement) in edits {
        if range.end > edited {
            return None;
        }
        edited = range.start;
        let replacement = if text.contains("\r\n") {
            replacement.replace('\n', "\r\n")
        } else {
            replacement
        };
        next.replace_range(range, &replacement);
    }
    Some(next)
}

/// How much further in than its key the first list of the document stands.
fn list_indent(text: &str, tree: &Tree, key: Option<&Key>) -> Option<usize> {
    match &tree.content {
        Content::Map(entries) => entries
            .iter()
            .find_map(|(key, value)| list_indent(text, value, Some(key))),
        Content::List(items) => {
            let key = key?.start?;
            let dash = dash(text, items.first()?.start?)?;
            column(text, dash)
                .checked_sub(column(text, key))
                .filter(|_| line(text, dash) > key)
        }
        Content::Scalar => None,
    }
}

struct Editor<'a> {
    text: &'a str,
    /// How much further in than their keys lists stand.
    list: usize,
    edits: Vec<(Range<usize>, String)>,
}

impl Editor<'_> {
    /// `key`: where the key stands whose value this is.
    fn value(&mut self, tree: &Tree, before: &Value, after: &Value, key: Option<usize>) -> Option<()> {
        if before == after {
            return Some(());
        }
        let start = tree.start?;
        match (&tree.content, before, after) {
            (Content::Map(entries), Value::Object(before), Value::Object(after)) => {
                match self.text.get(start..)?.starts_with('{') {
                    true => self.flow_map(tree, entries, before, after),
                    false => self.block_map(entries, before, after, key),
                }
            }
            (Content::List(items), Value::Array(before), Value::Array(after)) => {
                match self.text.get(start..)?.starts_with('[') {
                    true => self.flow_list(tree, items, before, after),
                    false => self.block_list(items, before, after, key),
                }
            }
            (Content::Scalar, before, Value::Object(_) | Value::Array(_)) if before.is_null() => {
                self.nothing(after, key?)
            }
            (Content::Scalar, _, after) if !after.is_object() && !after.is_array() => {
                let range = tree.range(self.text).filter(|range| !range.is_empty())?;
                let block = self.text[range.clone()].starts_with(['|', '>']);
                let value = flow(after, None);
                (!block).then(|| self.edits.push((range, value)))
            }
            _ => None,
        }
    }

    /// A key without a value gets one.
    fn nothing(&mut self, after: &Value, key: usize) -> Option<()> {
        let at = self.below(key)?;
        let indent = column(self.text, key) + if after.is_array() { self.list } else { 2 };
        self.edits.push((at..at, block(after, indent, self.list)));
        Some(())
    }

    fn block_map(
        &mut self,
        entries: &[(Key, Tree)],
        before: &Map<String, Value>,
        after: &Map<String, Value>,
        key: Option<usize>,
    ) -> Option<()> {
        for (name, value) in entries {
            let old = before.get(&name.name)?;
            match after.get(&name.name) {
                Some(new) => self.value(value, old, new, name.start)?,
                None => {
                    let range = self.lines_of(name.start?, true)?;
                    self.edits.push((range, String::new()));
                }
            }
        }
        let added: Map<_, _> = after
            .iter()
            .filter(|(name, _)| !before.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if added.is_empty() {
            return Some(());
        }
        let first = entries.first()?.0.start?;
        let at = self.below(key?)?;
        // Not on the line of the key itself.
        if first < at {
            return None;
        }
        let added = block(&Value::Object(added), column(self.text, first), self.list);
        self.edits.push((at..at, added));
        Some(())
    }

    fn block_list(
        &mut self,
        items: &[Tree],
        before: &[Value],
        after: &[Value],
        key: Option<usize>,
    ) -> Option<()> {
        let mut items = items.iter();
        // Where the next item that is added goes.
        let mut at = self.below(key?)?;
        let indent = column(self.text, dash(self.text, items.as_slice().first()?.start?)?);
        let mut added = Vec::new();
        for step in aligned(before, after) {
            match step {
                Step::Added(value) => {
                    added.push(value.clone());
                    continue;
                }
                Step::Both(old, new) => {
                    let item = items.next()?;
                    self.added(&mut added, at, indent);
                    at = self.lines_of(dash(self.text, item.start?)?, false)?.end;
                    self.value(item, old, new, None)?;
                }
                Step::Removed(_) => {
                    self.added(&mut added, at, indent);
                    let range = self.lines_of(dash(self.text, items.next()?.start?)?, false)?;
                    at = range.end;
                    self.edits.push((range, String::new()));
                }
            }
        }
        self.added(&mut added, at, indent);
        Some(())
    }

    fn added(&mut self, added: &mut Vec<Value>, at: usize, indent: usize) {
        if added.is_empty() {
            return;
        }
        let mut lines = block(&Value::Array(std::mem::take(added)), indent, self.list);
        if !self.text[..at].is_empty() && !self.text[..at].ends_with('\n') {
            // The last line of the text has no end.
            lines.insert(0, '\n');
        }
        self.edits.push((at..at, lines));
    }

    fn flow_map(
        &mut self,
        tree: &Tree,
        entries: &[(Key, Tree)],
        before: &Map<String, Value>,
        after: &Map<String, Value>,
    ) -> Option<()> {
        if before.keys().any(|name| !after.contains_key(name)) {
            return self.brackets(tree, &Value::Object(after.clone()));
        }
        for (name, value) in entries {
            self.value(value, before.get(&name.name)?, after.get(&name.name)?, name.start)?;
        }
        let json = entries
            .first()
            .is_some_and(|(key, _)| key.start.is_some_and(|start| self.text[start..].starts_with('"')));
        let added: Vec<String> = after
            .iter()
            .filter(|(name, _)| !before.contains_key(*name))
            .map(|(name, value)| match json {
                true => format!("{}: {value}", Value::from(name.as_str())),
                false => format!("{}: {}", quoted(name), flow(value, None)),
            })
            .collect();
        self.behind_bracket(tree, &added, before.is_empty())
    }

    fn flow_list(&mut self, tree: &Tree, items: &[Tree], before: &[Value], after: &[Value]) -> Option<()> {
        let steps = aligned(before, after);
        let new = steps
            .iter()
            .take_while(|step| matches!(step, Step::Added(_)))
            .count();
        if steps[new..].iter().any(|step| !matches!(step, Step::Both(..))) {
            return self.brackets(tree, &Value::from(after));
        }
        for (item, (old, new)) in items.iter().zip(before.iter().zip(&after[new..])) {
            self.value(item, old, new, None)?;
        }
        let added: Vec<String> = after[..new].iter().map(Value::to_string).collect();
        self.behind_bracket(tree, &added, before.is_empty())
    }

    /// Puts what is new right behind an opening bracket.
    fn behind_bracket(&mut self, tree: &Tree, added: &[String], empty: bool) -> Option<()> {
        if !added.is_empty() {
            let at = tree.start? + 1;
            let rest = if empty { "" } else { ", " };
            self.edits.push((at..at, format!("{}{rest}", added.join(", "))));
        }
        Some(())
    }

    /// Writes what stands in brackets anew.
    fn brackets(&mut self, tree: &Tree, after: &Value) -> Option<()> {
        let range = tree.range(self.text)?;
        let json = self.text[range.clone()].starts_with("{\"");
        let value = if json {
            after.to_string()
        } else {
            flow(after, Some(tree))
        };
        self.edits.push((range, value));
        Some(())
    }

    /// Where the line after a key begins; none: the key's value stands on its line.
    fn below(&self, key: usize) -> Option<usize> {
        let rest = self.text.get(key..)?;
        let line = rest.lines().next()?;
        let value = line.split_once(':')?.1.trim_start();
        // An anchor may stand there, and a comment.
        let nothing = value.is_empty() || value.starts_with('#') || value.starts_with('&');
        let end = rest.find('\n')? + key + 1;
        nothing.then_some(end)
    }

    /// The lines of a key with its value, or of an item with its dash, which is all that stands there.
    fn lines_of(&self, start: usize, is_key: bool) -> Option<Range<usize>> {
        let (first, margin) = (line(self.text, start), column(self.text, start));
        if !self.text[first..start].trim().is_empty() {
            return None;
        }
        let mut end = first;
        let mut at = first;
        for (number, content) in self.text[first..].split_inclusive('\n').enumerate() {
            let begins = content.len() - content.trim_start_matches(' ').len();
            let said = content.trim();
            at += content.len();
            if number > 0 && (said.is_empty() || said.starts_with('#')) {
                // It belongs to whatever comes next.
                continue;
            }
            // A list may stand in the column of its key.
            let item = is_key && begins == margin && (said == "-" || said.starts_with("- "));
            if number > 0 && begins <= margin && !item {
                break;
            }
            end = at;
        }
        Some(first..end)
    }
}

/// Where the line begins that this is on.
fn line(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// How many columns from the left.
fn column(text: &str, at: usize) -> usize {
    text[line(text, at)..at].chars().count()
}

/// Where the dash of an item stands; none: not on the item's line.
fn dash(text: &str, item: usize) -> Option<usize> {
    let first = line(text, item);
    let before = text[first..item].trim_end();
    before.ends_with('-').then(|| first + before.len() - 1)
}
