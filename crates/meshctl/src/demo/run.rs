//! Running the commands that install things, and writing files whole.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Problem;

/// Runs a command to its end and returns what it printed to standard output. All that it prints is added to `log`.
pub(super) fn run(command: &mut Command, what: &str, log: &Path) -> Result<String, Problem> {
    let failed = |reason: String| Problem::Failed {
        what: what.to_owned(),
        reason,
        log: log.to_owned(),
    };
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("cannot run {}: {error}", command.get_program().display())))?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(Problem::file("write", log))?;
    let text = [
        format!("\n== {what}\n{command:?}\n").as_bytes(),
        &output.stdout,
        &output.stderr,
    ]
    .concat();
    file.write_all(&text).map_err(Problem::file("write", log))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        reason(&stderr).unwrap_or_else(|| format!("it ended with {}", output.status)),
    ))
}

/// The line that says why a command failed: the first that calls itself an error, else the last.
fn reason(stderr: &str) -> Option<String> {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let marks = ["error:", "E:", "ERROR:"];
    let line = lines()
        .find(|line| marks.iter().any(|mark| line.starts_with(mark)))
        .or_else(|| lines().next_back())?;
    let line = marks
        .iter()
        .find_map(|mark| line.strip_prefix(mark))
        .unwrap_or(line);
    Some(line.trim().trim_end_matches('.').to_owned())
}

/// Where a program is that PATH knows.
pub(super) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Writes a file whole, or not at all; its folder is made. A file that has these contents already is left alone.
pub(super) fn write(path: &Path, contents: &[u8]) -> Result<(), Problem> {
    if fs::read(path).is_ok_and(|there| there == contents) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, contents).map_err(Problem::file("write", &partial))?;
    fs::rename(&partial, path).map_err(Problem::file("write", path))
}

/// Makes a folder and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), Problem> {
    fs::create_dir_all(path).map_err(Problem::file("make", path))
}

/// Removes a folder and all that is in it, if it is there.
pub(super) fn remove_folder(path: &Path) -> Result<(), Problem> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Problem::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_line_that_calls_itself_an_error() {
        let cases = [
            ("", None),
            ("  \n", None),
            (
                "warning: x\nerror: No solution found\n  cause: y\n",
                Some("No solution found"),
            ),
            (
                "W: odd\nE: Unable to locate package llama.cpp-tools\nE: two",
                Some("Unable to locate package llama.cpp-tools"),
            ),
            (
                "ERROR: No matching distribution found for uv.\n",
                Some("No matching distribution found for uv"),
            ),
            (
                "Traceback\nModuleNotFoundError: No module named 'venv'\n",
                Some("ModuleNotFoundError: No module named 'venv'"),
            ),
        ];
        for (stderr, expected) in cases {
            assert_eq!(reason(stderr).as_deref(), expected, "{stderr:?}");
        }
    }

    #[test]
    fn a_failed_command_names_itself_its_reason_and_the_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("install.log");
        let script = "echo out; echo 'error: no such index' >&2; exit 3";
        let problem = run(
            Command::new("sh").args(["-c", script]),
            "installing the packages",
            &log,
        )
        .expect_err("it fails");
        let expected = format!(
            "installing the packages failed: no such index; the whole output is in {}",
            log.display()
        );
        assert_eq!(problem.to_string(), expected);
        let written = fs::read_to_string(&log).expect("a log");
        assert!(
            written.contains("out\n") && written.contains("== installing the packages"),
            "{written}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let problem = run(
            &mut Command::new("/no/such/program"),
            "asking",
            &folder.path().join("log"),
        )
        .expect_err("none");
        assert!(
            problem
                .to_string()
                .starts_with("asking failed: cannot run /no/such/program: "),
            "{problem}"
        );
    }
}
