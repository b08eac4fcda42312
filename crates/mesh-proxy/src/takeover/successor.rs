//! The side of the proxy that runs: it hands out its sockets, and goes when its successor is ready.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use mesh_api::snapshot::Snapshot;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::wire::{Connection, MAX_SOCKETS, Message, PROTOCOL};
use super::{TakeoverSocket, duplicate};
use crate::apply::Listening;
use crate::persist;
use crate::state::StateDir;

/// What a running proxy hands out.
#[derive(Clone)]
pub struct Running {
    /// Where it listens.
    pub listening: Listening,
    /// Where it answers admin requests.
    pub admin: Arc<(SocketAddr, TcpListener)>,
    /// What it serves now; saved before anything is handed out.
    pub latest: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Where it is saved.
    pub state: StateDir,
}

/// Waits until another proxy has taken over: it has the sockets, and serves.
pub async fn hand_over(socket: TakeoverSocket, running: Running) {
    // One that never gets ready must not stand in the way of the next one.
    let (ready, mut taken) = mpsc::channel::<()>(1);
    loop {
        tokio::select! {
            connection = socket.accept() => {
                let (running, ready) = (running.clone(), ready.clone());
                tokio::spawn(async move {
                    match serve(connection, running).await {
                        Ok(()) => drop(ready.send(()).await),
                        Err(error) => tracing::warn!("takeover: the other proxy did not take over: {error}"),
                    }
                });
            }
            _ = taken.recv() => return,
        }
    }
}

/// Serves one successor, until it is ready.
async fn serve(connection: Connection, running: Running) -> io::Result<()> {
    // SAFETY: a Connection holds one OwnedFd, which stays open until it is dropped.
    let connection = unsafe { AsyncFd::register_with_interest(connection, Interest::READABLE)? };
    match receive(&connection).await? {
        Message::TakeOver { protocol: PROTOCOL } => {}
        other => return Err(io::Error::other(format!("{other:?} is not understood"))),
    }
    tracing::info!("takeover: another proxy of this state folder asks for the listeners");
    let handing = tokio::task::spawn_blocking(move || {
        running.hand_out(connection.get_ref())?;
        Ok::<_, io::Error>(connection)
    });
    let connection = handing.await.map_err(io::Error::other)??;
    match receive(&connection).await? {
        Message::Ready => Ok(()),
        other => Err(io::Error::other(format!("{other:?} instead of being ready"))),
    }
}

async fn receive(connection: &AsyncFd<Connection>) -> io::Result<Message> {
    connection
        .async_io(Interest::READABLE, Connection::try_receive)
        .await
}

impl Running {
    fn hand_out(&self, to: &Connection) -> io::Result<()> {
        let latest = self.latest.borrow().clone();
        if let Some(latest) = latest {
            persist::save(&self.state, &latest).map_err(io::Error::other)?;
        }
        for (address, sockets) in self.listening.duplicates()? {
            for sockets in sockets.chunks(MAX_SOCKETS) {
                let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
                to.send(&Message::Listener { address }, &sockets)?;
            }
        }
        let (address, admin) = &*self.admin;
        let admin: OwnedFd = duplicate(admin)?;
        to.send(&Message::Admin { address: *address }, &[admin.as_fd()])?;
        to.send(&Message::All, &[])
    }
}
