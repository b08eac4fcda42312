//! The command line of the mesh: runs a mesh on one machine, shows what goes where, and changes it.

mod acks;
mod chart;
mod cli;
mod client;
mod cmd;
pub mod demo;
mod documents;
mod error;
mod finding;
mod http_get;
mod kubernetes;
mod mesh_home;
mod output;
mod replicas;
mod rewrite;
mod traffic;
mod up;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

/// Reads the command line and does what it says.
///
/// The exit code is 0 when it is done, 1 when it failed, 2 when the command line makes no sense.
pub fn run() -> ExitCode {
    let cli = cli::Cli::parse();
    cli.globals.color.write_global();
    let printer = output::Printer;
    // One thread is enough, and what is told about a parent's death (see `up::process`) is told about its thread.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return error::Failure::new(format!("cannot start: {error}")).report(&printer);
        }
    };
    match runtime.block_on(cmd::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&printer),
    }
}
