//! Files that are never seen half-written, and files that only their owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Permissions of what only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Permissions of what everybody may read.
pub const PUBLIC: u32 = 0o644;

/// Replaces a file, or creates it with these permissions: whoever reads it sees the old text or the new one, even after
/// a power cut. An existing file keeps its permissions unless the new ones are private; a link keeps pointing to it.
///
/// # Errors
/// When its folder or the file can't be written.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let path = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let mode = match fs::metadata(&path) {
        Ok(there) if mode != PRIVATE => there.mode() & 0o777,
        _ => mode,
    };
    let temporary = beside(&path)?;
    let written = create(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_folder(&path))
}

/// Writes a file that must not exist yet.
///
/// # Errors
/// When it exists or can't be written.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // The umask may have taken bits away that readers of a public file need.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file of ours that only its owner may read.
///
/// # Errors
/// When it can't be read, or when others may read or write it: then its secret may be out.
pub fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let there = file.metadata()?;
    if there.mode() & 0o077 != 0 {
        let reason = format!(
            "{} may be read by others (mode {:03o}): make it 0600, or remove it if its secret may be out",
            path.display(),
            there.mode() & 0o777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

/// A hidden name beside the file, which the source of documents does not look at.
fn beside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other(format!("{} is not a file", path.display())))?;
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = format!(".{}.{}-{next}.tmp", name.to_string_lossy(), std::process::id());
    Ok(path.with_file_name(temporary))
}

/// Makes a rename or a removal in the file's folder last.
///
/// # Errors
/// When the folder can't be opened or synchronised.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_replaced_file_keeps_its_permissions_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a.yaml"), dir.path().join("link.yaml"));
        create(&file, b"one", 0o640).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"two", PUBLIC).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(mode(&file), 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing is left over"
        );
    }

    #[test]
    fn what_others_may_read_is_not_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("root.key");
        create(&file, b"secret", PRIVATE).unwrap();
        assert_eq!(read_private(&file).unwrap(), b"secret");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&file).unwrap_err().to_string();
        assert!(error.contains("mode 640") && error.contains("0600"), "{error}");
        assert!(create(&file, b"other", PRIVATE).is_err(), "it exists");
    }
}
