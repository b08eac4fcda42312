//! What a document says, and where in its text.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value of a document.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) content: Content,
    /// Where it begins; none: elsewhere, as what an alias stands for does.
    pub(super) start: Option<usize>,
    /// How long it is, of scalars.
    length: usize,
}

/// What it is made of.
#[derive(Debug)]
pub(super) enum Content {
    Map(Vec<(Key, Tree)>),
    List(Vec<Tree>),
    Scalar,
}

/// A key of a map.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) start: Option<usize>,
}

impl Tree {
    /// None: the text can't be read as one document.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let node: Spanned<Node> = serde_saphyr::from_str(text).ok()?;
        Some(Self::from(node))
    }

    /// Where it stands in the text; none: that can't be told, as of blocks.
    pub(super) fn range(&self, text: &str) -> Option<Range<usize>> {
        let start = self.start?;
        let length = match self.content {
            Content::Scalar => self.length,
            Content::Map(_) | Content::List(_) => bracketed(text.get(start..)?)?,
        };
        text.get(start..start + length)?;
        Some(start..start + length)
    }
}

/// How long what stands in brackets is, brackets included; none: it does not begin with one, or does not end.
fn bracketed(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut before) = (0_usize, None, ' ');
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some('"'), '\\') => drop(letters.next()),
            (Some('#'), '\n') => quote = None,
            (Some(open), _) if open == letter && open != '#' => quote = None,
            (Some(_), _) => {}
            // Within a word these mean nothing.
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(letter),
            (None, '#') if before.is_whitespace() => quote = Some(letter),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            (None, _) if depth == 0 => return None,
            (None, _) => {}
        }
        before = letter;
    }
    None
}

struct Node(Content);

impl From<Spanned<Node>> for Tree {
    fn from(node: Spanned<Node>) -> Self {
        Self {
            start: start(&node),
            length: node.referenced.span().byte_len().unwrap_or(0) as usize,
            content: node.value.0,
        }
    }
}

fn start<T>(node: &Spanned<T>) -> Option<usize> {
    if node.referenced != node.defined {
        return None;
    }
    usize::try_from(node.referenced.span().byte_offset()?).ok()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value: Spanned<Node> = map.next_value()?;
            let key = Key {
                start: start(&key),
                name: key.value,
            };
            entries.push((key, value.into()));
        }
        Ok(Content::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Node>>()? {
            items.push(item.into());
        }
        Ok(Content::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Content, E> {
        Ok(Content::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar)
    }
}
