//! `kubectl`, as a program.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::programs::Program;

/// The environment variable that names another cluster than the tests' own.
pub const KUBECONFIG_VARIABLE: &str = "KUBECONFIG";

/// `kubectl` for one cluster, and for one of its namespaces where that is said.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: Option<String>,
}

impl Kubectl {
    /// That of the cluster that this kubeconfig is for.
    ///
    /// # Errors
    /// When there is no `kubectl`.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        Ok(Self {
            program: Program::KUBECTL.path()?,
            kubeconfig: kubeconfig.to_owned(),
            namespace: None,
        })
    }

    /// The same in this namespace.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The kubeconfig that it shows.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A command, to be given its arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env(KUBECONFIG_VARIABLE, &self.kubeconfig)
            .stdin(Stdio::null());
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command
    }

    /// Runs it to its end, and returns what it prints.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn run<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String> {
        said(arguments, self.command().args(words(arguments)).output()?)
    }

    /// Runs it to its end with this input, and returns what it prints.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn run_with<S: AsRef<str>>(&self, arguments: &[S], input: &str) -> Result<String> {
        let mut command = self.command();
        let command = command.args(words(arguments)).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("its input")?;
        // It reads all of its input before it prints.
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        said(arguments, child.wait_with_output()?)
    }

    /// An object, or a list of them.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let mut arguments = vec!["get", "--output", "json"];
        arguments.extend(what);
        Ok(serde_json::from_str(&self.run(&arguments)?)?)
    }

    /// Applies documents.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, documents: &str) -> Result<String> {
        self.run_with(&["apply", "--filename", "-"], documents)
    }
}

fn words<S: AsRef<str>>(arguments: &[S]) -> impl Iterator<Item = &str> {
    arguments.iter().map(AsRef::as_ref)
}

fn said<S: AsRef<str>>(arguments: &[S], output: Output) -> Result<String> {
    if !output.status.success() {
        let line = words(arguments).collect::<Vec<_>>().join(" ");
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("kubectl {line}: {}", error.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
