//! Calls of gRPC from a pod, one after the other, on a connection of their own, each with an empty message.
//!
//! `grpc-client http://HOST:PORT/SERVICE/METHOD` prints the status, headers and trailers of each answer.

use anyhow::{Context as _, Result};
use clap::Parser;
use http::{HeaderMap, Uri};
use mesh_e2e::client::Http2;

/// Calls a method, and prints what is answered
#[derive(Debug, Parser)]
struct Arguments {
    /// Whom to call, and what
    #[arg(value_name = "URL")]
    at: Uri,
    /// A header; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// How often
    #[arg(long, default_value_t = 1)]
    calls: usize,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { at, headers, calls } = Arguments::parse();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let host = at.host().context("the URL names no host")?;
    let mut found = tokio::net::lookup_host((host, at.port_u16().unwrap_or(80))).await?;
    let address = found.next().with_context(|| format!("{host} has no address"))?;
    let client = Http2::connect(address).await?;
    for _ in 0..calls {
        let answer = client.call(&at.to_string(), &headers, b"").await?;
        println!("status: {}", answer.status.as_u16());
        print(&answer.headers);
        print(&answer.trailers);
    }
    Ok(())
}

fn print(fields: &HeaderMap) {
    for (name, value) in fields {
        println!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
}
