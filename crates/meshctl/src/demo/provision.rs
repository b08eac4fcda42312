//! Installs what the demo needs into its folder: once, in parallel, and on where an interrupted run stopped.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::chat::{ChatServer, Choice};
use super::installer::Installer;
use super::layout::Layout;
use super::python::{self, Python};
use super::run::{make_folder, remove_folder, run, write};
use super::{Problem, assets, llama, stamp};

/// Changed when what is installed changes in a way that the requirements do not show.
const EDITION: &str = "1";

/// A part of what is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Choosing or fetching a Python.
    Python,
    /// Triton, MLServer and the clients.
    Packages,
    /// The packages that the caller asked for beside these.
    Extra,
    /// llama-server or LitServe.
    Chat,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Python => "Python",
            Self::Packages => "Triton, MLServer, clients",
            Self::Extra => "more packages",
            Self::Chat => "OpenAI server",
        })
    }
}

/// How far a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Work on it goes on: what is done now.
    Working(String),
    /// It was installed before.
    Kept,
    /// It is installed: what, and how long it took.
    Done(String, Duration),
}

/// A line of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Of what.
    pub part: Part,
    /// How far it is.
    pub state: State,
}

/// What is told of progress, on the caller's thread.
pub type Report<'a> = &'a mut dyn FnMut(Step);

/// An installed demo: what [`servers`](super::servers) are made from.
#[derive(Debug, Clone)]
pub struct Kit {
    pub(super) layout: Layout,
    pub(super) environment: Environment,
    /// The OpenAI-compatible server of this machine.
    pub chat: ChatServer,
}

impl Kit {
    /// The Python that has the clients: `python client.py` needs nothing else.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.layout.bin("python")
    }

    /// The folder that all of it is in.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.layout.home
    }
}

/// The Python environment that servers and clients run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Environment {
    pub(super) python: Python,
    /// Where its packages are.
    pub(super) site_packages: PathBuf,
}

