//! Commands that fetch or unpack a peer.

use std::process::Command;

use anyhow::{Context, Result, ensure};

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
