//! Trees with columns: what belongs to what on the left, drawn with lines, and numbers lined up on the right.

use super::{Style, Text};

/// The columns of numbers beside a tree: name and width of each.
pub(crate) type Columns = &'static [(&'static str, usize)];

/// A line of a tree, and what is beneath it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// What the line says.
    pub label: Text,
    /// What its columns say; empty: the label has the whole line.
    pub cells: Vec<Text>,
    /// What is beneath.
    pub children: Vec<Node>,
}

impl Node {
    /// A line without numbers.
    pub(crate) fn new(label: impl Into<Text>) -> Self {
        Self {
            label: label.into(),
            ..Self::default()
        }
    }

    /// With numbers.
    #[must_use]
    pub(crate) fn cells(mut self, cells: Vec<Text>) -> Self {
        self.cells = cells;
        self
    }
}

/// Draws trees beneath each other, each root with an empty line before it, at most `width` columns wide.
pub(crate) fn render(roots: &[Node], columns: Columns, width: usize) -> String {
    let numbers: usize = columns.iter().map(|(_, width)| width + 2).sum();
    let widest = roots.iter().map(|root| widest(root, 0)).max().unwrap_or(0);
    let labels = widest.clamp(20, width.saturating_sub(numbers).max(20));
    let mut out = String::new();
    let head: Vec<Text> = columns
        .iter()
        .map(|(name, _)| Text::styled(Style::Strong, *name))
        .collect();
    line(&mut out, "", &Text::default(), &head, columns, labels);
    for (index, root) in roots.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        line(&mut out, "", &root.label, &root.cells, columns, labels);
        branch(&mut out, "", &root.children, columns, labels);
    }
    out
}

/// The widest label that has numbers beside it.
fn widest(node: &Node, depth: usize) -> usize {
    let own = if node.cells.is_empty() {
        0
    } else {
        node.label.width() + 3 * depth
    };
    let beneath = node.children.iter().map(|child| widest(child, depth + 1));
    beneath.max().unwrap_or(0).max(own)
}

fn branch(out: &mut String, lead: &str, nodes: &[Node], columns: Columns, labels: usize) {
    for (index, node) in nodes.iter().enumerate() {
        let last = index + 1 == nodes.len();
        let (knot, below) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        line(
            out,
            &format!("{lead}{knot}"),
            &node.label,
            &node.cells,
            columns,
            labels,
        );
        branch(out, &format!("{lead}{below}"), &node.children, columns, labels);
    }
}

fn line(out: &mut String, lead: &str, label: &Text, cells: &[Text], columns: Columns, labels: usize) {
    let lead = Text::styled(Style::Faint, lead);
    let mut text = lead.ansi();
    if cells.is_empty() {
        text.push_str(&label.ansi());
    } else {
        let label = label.cut(labels.saturating_sub(lead.width()));
        text.push_str(&label.ansi());
        text.push_str(&" ".repeat(labels.saturating_sub(lead.width() + label.width())));
        for (cell, (_, width)) in cells.iter().zip(columns) {
            text.push_str(&" ".repeat(2 + width.saturating_sub(cell.width())));
            text.push_str(&cell.ansi());
        }
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_whatever_the_depth() {
        let leaf = |name: &str, n: &str| Node::new(name).cells(vec![n.into()]);
        let mut rule = Node::new("rule-0, a line without numbers that may be as long as it likes to be");
        rule.children = vec![
            leaf("stable", "37.9"),
            leaf("canary with a very long name", "2.0"),
        ];
        let mut root = leaf("ml/fraud", "39.9");
        root.children = vec![rule, leaf("otherwise", "0.0")];
        let text = render(&[root], &[("RPS", 6)], 40);
        let plain = anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!(plain);
    }
}
