//! A new connection to an endpoint: TCP, and TLS in which the endpoint proves to be who it must be.

use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use crate::error::{Failure, Reason};
use crate::io::Io;
use crate::limits::is_exhausted;
use crate::observe::Direction;
use crate::table::Endpoint;
use crate::tls::{self, Alpn, TlsStream};
use crate::worker::Worker;

/// Connects within the time given.
///
/// # Errors
/// When the endpoint can't be reached, is not who it must be, or this proxy has no certificate to show. In none of
/// these cases has a server seen a request.
pub async fn connect(
    worker: &Worker,
    endpoint: &Endpoint,
    alpn: Alpn,
    within: Duration,
) -> Result<Io, Failure> {
    match tokio::time::timeout(within, connect_and_prove(worker, endpoint, alpn)).await {
        Ok(result) => result,
        Err(_) => {
            let detail = format!("connecting to {} took longer than {within:?}", endpoint.address);
            Err(Failure::new(Reason::ConnectFailed, detail))
        }
    }
}

async fn connect_and_prove(worker: &Worker, endpoint: &Endpoint, alpn: Alpn) -> Result<Io, Failure> {
    let address = endpoint.address;
    // Who it must be is asked before anything is sent: without credentials there is no connection at all.
    let tls = match &endpoint.identity {
        None => None,
        Some(expected) => {
            let credentials = worker.shared.credentials.load_full().ok_or_else(|| {
                Failure::new(
                    Reason::NoCredentials,
                    "this proxy has no certificate yet: is the control plane reachable?",
                )
            })?;
            Some((credentials.client_config(expected, alpn), expected))
        }
    };
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let reason = if is_exhausted(&error) {
            Reason::Exhausted
        } else {
            Reason::ConnectFailed
        };
        Failure::new(reason, format!("connecting to {address}: {error}"))
    })?;
    // Requests are small and answers are waited for. A socket that can't is a socket that closes: reads will tell.
    let _ = stream.set_nodelay(true);
    let Some((config, expected)) = tls else {
        return Ok(Io::Plain(stream));
    };
    let name = ServerName::IpAddress(address.ip().into());
    // In a box: what a handshake needs would make the future of each request larger, which is moved about.
    let stream = Box::pin(TlsStream::connect(stream, config, name)).await;
    let result = tls::result(stream.as_ref().map(|_| ()));
    worker.observe.shared().handshake(Direction::Outbound, result);
    let stream = stream.map_err(|error| {
        let detail = format!("the endpoint {address} did not prove to be {expected}: {error}");
        Failure::new(
            if is_tls(&error) {
                Reason::PeerRefused
            } else {
                Reason::ConnectFailed
            },
            detail,
        )
    })?;
    Ok(Io::Tls(Box::new(stream)))
}

fn is_tls(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}
