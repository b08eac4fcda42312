//! The proxy's state directory: what it keeps so that it starts without the control plane. Only its owner may enter.
//!
//! Files are replaced as a whole: written beside, synced, renamed. A crash leaves the old one or the new one. Who writes
//! takes a turn: while one proxy takes over from another, both save what they have, and each of them does so for more than
//! one reason.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};

/// The most bytes that are read from a file.
const MAX_BYTES: u64 = 256 << 20;

/// A directory that only its owner may enter.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// What is wrong with the directory or a file in it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Others may read or change it.
    #[error("{path}: others may use it (mode {mode:03o}): run chmod {wanted:03o} on it")]
    Open {
        /// Which file or directory.
        path: PathBuf,
        /// What it is.
        mode: u32,
        /// What it should be.
        wanted: u32,
    },
    /// The operating system refuses.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateDir {
    /// Opens the directory, making it (mode 700) if it is not there.
    ///
    /// # Errors
    /// When it can't be made, or others may use it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| io_error(path, source))?;
        let metadata = fs::metadata(path).map_err(|source| io_error(path, source))?;
        closed_to_others(path, &metadata, 0o700)?;
        Ok(Self(path.to_owned()))
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a file; none: it is not there.
    ///
    /// # Errors
    /// When it can't be read, is too large, or others may use it.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error(&path, source)),
        };
        let metadata = file.metadata().map_err(|source| io_error(&path, source))?;
        closed_to_others(&path, &metadata, 0o600)?;
        let mut bytes = Vec::new();
        match file.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
            Ok(read) if read as u64 > MAX_BYTES => Err(io_error(
                &path,
                io::Error::other("it is too large to be the proxy's"),
            )),
            Ok(_) => Ok(Some(bytes)),
            Err(source) => Err(io_error(&path, source)),
        }
    }

    /// When a file was written last; none: it is not there, or nobody knows.
    pub fn written(&self, name: &str) -> Option<SystemTime> {
        self.path(name).metadata().ok()?.modified().ok()
    }

    /// Replaces a file, readable by its owner only.
    ///
    /// # Errors
    /// When it can't be written; the file before is still there then.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path(name);
        let beside = self.path(&format!(".{name}.new"));
        self.replace(&path, &beside, bytes)
            .map_err(|source| io_error(&path, source))
    }

    fn replace(&self, path: &Path, beside: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = File::open(&self.0)?;
        // Until the folder is closed: for other threads and other processes alike.
        flock(&folder, FlockOperation::LockExclusive)?;
        write_beside(beside, bytes)?;
        fs::rename(beside, path)?;
        folder.sync_all()
    }
}

fn write_beside(beside: &Path, bytes: &[u8]) -> io::Result<()> {
    // One that a crash left has whatever mode it has: never write a key into it.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn closed_to_others(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), StateError> {
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(StateError::Open {
        path: path.to_owned(),
        mode,
        wanted,
    })
}

fn io_error(path: &Path, source: io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn files_are_replaced_and_only_the_owner_s() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("a/b")).unwrap();
        assert_eq!(state.read("x").unwrap(), None);
        state.write("x", b"one").unwrap();
        fs::write(state.path(".x.new"), b"left by a crash").unwrap();
        chmod(&state.path(".x.new"), 0o644);
        state.write("x", b"two").unwrap();
        assert_eq!(state.read("x").unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(state.path("x")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(root.path().join("a/b")).unwrap().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn many_may_write_at_once() {
        let root = tempfile::tempdir().unwrap();
        // As two processes do it: each opens the directory for itself.
        let open = || StateDir::open(root.path().join("s").as_path()).unwrap();
        let text = |writer: u8, number: u8| [writer, number].repeat(4_000);
        let writing = |writer| {
            let state = open();
            move || (0..50).try_for_each(|number| state.write("x", &text(writer, number)))
        };
        open().write("x", &text(0, 0)).unwrap();
        std::thread::scope(|threads| {
            let writers: Vec<_> = (1..4).map(|writer| threads.spawn(writing(writer))).collect();
            while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                let read = open().read("x").unwrap().unwrap();
                assert_eq!(read, text(read[0], read[1]), "half of a file was read");
            }
            for writer in writers {
                writer.join().unwrap().unwrap();
            }
        });
    }

    #[test]
    fn what_others_may_use_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("s")).unwrap();
        state.write("x", b"key").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601] {
            chmod(&state.path("x"), mode);
            let error = state.read("x").unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{mode:o}: {error}");
        }
        chmod(&root.path().join("s"), 0o750);
        let error = StateDir::open(&root.path().join("s")).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }
}