/// Installs what is not installed yet into `home`, telling `report` of each step, and says what is there. `extra` is a
/// requirements file of pinned packages to install as well, without their dependencies, or empty.
///
/// Blocks for about 15 seconds on an empty folder and a fast network, and some milliseconds on a complete one. Several
/// processes may call it for the same folder: one installs, the others wait.
///
/// # Errors
/// A [`Problem`], in one line: what is missing, and what to do about it.
pub fn provision(home: &Path, extra: &str, report: Report<'_>) -> Result<Kit, Problem> {
    let layout = Layout {
        home: std::path::absolute(home).map_err(Problem::file("find", home))?,
    };
    make_folder(&layout.home)?;
    let lock = File::create(layout.lock()).map_err(Problem::file("make", &layout.lock()))?;
    if lock.try_lock().is_err() {
        report(Step {
            part: Part::Python,
            state: State::Working("waiting for another installation".into()),
        });
        lock.lock().map_err(Problem::file("lock", &layout.lock()))?;
    }

    assets::lay_out(&layout.files())?;
    let (steps, told) = mpsc::channel();
    thread::scope(|scope| {
        let provisioner = Provisioner {
            layout: &layout,
            steps,
        };
        let work = scope.spawn(move || provisioner.provision(extra));
        told.iter().for_each(report);
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One run, with where to report to.
#[derive(Clone)]
struct Provisioner<'a> {
    layout: &'a Layout,
    steps: mpsc::Sender<Step>,
}

impl Provisioner<'_> {
    fn provision(&self, extra: &str) -> Result<Kit, Problem> {
        let (environment, chat) = thread::scope(|scope| {
            let chat = scope.spawn(|| self.chat());
            let environment = self.environment();
            (
                environment,
                chat.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        let (environment, chat) = (environment?, chat?);
        if let Choice::LitServe(_) = chat.0 {
            self.add(Part::Chat, assets::LITSERVE_REQUIREMENTS)?;
        }
        self.add(Part::Extra, extra)?;
        Ok(Kit {
            layout: self.layout.clone(),
            environment,
            chat,
        })
    }

    fn tell(&self, part: Part, state: State) {
        // Whoever asked for the run waits for its end, so somebody listens.
        drop(self.steps.send(Step { part, state }));
    }

    fn working(&self, part: Part, on: &str) -> Instant {
        self.tell(part, State::Working(on.to_owned()));
        Instant::now()
    }

    /// The Python environment, with the packages of servers and clients.
    fn environment(&self) -> Result<Environment, Problem> {
        let stamped = self.layout.stamp("packages");
        let key = stamp::key([EDITION, assets::REQUIREMENTS, assets::MAKE_MODEL]);
        if let Some(environment) = stamp::read(&stamped, &key).filter(|_| self.layout.bin("python").exists())
        {
            self.tell(Part::Packages, State::Kept);
            return Ok(environment);
        }
        stamp::clear(&stamped)?;
        let environment = self.packages()?;
        stamp::finish(&stamped, &key, &environment)?;
        Ok(environment)
    }

    fn packages(&self) -> Result<Environment, Problem> {
        let started = self.working(Part::Python, "looking for a fit Python and an installer");
        let pythons = python::candidates(&self.layout.log())?;
        let installer = Installer::find(self.layout, &pythons)?;
        let python = self.fit_python(&installer, &pythons)?;
        let (major, minor) = python.version;
        let chosen = format!("{} ({major}.{minor})", python.executable.display());
        self.tell(Part::Python, State::Done(chosen, started.elapsed()));

        let started = self.working(Part::Packages, "installing");
        let venv = self.layout.venv();
        installer.make_venv(&python, &venv)?;
        self.install(
            &installer,
            "requirements.txt",
            assets::REQUIREMENTS,
            "installing Triton, MLServer and the clients",
        )?;
        let site_packages = venv.join(format!("lib/python{major}.{minor}/site-packages"));
        let environment = Environment {
            python,
            site_packages,
        };
        self.triton_backend(&environment)?;
        let make = [self.layout.files().join("make_gguf.py"), self.layout.chat_model()];
        run(
            Command::new(self.layout.bin("python")).args(make),
            "making the language model",
            &self.layout.log(),
        )?;
        self.tell(Part::Packages, State::Done("installed".into(), started.elapsed()));
        Ok(environment)
    }

    fn fit_python(&self, installer: &Installer, pythons: &[Python]) -> Result<Python, Problem> {
        if let Some(fit) = pythons.iter().find(|python| python.lack().is_none()) {
            return Ok(fit.clone());
        }
        self.working(Part::Python, "fetching one");
        installer.fetch_python().map_err(|problem| Problem::UnfitPython {
            found: pythons.iter().filter_map(Python::lack).collect(),
            fetching: match problem {
                Problem::Failed { reason, .. } => reason,
                other => other.to_string(),
            },
        })
    }

    fn install(
        &self,
        installer: &Installer,
        name: &str,
        requirements: &str,
        what: &str,
    ) -> Result<(), Problem> {
        let file = self.layout.files().join(name);
        write(&file, requirements.as_bytes())?;
        installer.install(&file, &self.layout.venv(), what)
    }

    /// Triton's Python backend wants its stub for this Python beside it; the package has the stubs for all elsewhere.
    fn triton_backend(&self, environment: &Environment) -> Result<(), Problem> {
        let server = environment.site_packages.join("pytriton/tritonserver");
        let (major, minor) = environment.python.version;
        let stub = server.join(format!("python_backend_stubs/{major}.{minor}"));
        let to = self.layout.triton_backends().join("python");
        remove_folder(&self.layout.triton_backends())?;
        make_folder(&to)?;
        for (from, name) in [
            (server.join("backends/python"), "libtriton_python.so"),
            (server.join("backends/python"), "triton_python_backend_utils.py"),
            (stub, "triton_python_backend_stub"),
        ] {
            // Copying keeps the stub executable.
            let file = from.join(name);
            fs::copy(&file, to.join(name)).map_err(Problem::file("copy", &file))?;
        }
        Ok(())
    }

    /// Adds pinned packages to the environment, unless they were added to it before.
    fn add(&self, part: Part, requirements: &str) -> Result<(), Problem> {
        // The mark is inside the environment: it goes away when the environment is made anew.
        let mark = self
            .layout
            .venv()
            .join(format!("added-{}", stamp::key([requirements])));
        if requirements.is_empty() || mark.exists() {
            return Ok(());
        }
        let started = self.working(part, "adding packages");
        let installer = Installer::find(self.layout, &python::candidates(&self.layout.log())?)?;
        self.install(&installer, "added.txt", requirements, "adding packages")?;
        write(&mark, b"")?;
        self.tell(part, State::Done("added".into(), started.elapsed()));
        Ok(())
    }

    /// The OpenAI-compatible server that was chosen before, or llama-server, or LitServe because that cannot be had.
    fn chat(&self) -> Result<ChatServer, Problem> {
        let stamped = self.layout.stamp("chat");
        let key = stamp::key([EDITION, llama::RELEASE, llama::PACKAGE]);
        if let Some(chat) = stamp::read(&stamped, &key) {
            self.tell(Part::Chat, State::Kept);
            return Ok(chat);
        }
        stamp::clear(&stamped)?;
        let started = self.working(Part::Chat, "installing llama-server from Debian's packages");
        let chat = ChatServer(llama::install(self.layout).map_or_else(Choice::LitServe, Choice::Llama));
        stamp::finish(&stamped, &key, &chat)?;
        self.tell(Part::Chat, State::Done(chat.to_string(), started.elapsed()));
        Ok(chat)
    }
}
