//! The model server that does as it is told, as a program: `model-server PORT`. It is called after its pod, and when it is
//! told to end it answers what it was asked first, as good servers do: also what it is asked in the next second, because
//! its callers hear of its end no sooner than it does.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mesh_e2e::server::Server;
use tokio::signal::unix::{SignalKind, signal};

/// How long it goes on listening when it is told to end.
const LAST: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let port = std::env::args().nth(1).context("model-server takes a port")?;
    let port = port.parse().context("model-server takes a port")?;
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "model".into());
    let server = Server::start_at(&name, (std::net::Ipv4Addr::UNSPECIFIED, port).into()).await?;
    println!("{} listens at {}", server.name(), server.port());
    signal(SignalKind::terminate())?.recv().await;
    tokio::time::sleep(LAST).await;
    server.drain().await;
    Ok(())
}
