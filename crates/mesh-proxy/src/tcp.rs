//! Bytes that are not HTTP: passed on as they are, both ways, until both sides are done.

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

use crate::balance;
use crate::body::InFlight;
use crate::connect::connect;
use crate::error::Failure;
use crate::io::Io;
use crate::listen::Entry;
use crate::observe::Direction;
use crate::table::EndpointSet;
use crate::tls::Alpn;
use crate::worker::{self, Worker};

/// How many endpoints are tried: no server has seen a byte of a connection that was not made.
const ATTEMPTS: usize = 3;

/// Connects a client to an endpoint of the service it called, or to the workload.
pub async fn serve(worker: &Worker, client: Io, entry: &Entry, direction: Direction) {
    let set = {
        let table = worker.shared.table.load();
        let Some(table) = table.as_deref() else { return };
        match direction {
            Direction::Outbound => {
                let port = table.outbound.get(&entry.listener).and_then(Option::as_ref);
                port.map(|port| std::sync::Arc::clone(&port.own))
            }
            Direction::Inbound => match crate::authorize::authorize(table, entry.peer.as_deref()) {
                Ok(_permit) => table
                    .inbound
                    .get(&entry.listener)
                    .map(|inbound| std::sync::Arc::clone(&inbound.local)),
                Err(denied) => return tracing::debug!(%denied, "a connection was denied"),
            },
        }
    };
    if let Some(set) = set {
        join(worker, client, &set).await;
    }
}

/// Connects a client to one of the endpoints.
pub async fn join(worker: &Worker, mut client: impl AsyncRead + AsyncWrite + Unpin, set: &EndpointSet) {
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS {
        let picked = balance::pick(
            &set.endpoints,
            set.balancer(),
            &tried,
            worker::now(),
            worker.turn(),
            || worker.random(),
        );
        let Some(endpoint) = picked else { return };
        let in_flight = InFlight::begin(endpoint);
        let connected = connect(worker, endpoint, Alpn::Opaque, set.policy().connect_timeout).await;
        let failure: Failure = match connected {
            Ok(mut server) => {
                // A side that breaks off ends the other; there is nobody else to tell.
                let _ = copy_bidirectional(&mut client, &mut server).await;
                return;
            }
            Err(failure) => failure,
        };
        drop(in_flight);
        tracing::debug!(service = %set.service, %failure, "an endpoint could not be connected to");
        endpoint.load.failed(worker::now());
        tried.push(endpoint.id);
    }
}
