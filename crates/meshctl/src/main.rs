//! `meshctl`: the command line of the mesh.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshctl::run()
}
