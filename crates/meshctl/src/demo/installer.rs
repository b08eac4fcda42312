//! What installs Python packages: uv, where it can be had, else pip, which takes ten times as long.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Problem;
use super::layout::Layout;
use super::pip_config::uv_environment;
use super::python::Python;
use super::run::{in_path, remove_folder, run};

/// The version that uv fetches where no Python is fit.
const FETCHED_PYTHON: &str = "3.12";

/// uv, or a Python with pip, or both.
pub(super) struct Installer {
    uv: Option<PathBuf>,
    pip: Option<PathBuf>,
    environment: BTreeMap<&'static str, String>,
    log: PathBuf,
}

impl Installer {
    /// Takes uv from PATH, or installs it into the demo's folder with the pip of one of these Pythons.
    pub(super) fn find(layout: &Layout, pythons: &[Python]) -> Result<Self, Problem> {
        let log = layout.log();
        let pip = pip(layout, pythons)?;
        let uv = in_path("uv").or_else(|| install_uv(layout, pip.as_ref()?));
        if let (None, None, Some(python)) = (&uv, &pip, pythons.first()) {
            return Err(Problem::NoInstaller {
                python: python.executable.clone(),
            });
        }
        let listing = pip.as_ref().and_then(|python| {
            let mut command = Command::new(python);
            run(
                command.args(["-m", "pip", "config", "list"]),
                "reading pip's configuration",
                &log,
            )
            .ok()
        });
        let is_set = |name: &str| std::env::var_os(name).is_some();
        let mut environment = uv_environment(&listing.unwrap_or_default(), is_set, Path::exists);
        let folders = [
            ("UV_CACHE_DIR", layout.downloads()),
            ("UV_PYTHON_INSTALL_DIR", layout.pythons()),
        ];
        for (variable, folder) in folders.into_iter().filter(|(variable, _)| !is_set(variable)) {
            environment.insert(variable, folder.display().to_string());
        }
        Ok(Self {
            uv,
            pip,
            environment,
            log,
        })
    }

    /// Fetches a Python that is fit, where none is installed.
    pub(super) fn fetch_python(&self) -> Result<Python, Problem> {
        let what = format!("fetching Python {FETCHED_PYTHON}");
        let Some(uv) = &self.uv else {
            return Err(Problem::Failed {
                what,
                reason: "there is no uv".into(),
                log: self.log.clone(),
            });
        };
        self.run(self.uv(uv).args(["python", "install", FETCHED_PYTHON]), &what)?;
        let find = ["python", "find", "--managed-python", FETCHED_PYTHON];
        let found = self.run(self.uv(uv).args(find), &what)?;
        Python::probe(Path::new(found.trim()), &self.log)
    }

    /// Makes an empty environment, in the place of one that is there.
    pub(super) fn make_venv(&self, python: &Python, folder: &Path) -> Result<(), Problem> {
        remove_folder(folder)?;
        let mut command = match &self.uv {
            Some(uv) => self.uv(uv),
            None => Command::new(&python.executable),
        };
        match &self.uv {
            Some(_) => command
                .args(["venv", "--no-project", "--python"])
                .arg(&python.executable),
            None => command.args(["-m", "venv", "--without-pip"]),
        };
        self.run(command.arg(folder), "making the Python environment")
            .map(drop)
    }

    /// Installs exactly the packages that a requirements file lists. What uv cannot do, pip is asked to.
    pub(super) fn install(&self, requirements: &Path, venv: &Path, what: &str) -> Result<(), Problem> {
        let python = venv.join("bin/python");
        let mut outcome = Err(Problem::NoInstaller {
            python: python.clone(),
        });
        if let Some(uv) = &self.uv {
            let mut command = self.uv(uv);
            command
                .args(["pip", "install", "--no-deps", "--python"])
                .arg(&python)
                .arg("-r")
                .arg(requirements);
            outcome = self.run(&mut command, what);
        }
        if let (Err(_), Some(pip)) = (&outcome, &self.pip) {
            let mut command = Command::new(pip);
            command.args(["-m", "pip", "--python"]).arg(&python);
            command
                .args(["install", "--quiet", "--no-deps", "-r"])
                .arg(requirements);
            outcome = self.run(&mut command, what);
        }
        outcome.map(drop)
    }

    fn uv(&self, uv: &Path) -> Command {
        let mut command = Command::new(uv);
        command
            .envs(&self.environment)
            .arg("--no-progress")
            .arg("--no-config");
        command
    }

    fn run(&self, command: &mut Command, what: &str) -> Result<String, Problem> {
        run(command, what, &self.log)
    }
}

/// A Python that has pip, in the demo's folder if there is none elsewhere.
fn pip(layout: &Layout, pythons: &[Python]) -> Result<Option<PathBuf>, Problem> {
    if let Some(python) = pythons.iter().find(|python| python.pip) {
        return Ok(Some(python.executable.clone()));
    }
    let Some(python) = pythons.iter().find(|python| python.venv) else {
        return Ok(None);
    };
    let tools = layout.tools();
    remove_folder(&tools)?;
    run(
        Command::new(&python.executable).args(["-m", "venv"]).arg(&tools),
        "making the installer's environment",
        &layout.log(),
    )?;
    Ok(Some(tools.join("bin/python")))
}

/// Installs uv beside everything else, if it can be had: pip does without.
fn install_uv(layout: &Layout, pip: &Path) -> Option<PathBuf> {
    let folder = layout.uv();
    let uv = folder.join("bin/uv");
    let mut command = Command::new(pip);
    command.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-user",
        "--upgrade",
    ]);
    command.arg("--target").arg(&folder).arg("uv>=0.8");
    (uv.is_file() || run(&mut command, "installing uv", &layout.log()).is_ok()).then_some(uv)
}
