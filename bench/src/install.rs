//! Peers as they are found on this machine, or fetched and unpacked without touching the system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// A program out of a Debian package.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// Packages with libraries that it needs besides.
    pub(crate) with: &'static [&'static str],
    /// Where the program is in it.
    pub(crate) program: &'static str,
}

/// A program that can be run.
pub(crate) struct Found {
    pub(crate) program: PathBuf,
    /// Where its libraries were unpacked, if the system does not have them.
    pub(crate) libraries: Option<PathBuf>,
}

impl Package {
    /// The system's own program, or the package's unpacked into `cache`.
    pub(crate) fn find_or_unpack(&self, cache: &Path) -> Result<Found> {
        let file = Path::new(self.program).file_name().unwrap_or_default();
        let system = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&system).chain([PathBuf::from("/usr/sbin")]);
        if let Some(program) = folders
            .map(|folder| folder.join(file))
            .find(|path| path.is_file())
        {
            return Ok(Found::of_system(program));
        }
        let unpacked = cache.join(self.name);
        let program = unpacked.join(self.program);
        if !program.is_file() {
            self.unpack(cache, &unpacked)?;
        }
        ensure!(program.is_file(), "the package has no {} in it", self.program);
        let libraries = unpacked
            .join("usr/lib")
            .join(format!("{}-linux-gnu", std::env::consts::ARCH));
        Ok(Found {
            program,
            libraries: (!self.with.is_empty()).then_some(libraries),
        })
    }

    fn unpack(&self, cache: &Path, into: &Path) -> Result<()> {
        eprintln!("unpacking Debian's {} into {}", self.name, into.display());
        let downloads = cache.join(format!("{}-download", self.name));
        fs::create_dir_all(&downloads).with_context(|| format!("cannot make {}", downloads.display()))?;
        run(
            Command::new("apt-get")
                .args(["download", "--quiet", self.name])
                .args(self.with)
                .current_dir(&downloads),
            "it needs Debian or a relative of it; on others install it by hand",
        )?;
        let files =
            fs::read_dir(&downloads).with_context(|| format!("cannot read {}", downloads.display()))?;
        for file in files.flatten().map(|entry| entry.path()) {
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(
                    Command::new("dpkg-deb").arg("-x").arg(&file).arg(into),
                    "Debian: apt install dpkg",
                )?;
            }
        }
        Ok(())
    }
}

impl Found {
    /// A program that has all it needs.
    pub(crate) fn of_system(program: PathBuf) -> Self {
        Self {
            program,
            libraries: None,
        }
    }

    /// The first line that it prints, on either stream, when asked for its version.
    pub(crate) fn version(&self, argument: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg(argument);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let output = command
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
        line.map(str::to_owned)
            .with_context(|| format!("{} {argument} says nothing", self.program.display()))
    }
}

/// Runs a command to its end. If it cannot run or fails, the error has the end of what it said, and `hint`.
pub(crate) fn run(command: &mut Command, hint: &str) -> Result<()> {
    let line = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let output = command
        .output()
        .with_context(|| format!("cannot run {line} ({hint})"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing");
    ensure!(output.status.success(), "{line} failed: {last} ({hint})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_command_and_the_way_out() {
        let cases = [
            (vec!["true"], None),
            (
                vec!["sh", "-c", "echo first >&2; echo last >&2; exit 3"],
                Some("last (a hint)"),
            ),
            (vec!["false"], Some("it said nothing (a hint)")),
            (
                vec!["no-such-command-here"],
                Some("cannot run no-such-command-here (a hint)"),
            ),
        ];
        for (words, expected) in cases {
            let result = run(Command::new(words[0]).args(&words[1..]), "a hint");
            match expected {
                None => result.expect("success"),
                Some(expected) => {
                    let error = format!("{:#}", result.expect_err("failure"));
                    assert!(error.contains(expected), "{error:?}");
                }
            }
        }
    }
}
