//! The folder a control plane keeps its state in: locked by one process, closed to everybody else.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The longest path of a Unix socket, in bytes, without its closing zero: 107 on Linux, 103 on macOS and the BSDs.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The folder, held by this process until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    // The lock goes with the process, however that ends.
    _lock: File,
}

impl StateDir {
    /// Opens the folder, or makes it, for this process alone.
    ///
    /// # Errors
    /// When others may write to it, when it belongs to somebody else, when another control plane runs on it, or when
    /// its path is too long for a socket.
    pub fn open(root: &Path) -> Result<Self> {
        let socket = root.join("control.sock");
        let length = socket.as_os_str().as_bytes().len();
        if length > MAX_SOCKET_PATH {
            bail!(
                "{} has {length} bytes, and a socket's path may have {MAX_SOCKET_PATH}: choose a shorter --state",
                socket.display()
            );
        }
        make_private(root)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .with_context(|| format!("open {}", root.join("lock").display()))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "another control plane runs on {}: stop it, or choose another --state",
                root.display()
            );
        }
        let state = Self {
            root: root.to_owned(),
            _lock: lock,
        };
        state.remove_stale_socket()?;
        remove(&state.address_file())?;
        Ok(state)
    }

    /// Something in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The socket of the Admin service.
    pub fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// The file that tells, once everything is ready, where the control plane listens.
    pub fn address_file(&self) -> PathBuf {
        self.path("control.addr")
    }

    /// Takes back what tells others that a control plane is here.
    pub fn withdraw(&self) {
        for path in [self.address_file(), self.socket()] {
            if let Err(error) = remove(&path) {
                tracing::warn!(%error, "the state folder could not be tidied");
            }
        }
    }

    fn remove_stale_socket(&self) -> Result<()> {
        let socket = self.socket();
        if UnixStream::connect(&socket).is_ok() {
            bail!(
                "somebody answers on {}: stop it, or choose another --state",
                socket.display()
            );
        }
        remove(&socket)
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn make_private(root: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .with_context(|| format!("make the state folder {}", root.display()))?;
    let there = fs::metadata(root).with_context(|| format!("look at {}", root.display()))?;
    if there.uid() != rustix::process::geteuid().as_raw() {
        bail!(
            "the state folder {} belongs to user {}, not to the one who runs this",
            root.display(),
            there.uid()
        );
    }
    if there.mode() & 0o022 != 0 {
        bail!(
            "others may write to the state folder {} (mode {:03o}): make it 0700 if you trust what is in it",
            root.display(),
            there.mode() & 0o777
        );
    }
    // What others may only look at is closed without asking.
    fs::set_permissions(root, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("close {} to others", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_control_plane_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/state");
        let first = StateDir::open(&root).unwrap();
        assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
        let error = StateDir::open(&root).unwrap_err().to_string();
        assert!(error.contains("another control plane runs on"), "{error}");
        drop(first);
        StateDir::open(&root).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, good) in [(0o770, false), (0o702, false), (0o755, true), (0o700, true)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(StateDir::open(dir.path()).is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn a_stale_socket_goes_and_a_live_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("somebody answers"), "{error}");
        assert!(socket.exists());
        drop(listener);
        StateDir::open(dir.path()).unwrap();
        assert!(!socket.exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_said() {
        let error = StateDir::open(&Path::new("/tmp").join("x".repeat(120))).unwrap_err();
        assert!(error.to_string().contains("shorter --state"), "{error}");
    }
}
