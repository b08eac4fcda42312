//! The files of an image, as a layer: a tar file that is the same whenever its files are the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::programs::cache;

/// A layer on disk.
#[derive(Clone, Debug)]
pub struct Layer {
    digest: String,
    path: PathBuf,
}

/// What is to be in a layer, by where it will be; folders above come by themselves.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<PathBuf, Entry>);

#[derive(Debug)]
enum Entry {
    Folder,
    Copy(PathBuf),
    Text(String),
    Link(PathBuf),
}

impl Files {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file of this machine, with its permissions; a link is followed.
    #[must_use]
    pub fn copy(mut self, there: impl Into<PathBuf>, here: impl Into<PathBuf>) -> Self {
        self.put(there.into(), Entry::Copy(here.into()));
        self
    }

    /// A file with this text.
    #[must_use]
    pub fn text(mut self, there: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.put(there.into(), Entry::Text(text.into()));
        self
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(mut self, there: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        self.put(there.into(), Entry::Link(to.into()));
        self
    }

    /// A program of this machine with the shared libraries that it needs, each where the program's loader looks for it.
    ///
    /// # Errors
    /// When a library is missing.
    pub fn program(self, there: impl Into<PathBuf>, here: &Path) -> Result<Self> {
        self.copy(there, here).libraries(here, "")
    }

    /// The shared libraries that a program or library of this machine needs; those that are not the system's are looked
    /// for in these folders, written as in `LD_LIBRARY_PATH`.
    ///
    /// # Errors
    /// When one is missing.
    pub fn libraries(self, here: &Path, folders: &str) -> Result<Self> {
        let needed = libraries(here, folders)?;
        Ok(needed
            .into_iter()
            .fold(self, |files, library| files.copy(&library, &library)))
    }

    /// All files below a folder of this machine, at the same place, links as links; those that `unwanted` says, and what
    /// is below them, are left out.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub fn tree(mut self, folder: &Path, unwanted: &dyn Fn(&Path) -> bool) -> Result<Self> {
        self.add_tree(folder, unwanted)?;
        Ok(self)
    }

    fn add_tree(&mut self, folder: &Path, unwanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.file_type()?;
            if unwanted(&path) {
                continue;
            } else if kind.is_dir() {
                self.add_tree(&path, unwanted)?;
            } else if kind.is_symlink() {
                self.put(path.clone(), Entry::Link(fs::read_link(&path)?));
            } else if kind.is_file() {
                self.put(path.clone(), Entry::Copy(path));
            }
        }
        Ok(())
    }

    fn put(&mut self, there: PathBuf, entry: Entry) {
        for above in there.ancestors().skip(1).filter(|above| above.parent().is_some()) {
            self.0.entry(above.to_owned()).or_insert(Entry::Folder);
        }
        self.0.insert(there, entry);
    }

    /// Packs them into the cache's `layers/NAME.tar`.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn pack(&self, name: &str) -> Result<Layer> {
        let folder = cache().join("layers");
        fs::create_dir_all(&folder)?;
        let mut packed = tempfile::NamedTempFile::new_in(&folder)?;
        let mut archive = tar::Builder::new(Hashing {
            file: BufWriter::new(packed.as_file_mut()),
            digest: Sha256::new(),
        });
        for (path, entry) in &self.0 {
            append(&mut archive, path, entry).with_context(|| format!("pack {}", path.display()))?;
        }
        let Hashing { mut file, digest } = archive.into_inner()?;
        file.flush()?;
        drop(file);
        let digest = hex(&digest.finalize());
        let path = folder.join(format!("{name}.tar"));
        packed.persist(&path)?;
        Ok(Layer { digest, path })
    }

    /// The layer of this name that was packed before from the same files, by their sizes and times, or a new one. For
    /// folders too large to read each time.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn pack_once(&self, name: &str) -> Result<Layer> {
        let mut inventory = Sha256::new();
        for (path, entry) in &self.0 {
            inventory.update(path.as_os_str().as_encoded_bytes());
            match entry {
                Entry::Folder => {}
                Entry::Text(text) => inventory.update(text),
                Entry::Link(to) => inventory.update(to.as_os_str().as_encoded_bytes()),
                Entry::Copy(from) => {
                    let found = fs::metadata(from).with_context(|| format!("find {}", from.display()))?;
                    inventory.update(found.len().to_le_bytes());
                    inventory.update(format!("{:?}", found.modified()?));
                }
            }
            inventory.update([0]);
        }
        let inventory = hex(&inventory.finalize());
        let (path, note) = (
            cache().join("layers").join(format!("{name}.tar")),
            cache().join("layers").join(format!("{name}.packed")),
        );
        if path.is_file()
            && let Some((of, digest)) = fs::read_to_string(&note).unwrap_or_default().split_once(' ')
            && of == inventory
        {
            return Ok(Layer {
                digest: digest.to_owned(),
                path,
            });
        }
        let _ = fs::remove_file(&note);
        let layer = self.pack(name)?;
        fs::write(note, format!("{inventory} {}", layer.digest))?;
        Ok(layer)
    }
}

impl Layer {
    /// Its SHA-256, in hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &Path, entry: &Entry) -> Result<()> {
    let inside = path.strip_prefix("/").context("it is not absolute")?;
    // Who made it and when is nobody's business, and would change the digest.
    let mut header = tar::Header::new_gnu();
    match entry {
        Entry::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, inside, io::empty())?;
        }
        Entry::Link(to) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, inside, to)?;
        }
        Entry::Text(text) => {
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, inside, text.as_bytes())?;
        }
        Entry::Copy(from) => {
            let file = File::open(from).with_context(|| format!("open {}", from.display()))?;
            let found = file.metadata()?;
            // The image's user is not the owner: he may do what the owner may, but for writing.
            let program = found.permissions().mode() & 0o100 != 0;
            header.set_mode(if program { 0o755 } else { 0o644 });
            header.set_size(found.len());
            archive.append_data(&mut header, inside, file)?;
        }
    }
    Ok(())
}

/// The shared libraries that a program needs, and its loader; none when it is linked statically.
fn libraries(program: &Path, folders: &str) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    let output = ldd.arg(program).env("LD_LIBRARY_PATH", folders).output();
    let output = output.context("start ldd")?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            error.contains("not a dynamic executable"),
            "ldd {}: {error}",
            program.display()
        );
        return Ok(Vec::new());
    }
    let mut libraries = Vec::new();
    for line in told.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("{} needs {line}", program.display());
        }
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or the loader's path alone.
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split(' ').next().unwrap_or_default();
        // A library may be named by its way from the program, which leads up and down again.
        if let Some((folder, name)) = path.rsplit_once('/').filter(|_| path.starts_with('/')) {
            let folder = if folder.contains("/../") {
                fs::canonicalize(folder)?
            } else {
                folder.into()
            };
            libraries.push(folder.join(name));
        }
    }
    Ok(libraries)
}

/// Writes, and hashes what it writes.
struct Hashing<W> {
    file: W,
    digest: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
