//! Container images without a container engine: a `docker save` archive, written directly. containerd, Docker, Podman and
//! every registry's tools read it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::layer::{Layer, hex};
use super::programs::cache;

/// What is run in a container, and as whom.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The user and group, as numbers; none: root.
    pub user: Option<&'a str>,
    /// The program and its first arguments.
    pub entrypoint: &'a [&'a str],
    /// Environment variables, as `NAME=value`.
    pub env: &'a [String],
}

/// An archive on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Archive {
    name: String,
    digest: String,
    path: PathBuf,
}

impl Archive {
    /// Writes the image of this name, `REGISTRY/REPOSITORY:TAG`, into the cache's folder `images`.
    ///
    /// # Errors
    /// When a layer can't be read.
    pub fn write(name: &str, settings: &Settings<'_>, layers: &[Layer]) -> Result<Self> {
        let digests = layers.iter().map(|layer| format!("sha256:{}", layer.digest()));
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": settings.user.unwrap_or_default(),
                "Entrypoint": settings.entrypoint,
                "Env": settings.env,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": digests.collect::<Vec<_>>()},
        }))?;
        let digest = hex(&Sha256::digest(&config));
        let manifest = serde_json::to_vec(&json!([{
            "Config": format!("{digest}.json"),
            "RepoTags": [name],
            "Layers": layers.iter().map(member).collect::<Vec<_>>(),
        }]))?;
        let folder = cache().join("images");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.tar", name.replace(['/', ':'], "_")));
        let packed = tempfile::NamedTempFile::new_in(&folder)?;
        let mut archive = tar::Builder::new(packed.as_file());
        append(&mut archive, &format!("{digest}.json"), &config)?;
        for layer in layers {
            archive.append_file(member(layer), &mut File::open(layer.path())?)?;
        }
        append(&mut archive, "manifest.json", &manifest)?;
        archive.finish()?;
        drop(archive);
        packed.persist(&path)?;
        Ok(Self {
            name: name.to_owned(),
            digest,
            path,
        })
    }

    /// Its name, with registry and tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 of its configuration, which changes with everything in it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The name of a layer in the archive.
fn member(layer: &Layer) -> String {
    format!("{}.tar", layer.digest())
}

fn append(archive: &mut tar::Builder<&File>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    Ok(archive.append_data(&mut header, name, content)?)
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
