//! Very many connections and streams at once through two sidecars: none may fail, and what each costs is printed.
//!
//! `cargo build --workspace --bins && cargo run -p mesh-e2e --bin crowd -- --idle 20000 --streams 2000`

use anyhow::Result;
use clap::Parser;
use mesh_e2e::crowd::gather;

/// Opens very many connections and streams through two sidecars.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many connections lie idle, each after one request
    #[arg(long, default_value_t = 20_000)]
    idle: usize,
    /// How many gRPC streams are open
    #[arg(long, default_value_t = 2_000)]
    streams: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("{}", gather(arguments.idle, arguments.streams).await?);
    Ok(())
}
