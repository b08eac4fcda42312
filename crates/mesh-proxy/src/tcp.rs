//! Bytes that are not HTTP: passed on as they are, both ways, until both sides are done.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;

use crate::balance;
use crate::body::InFlight;
use crate::connect::connect;
use crate::error::{Failure, Reason};
use crate::io::{Io, Prefixed};
use crate::observe::Record;
use crate::table::EndpointSet;
use crate::tls::Alpn;
use crate::worker::{self, Worker};

/// How many endpoints are tried: no server has seen a byte of a connection that was not made.
const ATTEMPTS: usize = 3;
/// How long connecting may take to an address that is none of the mesh's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of the first thing said that are read to see who says it.
const FIRST_WORD: usize = 4 << 10;

/// Connects a client to one of a set's endpoints. `silent` is where it was going, if it has said nothing yet: should the
/// server speak first, that is remembered of it.
///
/// # Errors
/// With the client, when no endpoint could be connected to.
pub async fn to_endpoint<C>(
    worker: &Worker,
    client: C,
    set: &Arc<EndpointSet>,
    mut record: Record,
    silent: Option<SocketAddr>,
) -> Result<(), C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    record.opaque();
    let mut tried = Vec::new();
    let mut last = None;
    while tried.len() < ATTEMPTS {
        let picked = balance::pick(
            &set.endpoints,
            set.balancer(),
            &tried,
            worker::now(),
            worker.turn(),
            || worker.random(),
        );
        let Some(endpoint) = picked else { break };
        if !tried.is_empty() {
            record.retried();
        }
        record.endpoint(endpoint.address);
        if let Some(identity) = &endpoint.identity {
            record.peer(identity);
        }
        let _in_flight = InFlight::begin(endpoint);
        match connect(worker, endpoint, Alpn::Opaque, set.policy().connect_timeout).await {
            Ok(server) => {
                relay(worker, client, server, record, silent).await;
                return Ok(());
            }
            Err(failure) => {
                tracing::debug!(service = %set.service, %failure, "an endpoint could not be connected to");
                endpoint.load.failed(worker::now());
                tried.push(endpoint.id);
                last = Some(failure);
            }
        }
    }
    let failure = last.unwrap_or_else(|| Failure::new(Reason::NoEndpoints, "the service has no endpoints"));
    record.fail(failure.reason.as_str(), Some(Arc::clone(&set.label)));
    Err(client)
}

/// Connects a client to an address that is none of the mesh's.
pub async fn to_address<C>(worker: &Worker, client: C, address: SocketAddr, mut record: Record, silent: bool)
where
    C: AsyncRead + AsyncWrite + Unpin + AsFd,
{
    record.opaque();
    record.endpoint(address);
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(server)) => {
            // A socket that can't is a socket that closes: reads will tell.
            let _ = server.set_nodelay(true);
            let silent = silent.then_some(address);
            relay(worker, client, Io::Plain(server), record, silent).await;
        }
        Ok(Err(_)) | Err(_) => {
            record.fail(Reason::ConnectFailed.as_str(), None);
            reset(&client);
        }
    }
}

/// Passes bytes both ways until both sides are done. A side that breaks off ends the other; there is nobody else to tell.
async fn relay<C>(
    worker: &Worker,
    mut client: C,
    mut server: Io,
    mut record: Record,
    silent: Option<SocketAddr>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (mut asked, mut said) = (Bytes::new(), Bytes::new());
    if let Some(destination) = silent {
        (asked, said) = first_word(&mut client, &mut server).await;
        if !said.is_empty() {
            worker.server_first.learn(destination);
        }
    }
    let mut client = Prefixed::new(asked, client);
    let mut server = Prefixed::new(said, server);
    if let Ok((up, down)) = copy_bidirectional(&mut client, &mut server).await {
        record.request_bytes(up);
        record.response_bytes(down);
    }
}

/// What the client or the server says first, whichever it is.
async fn first_word(client: &mut (impl AsyncRead + Unpin), server: &mut Io) -> (Bytes, Bytes) {
    let (mut asked, mut said) = (vec![0; FIRST_WORD], vec![0; FIRST_WORD]);
    let (asks, says) = tokio::select! {
        read = client.read(&mut asked) => (read.unwrap_or(0), 0),
        read = server.read(&mut said) => (0, read.unwrap_or(0)),
    };
    asked.truncate(asks);
    said.truncate(says);
    (asked.into(), said.into())
}

/// Makes a connection end as if nobody had been there to take it.
pub fn reset(connection: &impl AsFd) {
    // A socket that can't closes in order, which tells less and does no harm.
    let _ = SockRef::from(connection).set_linger(Some(Duration::ZERO));
}
