//! Finding a Python that the servers run on.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::run::run;
use super::{Problem, assets};

/// The environment variable that names the Python to use, and no other.
pub const PYTHON_VARIABLE: &str = "MESH_DEMO_PYTHON";

/// The versions that have packages of all servers: MLServer's bounds are the narrowest.
const OLDEST: (u8, u8) = (3, 10);
const NEWEST: (u8, u8) = (3, 12);

/// What is asked of PATH, in this order.
const NAMES: &[&str] = &["python3", "python3.12", "python3.11", "python3.10"];

/// A Python, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Python {
    pub(super) executable: PathBuf,
    pub(super) version: (u8, u8),
    /// The file name of its shared library.
    pub(super) library: String,
    /// Where that library is, if it has one.
    pub(super) library_folder: Option<PathBuf>,
    /// Whether it can make environments.
    pub(super) venv: bool,
    /// Whether it has pip.
    pub(super) pip: bool,
}

impl Python {
    /// Asks a Python what it is.
    pub(super) fn probe(executable: &Path, log: &Path) -> Result<Self, Problem> {
        let what = format!("asking {} what it is", executable.display());
        let answer = run(Command::new(executable).args(["-c", assets::PROBE]), &what, log)?;
        serde_json::from_str(&answer).map_err(|error| Problem::Failed {
            what,
            reason: error.to_string(),
            log: log.to_owned(),
        })
    }

    /// What the servers miss in this Python, if anything.
    pub(super) fn lack(&self) -> Option<String> {
        let (name, (major, minor)) = (self.executable.display(), self.version);
        if self.version < OLDEST || self.version > NEWEST {
            return Some(format!("{name} is {major}.{minor}"));
        }
        let no_library = || {
            format!(
                "{name} has no {} (on Debian: the package libpython{major}.{minor})",
                self.library
            )
        };
        self.library_folder.is_none().then(no_library)
    }
}

/// All Pythons to choose from: the named one, or those in PATH that answer.
pub(super) fn candidates(log: &Path) -> Result<Vec<Python>, Problem> {
    if let Some(named) = std::env::var_os(PYTHON_VARIABLE).filter(|named| !named.is_empty()) {
        return Ok(vec![Python::probe(Path::new(&named), log)?]);
    }
    // A version manager's stand-in for a Python that is not installed is in PATH, but does not answer.
    let mut found: Vec<Python> = Vec::new();
    for name in NAMES {
        if let Ok(python) = Python::probe(Path::new(name), log)
            && !found.contains(&python)
        {
            found.push(python);
            if found.last().is_some_and(|python| python.lack().is_none()) {
                break;
            }
        }
    }
    if found.is_empty() {
        Err(Problem::NoPython)
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(version: (u8, u8), library_folder: Option<&str>) -> Python {
        Python {
            executable: "/usr/bin/python3".into(),
            version,
            library: format!("libpython{}.{}.so.1.0", version.0, version.1),
            library_folder: library_folder.map(PathBuf::from),
            venv: true,
            pip: false,
        }
    }

    #[test]
    fn a_python_is_fit_with_its_version_and_its_library() {
        let cases = [
            (python((3, 9), Some("/l")), Some("/usr/bin/python3 is 3.9")),
            (python((3, 10), Some("/l")), None),
            (python((3, 12), Some("/l")), None),
            (python((3, 13), Some("/l")), Some("/usr/bin/python3 is 3.13")),
            (python((4, 11), None), Some("/usr/bin/python3 is 4.11")),
            (
                python((3, 11), None),
                Some("/usr/bin/python3 has no libpython3.11.so.1.0 (on Debian: the package libpython3.11)"),
            ),
        ];
        for (python, expected) in cases {
            assert_eq!(python.lack().as_deref(), expected);
        }
    }

    #[test]
    fn a_python_describes_itself() {
        let answer = r#"{"executable": "/p", "version": [3, 11], "library": "l", "library_folder": null, "venv": true, "pip": false}"#;
        let python: Python = serde_json::from_str(answer).expect("it is understood");
        assert_eq!(
            (python.version, python.library_folder, python.venv),
            ((3, 11), None, true)
        );
    }
}
