//! Where things are in the demo's folder: one place for every name.

use std::path::{Path, PathBuf};

use super::Problem;

/// The environment variable that names the demo's folder.
pub const HOME_VARIABLE: &str = "MESH_DEMO_HOME";

/// The demo's folder: `$MESH_DEMO_HOME`, or `mesh/demo` in the user's cache folder.
///
/// # Errors
/// When the environment names no such folder.
pub fn home() -> Result<PathBuf, Problem> {
    home_in(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn home_in(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, Problem> {
    let named = variable(HOME_VARIABLE).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").map(PathBuf::from);
    let user = || variable("HOME").map(|home| Path::new(&home).join(".cache"));
    let folder = named
        .or_else(|| Some(cache().or_else(user)?.join("mesh/demo")))
        .ok_or(Problem::NoHome)?;
    std::path::absolute(&folder).map_err(Problem::file("find", &folder))
}

/// The demo's folder and the places in it.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) home: PathBuf,
}

impl Layout {
    /// Held by whoever installs.
    pub(super) fn lock(&self) -> PathBuf {
        self.home.join("lock")
    }

    /// What installing printed.
    pub(super) fn log(&self) -> PathBuf {
        self.home.join("install.log")
    }

    /// What is finished: one file for each part.
    pub(super) fn stamp(&self, part: &str) -> PathBuf {
        self.home.join("stamps").join(part)
    }

    /// An environment with pip alone, where the system has no pip.
    pub(super) fn tools(&self) -> PathBuf {
        self.home.join("tools")
    }

    /// uv, where the system has none.
    pub(super) fn uv(&self) -> PathBuf {
        self.home.join("uv")
    }

    /// The environment that servers and clients run in.
    pub(super) fn venv(&self) -> PathBuf {
        self.home.join("venv")
    }

    /// A program of that environment.
    pub(super) fn bin(&self, program: &str) -> PathBuf {
        self.venv().join("bin").join(program)
    }

    /// Pythons that uv fetched.
    pub(super) fn pythons(&self) -> PathBuf {
        self.home.join("pythons")
    }

    /// What uv downloaded, so that an interrupted installation goes on where it was.
    pub(super) fn downloads(&self) -> PathBuf {
        self.home.join("downloads")
    }

    /// llama-server and the libraries it runs with.
    pub(super) fn llama(&self) -> PathBuf {
        self.home.join("llama")
    }

    /// The files that come with this program, laid out for the servers.
    pub(super) fn files(&self) -> PathBuf {
        self.home.join("files")
    }

    /// Triton's backends.
    pub(super) fn triton_backends(&self) -> PathBuf {
        self.home.join("triton-backends")
    }

    /// The language model.
    pub(super) fn chat_model(&self) -> PathBuf {
        self.home.join("chat.gguf")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_the_named_one_then_the_cache_then_the_users() {
        let cases = [
            ("MESH_DEMO_HOME=/d XDG_CACHE_HOME=/c HOME=/h", Some("/d")),
            ("XDG_CACHE_HOME=/c HOME=/h", Some("/c/mesh/demo")),
            ("HOME=/h", Some("/h/.cache/mesh/demo")),
            ("", None),
        ];
        for (variables, expected) in cases {
            let pairs = || variables.split(' ').filter_map(|pair| pair.split_once('='));
            let variable = |name: &str| {
                pairs()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.to_owned())
            };
            assert_eq!(
                home_in(variable).ok(),
                expected.map(PathBuf::from),
                "{variables:?}"
            );
        }
    }
}
