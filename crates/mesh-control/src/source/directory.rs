//! Documents of a folder (`*.yaml` and `*.yml`, in its folders too) or of one file.
//!
//! A file that changes is read once it has stood still for a moment, so that a half-written one is not taken for what
//! its author means; a file that vanishes is given a moment to come back, as editors that rename let it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::index::Event;

/// How long a changed file must stand still.
const STILL: Duration = Duration::from_millis(50);
/// How long a file that never stands still is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a file must be away.
const AWAY: Duration = Duration::from_millis(250);
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// The most files that are read.
const MAX_FILES: usize = 10_000;
/// How deep folders may stand in each other.
const MAX_DEPTH: usize = 16;

/// A folder or a file of documents, and what was seen of it.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
    unreadable: BTreeMap<PathBuf, String>,
    started: bool,
}

/// What a look brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What changed.
    pub events: Vec<Event>,
    /// When to look again, since something has not come to rest; none: when something changes.
    pub again: Option<Duration>,
}

/// What tells that a file changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug)]
struct Seen {
    /// The state that was read; none: it has not been read yet.
    taken: Option<Stamp>,
    /// The state it is in; none: it is away.
    stamp: Option<Stamp>,
    /// Since when it is in this state.
    since: Duration,
    /// Since when it is in another state than the one that was read.
    restless: Duration,
}

/// The files there are, and what could not be looked at.
#[derive(Default)]
struct Listing {
    files: BTreeMap<PathBuf, Stamp>,
    unreadable: BTreeMap<PathBuf, String>,
}

impl Directory {
    /// A folder or a file that has not been looked at.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            seen: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            started: false,
        }
    }

    /// The folder or file.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it is one file.
    pub fn is_file(&self) -> bool {
        self.root.is_file()
    }

    /// Looks what changed. `now` is a time that only rises. The first look takes everything as it is.
    pub fn look(&mut self, now: Duration) -> Look {
        let listing = list(&self.root);
        let mut look = Look::default();
        self.note_unreadable(&listing.unreadable, now, &mut look);
        self.note_stamps(&listing, now);
        let paths: Vec<PathBuf> = self.seen.keys().cloned().collect();
        for path in paths {
            self.consider(&path, now, &mut look);
        }
        self.started = true;
        look
    }

    /// The file was written by this control plane and needs no look.
    pub fn wrote(&mut self, path: &Path, now: Duration) {
        match fs::metadata(path) {
            Ok(there) => {
                let stamp = Some(Stamp::of(&there));
                let seen = Seen {
                    taken: stamp,
                    stamp,
                    since: now,
                    restless: now,
                };
                self.seen.insert(path.to_owned(), seen);
            }
            Err(_) => {
                self.seen.remove(path);
            }
        }
    }

    fn note_unreadable(&mut self, unreadable: &BTreeMap<PathBuf, String>, now: Duration, look: &mut Look) {
        for (path, reason) in unreadable {
            if self.unreadable.get(path) != Some(reason) {
                look.events.push(Event::Unreadable(path.clone(), reason.clone()));
            }
        }
        for path in self
            .unreadable
            .keys()
            .filter(|path| !unreadable.contains_key(*path))
        {
            match self.seen.get_mut(path) {
                // A file that can be read again is read anew; until then what was last good of it stays.
                Some(seen) => (seen.taken, seen.restless) = (None, now),
                None => look.events.push(Event::Gone(path.clone())),
            }
        }
        self.unreadable = unreadable.clone();
    }

    fn note_stamps(&mut self, listing: &Listing, now: Duration) {
        for (path, stamp) in &listing.files {
            let seen = self.seen.entry(path.clone()).or_insert(Seen {
                taken: None,
                stamp: None,
                since: now,
                restless: now,
            });
            seen.turns(Some(*stamp), now);
        }
        for (path, seen) in &mut self.seen {
            // What stands under a folder that can't be looked at is not away.
            let hidden = listing.unreadable.keys().any(|folder| path.starts_with(folder));
            if !listing.files.contains_key(path) && !hidden {
                seen.turns(None, now);
            }
        }
    }

    fn consider(&mut self, path: &Path, now: Duration, look: &mut Look) {
        let started = self.started;
        let Some(seen) = self.seen.get_mut(path) else {
            return;
        };
        if seen.taken == seen.stamp && seen.taken.is_some() {
            return;
        }
        let still = now.saturating_sub(seen.since);
        let needed = if seen.stamp.is_some() { STILL } else { AWAY };
        let impatient = seen.stamp.is_some() && now.saturating_sub(seen.restless) >= PATIENCE;
        if started && still < needed && !impatient {
            let wait = needed - still;
            look.again = Some(look.again.map_or(wait, |other| other.min(wait)));
            return;
        }
        match seen.stamp {
            None => {
                look.events.push(Event::Gone(path.to_owned()));
                self.seen.remove(path);
            }
            Some(stamp) => {
                look.events.push(match read(path) {
                    Ok(text) => {
                        seen.taken = Some(stamp);
                        Event::Text(path.to_owned(), text)
                    }
                    // The next look tries again.
                    Err(reason) => Event::Unreadable(path.to_owned(), reason),
                });
            }
        }
    }
}

impl Seen {
    fn turns(&mut self, stamp: Option<Stamp>, now: Duration) {
        if self.stamp == stamp {
            return;
        }
        if self.stamp == self.taken {
            self.restless = now;
        }
        (self.stamp, self.since) = (stamp, now);
    }
}

impl Stamp {
    fn of(there: &fs::Metadata) -> Self {
        Self {
            inode: there.ino(),
            size: there.size(),
            modified: (there.mtime(), there.mtime_nsec()),
            changed: (there.ctime(), there.ctime_nsec()),
        }
    }
}

fn list(root: &Path) -> Listing {
    let mut listing = Listing::default();
    match fs::metadata(root) {
        Ok(there) if there.is_dir() => walk(root, 0, &mut listing),
        Ok(there) => {
            listing.files.insert(root.to_owned(), Stamp::of(&there));
        }
        Err(error) => {
            listing.unreadable.insert(root.to_owned(), error.to_string());
        }
    }
    listing
}

fn walk(folder: &Path, depth: usize, listing: &mut Listing) {
    let entries = match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        // A folder that was removed just now has no files; the root is another matter.
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
        Err(error) => {
            listing.unreadable.insert(folder.to_owned(), error.to_string());
            return;
        }
    };
    let paths: BTreeSet<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    for path in paths {
        if is_hidden(&path) {
            continue;
        }
        // Links to files are followed, links to folders are not: they may lead in circles.
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir());
        if is_folder && depth < MAX_DEPTH {
            walk(&path, depth + 1, listing);
        } else if is_yaml(&path)
            && let Ok(there) = fs::metadata(&path)
            && there.is_file()
        {
            if listing.files.len() >= MAX_FILES {
                let reason = format!("there are more than {MAX_FILES} files: the others are not read");
                listing.unreadable.insert(folder.to_owned(), reason);
                return;
            }
            listing.files.insert(path, Stamp::of(&there));
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_none_or(|name| name.to_string_lossy().starts_with(['.', '#']))
}

/// Editors' temporary files end otherwise (`a.yaml~`, `a.yaml.swp`, `4913`).
fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Reads a file of documents.
///
/// # Errors
/// Why it can't be read.
pub fn read(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!(
            "the file has {size} bytes, and {MAX_FILE} are read at most"
        ));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| format!("the file is not UTF-8: {}", error.utf8_error()))
}

#[cfg(test)]
mod tests;
