//! The tests' own Kubernetes cluster, by hand.
//!
//! `cargo build --workspace --bins && target/debug/mesh-cluster up`

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use mesh_e2e::kubernetes::{self, Image, images};

/// The tests' own Kubernetes cluster, in namespaces of this machine
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings it up, or to so many nodes, and keeps it; prints the path of its kubeconfig
    Up {
        /// How many nodes, 1 to 3
        #[arg(long, default_value_t = 1)]
        nodes: u8,
    },
    /// Makes this build's images and gives them to its nodes; prints their names
    Load {
        /// What their names begin with, so that those of several builds can be there at once
        #[arg(long, value_name = "REGISTRY", default_value = images::REGISTRY)]
        registry: String,
    },
    /// Makes this build's images for another cluster, as archives that `docker load` reads; prints their paths
    Images {
        /// The registry, with a path if need be, that the cluster will pull them from
        #[arg(long, value_name = "REGISTRY")]
        registry: String,
    },
    /// Says whether it runs, or whether it could; fails when it could not
    Status,
    /// Takes it down, with everything it left behind
    Down {
        /// Not before the input ends, and not if somebody keeps it by then
        #[arg(long)]
        when_input_ends: bool,
    },
    /// Runs a node in the namespaces that this process is in
    #[command(hide = true)]
    Node {
        number: u8,
        /// By which the process is known
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Up { nodes } => {
            let kubeconfig = kubernetes::up(nodes, true, &mut |step| eprintln!("{step}"))?;
            println!("{}", kubeconfig.display());
        }
        Command::Load { registry } => {
            for image in Image::ALL {
                let archive = images::build(image, &registry)?;
                kubernetes::load(&archive)?;
                println!("{}", archive.name());
            }
        }
        Command::Images { registry } => {
            for image in Image::ALL {
                println!("{}", images::build(image, &registry)?.path().display());
            }
        }
        Command::Status => println!("{}", kubernetes::status()?),
        Command::Down {
            when_input_ends: true,
        } => kubernetes::down_after(std::io::stdin())?,
        Command::Down {
            when_input_ends: false,
        } => kubernetes::down()?,
        Command::Node { number, folder } => {
            ensure!(folder.is_dir(), "{} is no folder", folder.display());
            kubernetes::run_node(number)?;
        }
    }
    Ok(())
}
