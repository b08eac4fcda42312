//! Where meshes are on this machine: `$MESH_HOME/meshes/<name>`, and which of them is meant.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mesh_api::name::{Name, ObjectName};

use crate::error::{Failure, Outcome};

/// The folder of all meshes.
#[derive(Clone, Debug)]
pub(crate) struct MeshHome {
    root: PathBuf,
}

/// The folder of one mesh.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    /// What it is called.
    pub(crate) name: Name,
    /// Where its state is.
    pub(crate) dir: PathBuf,
}

impl MeshHome {
    /// `$MESH_HOME`, or `~/.mesh`.
    pub(crate) fn find() -> Outcome<Self> {
        let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
        let root = named("MESH_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&named("HOME")?).join(".mesh")))
            .ok_or_else(|| {
                Failure::new("no folder for the state of meshes: neither MESH_HOME nor HOME is set")
                    .hint("set MESH_HOME to a folder")
            })?;
        Ok(Self {
            root: std::path::absolute(root).context("cannot find MESH_HOME")?,
        })
    }

    /// The folder at `root`.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The mesh of this name, whether it is there or not.
    pub(crate) fn mesh(&self, name: &Name) -> Mesh {
        Mesh {
            name: name.clone(),
            dir: self.root.join("meshes").join(name.as_str()),
        }
    }

    /// The mesh that is meant: the one named, or the one that was started last.
    pub(crate) fn meant(&self, named: Option<&Name>) -> Outcome<Mesh> {
        let mesh = match named {
            Some(name) => self.mesh(name),
            None => {
                let current = fs::read_to_string(self.current_file()).unwrap_or_default();
                let name = current.trim().parse::<Name>().map_err(|_| none_runs())?;
                self.mesh(&name)
            }
        };
        if mesh.dir.is_dir() {
            return Ok(mesh);
        }
        let failure = Failure::new(format!(
            "there is no mesh {} in {}",
            mesh.name,
            self.root.join("meshes").display()
        ));
        let others = self.names();
        Err(if others.is_empty() {
            failure.hint("start one with `meshctl up DIR` or `meshctl demo`")
        } else {
            failure.hint(format!("there is {}", others.join(", ")))
        })
    }

    /// Makes the mesh the one that commands mean when they name none.
    pub(crate) fn set_current(&self, mesh: &Mesh) -> Outcome {
        write_private(&self.current_file(), &format!("{}\n", mesh.name))
    }

    fn current_file(&self) -> PathBuf {
        self.root.join("current")
    }

    fn names(&self) -> Vec<String> {
        let folders = fs::read_dir(self.root.join("meshes")).into_iter().flatten();
        let mut names: Vec<_> = folders
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

/// What to say when no mesh runs.
pub(crate) fn none_runs() -> Failure {
    Failure::new("no mesh is running").hint("start one with `meshctl up DIR` or `meshctl demo`")
}

impl Mesh {
    /// The socket of the Admin service.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Where proxies reach the control plane: a file with host and port.
    pub(crate) fn control_address(&self) -> PathBuf {
        self.dir.join("control.addr")
    }

    /// The root certificates.
    pub(crate) fn root_certificates(&self) -> PathBuf {
        self.dir.join("ca").join("root.pem")
    }

    /// The log of a process, such as `control`, `ml.client` or `ml.client.proxy`.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{process}.log"))
    }

    /// The state of a workload's sidecar.
    pub(crate) fn proxy(&self, workload: &ObjectName) -> PathBuf {
        let name = format!("{}.{}", workload.namespace, workload.name);
        self.dir.join("proxies").join(name)
    }

    /// The address of a sidecar's admin endpoint: a file with host and port.
    pub(crate) fn proxy_admin(&self, workload: &ObjectName) -> PathBuf {
        self.proxy(workload).join("admin.addr")
    }

    /// Held by the `meshctl up` that runs the mesh; it has that process's id.
    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("up.lock")
    }

    /// Makes the mesh's folders, for its owner alone.
    pub(crate) fn make(&self) -> Outcome {
        for dir in [&self.dir, &self.dir.join("logs"), &self.dir.join("proxies")] {
            make_private(dir)?;
        }
        Ok(())
    }
}

/// Makes a folder, and those above it, for its owner alone.
pub(crate) fn make_private(dir: &Path) -> Outcome {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    Ok(made.with_context(|| format!("cannot make the folder {}", dir.display()))?)
}

/// Writes a file that its owner alone may read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Outcome {
    if let Some(dir) = path.parent() {
        make_private(dir)?;
    }
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        fs::rename(&partial, path)
    };
    Ok(write().with_context(|| format!("cannot write {}", path.display()))?)
}

/// A mesh's name after a folder: `My Shop_2` becomes `my-shop-2`.
pub(crate) fn name_after(folder: &Path) -> Option<Name> {
    let folder = folder.file_name()?.to_string_lossy().to_lowercase();
    let letters: String = folder
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    letters.trim_matches('-').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_mesh_is_found_by_name_or_as_the_current_one() {
        let root = tempfile::tempdir().unwrap();
        let home = MeshHome::at(root.path());
        let none = home.meant(None).unwrap_err();
        assert_eq!(none.to_string(), "no mesh is running");
        let shop: Name = "shop".parse().unwrap();
        assert!(
            home.meant(Some(&shop))
                .unwrap_err()
                .to_string()
                .contains("no mesh shop")
        );
        let mesh = home.mesh(&shop);
        mesh.make().unwrap();
        home.set_current(&mesh).unwrap();
        assert_eq!(home.meant(None).unwrap().name, shop);
        assert_eq!(home.meant(Some(&shop)).unwrap().dir, mesh.dir);
        let other = home.meant(Some(&"x".parse().unwrap())).unwrap_err();
        assert!(matches!(other, Failure::Told { hints, .. } if hints == ["there is shop"]));
        let mode = fs::metadata(&mesh.dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_current_file_of_rubbish_is_no_mesh() {
        let root = tempfile::tempdir().unwrap();
        for rubbish in ["", "../../etc", "a/b", "\0"] {
            fs::write(root.path().join("current"), rubbish).unwrap();
            let error = MeshHome::at(root.path()).meant(None).unwrap_err();
            assert_eq!(error.to_string(), "no mesh is running");
        }
    }

    #[test]
    fn folders_give_names() {
        for (folder, name) in [
            ("examples/fraud", Some("fraud")),
            ("My Shop_2", Some("my-shop-2")),
            ("-x-", Some("x")),
            ("___", None),
            ("/", None),
        ] {
            assert_eq!(
                name_after(Path::new(folder)).as_ref().map(Name::as_str),
                name,
                "{folder}"
            );
        }
    }

    #[test]
    fn private_files_are_private() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a/token");
        write_private(&file, "secret").unwrap();
        write_private(&file, "other").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "other");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
