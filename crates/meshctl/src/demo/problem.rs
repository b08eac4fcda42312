//! What can be in the way of the demo's servers, each in one line: what is missing, and what to do about it.

use std::path::{Path, PathBuf};

use super::layout::HOME_VARIABLE;
use super::python::PYTHON_VARIABLE;

/// Why the demo's servers could not be provided.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Neither a cache folder nor a home folder is known.
    #[error(
        "no folder for the demo: neither {HOME_VARIABLE}, XDG_CACHE_HOME nor HOME is set; set {HOME_VARIABLE}"
    )]
    NoHome,

    /// There is no Python at all.
    #[error(
        "no python: the demo's model servers need Python 3.10 to 3.12, and there is no `python3` in PATH; install python3 and python3-venv"
    )]
    NoPython,

    /// There are Pythons, but none that the servers run on, and none could be fetched.
    #[error("no fit python: {}; install Python 3.10 to 3.12 with its shared library, or name one in {PYTHON_VARIABLE} (fetching one with uv failed: {fetching})", .found.join(", "))]
    UnfitPython {
        /// What each Python that was looked at lacks.
        found: Vec<String>,
        /// Why uv could not fetch a fit one.
        fetching: String,
    },

    /// Python is there, but nothing that installs packages.
    #[error(
        "no installer: {python} has neither `venv` nor `pip`, and there is no `uv` in PATH; install python3-venv or uv"
    )]
    NoInstaller {
        /// The Python that was looked at.
        python: PathBuf,
    },

    /// A command that installs or makes something failed.
    #[error("{what} failed: {reason}; the whole output is in {}", .log.display())]
    Failed {
        /// What was being done.
        what: String,
        /// The line of the command's output that says why.
        reason: String,
        /// Where its whole output went.
        log: PathBuf,
    },

    /// A file or folder could not be written or read.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Problem {
    /// Makes a [`Problem::File`] of what the system said: for `map_err`.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }
}
