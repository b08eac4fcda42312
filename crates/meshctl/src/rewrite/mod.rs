//! A YAML document made to say something else, where it stands: every line that says what it said before stays as it is,
//! comments and order included.

mod emit;
mod splice;
mod tree;

use serde_json::Value;

pub(crate) use emit::block;
use tree::Tree;

/// How a document was rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// The document's text.
    pub(crate) text: String,
    /// Whether all lines that did not have to change are as they were. If not, the document is written anew: its comments
    /// are gone.
    pub(crate) in_place: bool,
}

/// The text of a document that says `before`, rewritten so that it says `after`.
pub(crate) fn rewrite(text: &str, before: &Value, after: &Value) -> Rewritten {
    let tree = Tree::parse(text);
    let spliced = tree
        .as_ref()
        .and_then(|tree| splice::splice(text, tree, before, after));
    // Whatever stood in the text: it says what it is to say, or it is not used.
    let spliced =
        spliced.filter(|text| serde_saphyr::from_str::<Value>(text).is_ok_and(|said| said == *after));
    match spliced {
        Some(text) => Rewritten { text, in_place: true },
        None => Rewritten {
            text: anew(text, tree.as_ref(), after),
            in_place: false,
        },
    }
}

/// JSON stays JSON.
fn anew(text: &str, tree: Option<&Tree>, after: &Value) -> String {
    let start = text.len() - text.trim_start().len();
    let (space, rest) = text.split_at(start);
    // What stands on the line of the marker, and empty lines.
    let space = if space.contains('\n') || space.is_empty() {
        space
    } else {
        "\n"
    };
    match rest.starts_with('{') {
        true => format!("{space}{after:#}\n"),
        false => format!(
            "{}{}",
            if space.is_empty() { "" } else { "\n" },
            emit::in_order(after, tree)
        ),
    }
}

#[cfg(test)]
mod tests;
