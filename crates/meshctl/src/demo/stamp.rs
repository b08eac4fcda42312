//! Stamps: small files that say a part is finished, made from what, and what was found out on the way.
//!
//! A stamp is written when its part is complete, and counts only while the key, a hash of all that the part was made
//! from, is the same: an interrupted or outdated part has no valid stamp and is made again.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Problem;
use super::run::write;

#[derive(Serialize, Deserialize)]
struct Stamp<Facts> {
    key: String,
    facts: Facts,
}

/// A hash of what a part is made from. The same parts in another order, or split elsewhere, are another key.
pub(super) fn key<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What was found out when the part was finished, if it was, with this key.
pub(super) fn read<Facts: DeserializeOwned>(path: &Path, key: &str) -> Option<Facts> {
    let text = std::fs::read(path).ok()?;
    let stamp: Stamp<Facts> = serde_json::from_slice(&text).ok()?;
    (stamp.key == key).then_some(stamp.facts)
}

/// Says that the part is finished.
pub(super) fn finish<Facts: Serialize>(path: &Path, key: &str, facts: &Facts) -> Result<(), Problem> {
    let stamp = Stamp {
        key: key.to_owned(),
        facts,
    };
    let text = serde_json::to_vec(&stamp).map_err(|error| Problem::file("write", path)(error.into()))?;
    write(path, &text)
}

/// Says that the part is not finished any more.
pub(super) fn clear(path: &Path) -> Result<(), Problem> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Problem::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_stable_and_tells_every_difference() {
        assert_eq!(key(["requirements", "3.11"]), "41d96fc976e3f66a");
        let keys = [
            key(["ab", "c"]),
            key(["a", "bc"]),
            key(["c", "ab"]),
            key(["abc"]),
            key([]),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn a_stamp_counts_only_whole_and_with_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("stamps/python");
        assert_eq!(read::<String>(&path, "k"), None);
        finish(&path, "k", &"3.11").expect("written");
        assert_eq!(read::<String>(&path, "k").as_deref(), Some("3.11"));
        assert_eq!(read::<String>(&path, "other"), None);
        std::fs::write(&path, "{\"key\":\"k\"").expect("written");
        assert_eq!(read::<String>(&path, "k"), None);
        clear(&path).expect("cleared");
        clear(&path).expect("clearing twice is fine");
        assert_eq!(read::<String>(&path, "k"), None);
    }
}
