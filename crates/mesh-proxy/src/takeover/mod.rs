//! One proxy takes over from another of the same state folder, without a moment in which nobody listens.
//!
//! A proxy that starts asks the one that runs, over a Unix socket in the state folder, for its listening sockets. Both
//! hold them then, so that no connection that waits to be taken is lost when one lets go. The old one saves its
//! configuration first, so that the new one begins with the same; it goes on serving until the new one says that it is
//! ready, and drains then. If the new one dies before, nothing has changed for the old one.
//!
//! Only the folder's owner reaches the socket, and each side checks that the other is the same user.

mod socket;
mod successor;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::state::StateDir;

pub use socket::TakeoverSocket;
pub use successor::{Running, hand_over};

use wire::{Connection, Message, PROTOCOL};

/// How long the other side may take for an answer that it does not have to wait for itself.
const ANSWER: Duration = Duration::from_secs(10);

/// Where a running proxy listens for its successor.
fn path(state: &StateDir) -> PathBuf {
    state.path("takeover.sock")
}

/// The proxy that runs already, and what it has handed out.
#[derive(Debug)]
pub struct Predecessor {
    connection: Connection,
    /// Its listeners for connections, by address.
    pub listeners: HashMap<SocketAddr, Vec<TcpListener>>,
    /// Its listener for admin requests.
    pub admin: Option<(SocketAddr, TcpListener)>,
}

impl Predecessor {
    /// Asks the proxy that runs with this state folder for its sockets; none: there is none. Blocks, for 10 seconds at
    /// most.
    ///
    /// # Errors
    /// When one runs and does not hand out its sockets.
    pub fn find(state: &StateDir) -> io::Result<Option<Self>> {
        let Some(connection) = Connection::open(&path(state), ANSWER)? else {
            return Ok(None);
        };
        connection.send(&Message::TakeOver { protocol: PROTOCOL }, &[])?;
        let mut found = Self {
            connection,
            listeners: HashMap::new(),
            admin: None,
        };
        loop {
            match found.connection.receive()? {
                (Message::Listener { address }, sockets) => {
                    let sockets = sockets.into_iter().map(TcpListener::from);
                    found.listeners.entry(address).or_default().extend(sockets);
                }
                (Message::Admin { address }, sockets) => {
                    found.admin = sockets.into_iter().next().map(|socket| (address, socket.into()));
                }
                (Message::All, _) => return Ok(Some(found)),
                (other @ (Message::TakeOver { .. } | Message::Ready), _) => {
                    return Err(io::Error::other(format!(
                        "it said {other:?} instead of what it has"
                    )));
                }
            }
        }
    }

    /// Takes its admin listener, if it listens there.
    pub fn take_admin(&mut self, at: SocketAddr) -> Option<TcpListener> {
        let (_, socket) = self.admin.take_if(|(address, _)| *address == at)?;
        Some(socket)
    }

    /// Says that this proxy serves, so that the other one may go.
    ///
    /// # Errors
    /// When the other one is gone already, which changes nothing.
    pub fn release(self) -> io::Result<()> {
        self.connection.send(&Message::Ready, &[])
    }
}

/// A socket for somebody else.
fn duplicate(socket: &TcpListener) -> io::Result<OwnedFd> {
    Ok(socket.try_clone()?.into())
}

#[cfg(test)]
mod tests;
