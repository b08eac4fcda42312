//! Names of the mesh for what the Gateway API calls by longer ones, or not at all.

use std::collections::HashSet;

use mesh_api::name::Name;

/// The longest part of a name that is kept, so that there is room to tell it apart from others.
const KEPT: usize = 56;

/// Names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Name>);

impl Names {
    /// Those that are taken already.
    pub(super) fn taken<'a>(names: impl IntoIterator<Item = &'a Name>) -> Self {
        Self(names.into_iter().cloned().collect())
    }

    /// The name nearest to a text that is not taken, and is from now on.
    pub(super) fn unique(&mut self, text: &str) -> Name {
        let base = label(text);
        let mut candidates = std::iter::once(base.clone()).chain((2_u32..).map(|n| format!("{base}-{n}")));
        // One is always found: there are more candidates than names.
        let free = candidates.find_map(|text| text.parse().ok().filter(|name| !self.0.contains(name)));
        let name = free.unwrap_or_else(Name::default_namespace);
        self.0.insert(name.clone());
        name
    }
}

/// A text as one DNS label.
fn label(text: &str) -> String {
    let kept = text
        .bytes()
        .take(KEPT)
        .map(|byte| match byte.to_ascii_lowercase() {
            byte @ (b'a'..=b'z' | b'0'..=b'9') => char::from(byte),
            _ => '-',
        });
    let kept: String = kept.collect();
    match kept.trim_matches('-') {
        "" => "unnamed".into(),
        kept => kept.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_is_its_name_is_one_and_no_other() {
        let long = "a".repeat(300);
        let mut names = Names::default();
        let found: Vec<String> = ["web", "web", "Web.v1", "web-v1", "web", "..", &long, &long]
            .iter()
            .map(|text| names.unique(text).to_string())
            .collect();
        let kept = "a".repeat(56);
        let again = format!("{kept}-2");
        assert_eq!(
            found,
            [
                "web", "web-2", "web-v1", "web-v1-2", "web-3", "unnamed", &kept, &again
            ]
        );
    }
}
