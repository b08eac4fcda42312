//! `meshctl completions`: a script that completes commands in a shell.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Context;
use crate::cli::Cli;
use crate::error::Outcome;

/// Prints the script.
pub(crate) fn run(context: &Context, shell: Shell) -> Outcome {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "meshctl", &mut script);
    context.printer.data(&String::from_utf8_lossy(&script))
}
