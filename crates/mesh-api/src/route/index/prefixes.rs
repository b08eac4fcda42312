//! The nodes of an index whose texts a value begins with.

use super::Node;

/// Nodes by the text that a value must begin with.
pub(super) struct Prefixes {
    /// In the order of the texts, each once.
    sorted: Box<[Prefix]>,
}

struct Prefix {
    text: Box<[u8]>,
    /// The longest other text that this one begins with.
    shorter: Option<usize>,
    node: Node,
}

impl Prefixes {
    /// Nodes in the order of their texts, each text once.
    pub(super) fn new(nodes: Vec<(Box<[u8]>, Node)>) -> Self {
        let mut sorted: Vec<Prefix> = Vec::with_capacity(nodes.len());
        for (text, node) in nodes {
            let shorter = chain(&sorted, sorted.len().checked_sub(1))
                .find(|at| sorted.get(*at).is_some_and(|other| text.starts_with(&other.text)));
            sorted.push(Prefix { text, shorter, node });
        }
        Self {
            sorted: sorted.into(),
        }
    }

    /// The nodes whose text the value begins with, the longest first.
    ///
    /// All of them stand on the way from the last text that is not after the value to ever shorter ones: whatever
    /// stands in the order between a text and a value that begins with it begins with it too.
    pub(super) fn of<'a>(&'a self, value: &'a [u8]) -> impl Iterator<Item = &'a Node> {
        let after = self.sorted.partition_point(|prefix| *prefix.text <= *value);
        chain(&self.sorted, after.checked_sub(1))
            .filter_map(|at| self.sorted.get(at))
            .filter(|prefix| value.starts_with(&prefix.text))
            .map(|prefix| &prefix.node)
    }
}

/// A text, the one it begins with, the one that begins with, and so on.
fn chain(sorted: &[Prefix], from: Option<usize>) -> impl Iterator<Item = usize> {
    std::iter::successors(from, |at| sorted.get(*at)?.shorter)
}
