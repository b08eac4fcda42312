//! The nodes of an index by the text that a value must be.
//!
//! Texts and nodes stand side by side, and the table of hashes beside them holds their positions alone: of thousands of
//! texts, all of it fits a core's own cache.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Node;

/// Nodes by the text that a value must be.
pub(super) struct Equals {
    /// Positions in `nodes`, by the hashes of their texts.
    positions: HashTable<u32>,
    hasher: DefaultHashBuilder,
    nodes: Box<[(Text, Node)]>,
}

impl Equals {
    /// Nodes by their texts, each text once.
    pub(super) fn new<'a>(nodes: impl IntoIterator<Item = (&'a [u8], Node)>) -> Self {
        let nodes: Box<[_]> = nodes
            .into_iter()
            .map(|(text, node)| (Text::new(text), node))
            .collect();
        let hasher = DefaultHashBuilder::default();
        let hash = |at: &u32| {
            let text = nodes.get(*at as usize).map(|(text, _)| text.bytes());
            hasher.hash_one(text.unwrap_or_default())
        };
        let mut positions = HashTable::with_capacity(nodes.len());
        for at in (0..).take(nodes.len()) {
            positions.insert_unique(hash(&at), at, hash);
        }
        Self {
            positions,
            hasher,
            nodes,
        }
    }

    /// The node of the text that the value is.
    pub(super) fn get(&self, value: &[u8]) -> Option<&Node> {
        let is_it = |at: &u32| {
            let text = self.nodes.get(*at as usize).map(|(text, _)| text.bytes());
            text == Some(value)
        };
        let at = self.positions.find(self.hasher.hash_one(value), is_it)?;
        self.nodes.get(*at as usize).map(|(_, node)| node)
    }
}

/// The longest text that stands where it is, in bytes.
const SHORT: usize = 22;

/// A text, on the heap only if it is long.
enum Text {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Text {
    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(text);
                Self::Short(length, bytes)
            }
            _ => Self::Long(text.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_lengths_are_told_apart() {
        let texts: Vec<_> = (0..300_usize).map(|length| "x".repeat(length)).collect();
        let nodes = texts.iter().map(|text| (text.as_bytes(), Node::default()));
        let equals = Equals::new(nodes);
        for (text, (_, node)) in texts.iter().zip(&equals.nodes) {
            let found = equals.get(text.as_bytes()).unwrap();
            assert!(std::ptr::eq(found, node), "{}", text.len());
            assert!(equals.get(format!("{text}y").as_bytes()).is_none());
        }
        assert!(Equals::new([]).get(b"").is_none());
        assert_eq!(size_of::<Text>(), 24);
    }
}
