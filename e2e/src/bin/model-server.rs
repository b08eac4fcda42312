//! The model server that does as it is told, as a program: `model-server PORT`. It is called after its pod.

use anyhow::{Context as _, Result};
use mesh_e2e::server::Server;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let port = std::env::args().nth(1).context("model-server takes a port")?;
    let port = port.parse().context("model-server takes a port")?;
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "model".into());
    let server = Server::start_at(&name, (std::net::Ipv4Addr::UNSPECIFIED, port).into()).await?;
    println!("{} listens at {}", server.name(), server.port());
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}
