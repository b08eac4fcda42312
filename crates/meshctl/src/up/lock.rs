//! One `up` for each mesh: it holds the lock for as long as it lives, whatever ends it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;

use crate::error::{Failure, Outcome};
use crate::mesh_home::Mesh;

/// Held by the `up` that runs a mesh.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a mesh.
    pub(crate) fn take(mesh: &Mesh) -> Outcome<Self> {
        let path = mesh.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Failure::new(format!("mesh {} is up already", mesh.name))
                .hint("give this one another name with --name, or end the other one with `meshctl down`"));
        }
        let mut write = || {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { _file: file })
    }

    /// The process that runs the mesh, if one does.
    pub(crate) fn holder(mesh: &Mesh) -> Option<Pid> {
        let mut file = File::open(mesh.lock()).ok()?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh_home::MeshHome;

    #[test]
    fn a_mesh_is_up_once() {
        let root = tempfile::tempdir().unwrap();
        let mesh = MeshHome::at(root.path()).mesh(&"shop".parse().unwrap());
        mesh.make().unwrap();
        assert_eq!(Lock::holder(&mesh), None);
        let lock = Lock::take(&mesh).unwrap();
        assert_eq!(Lock::holder(&mesh), Some(rustix::process::getpid()));
        let error = Lock::take(&mesh).unwrap_err();
        assert_eq!(error.to_string(), "mesh shop is up already");
        drop(lock);
        assert_eq!(Lock::holder(&mesh), None);
        Lock::take(&mesh).unwrap();
    }
}
