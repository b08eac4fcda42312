//! The socket at which a running proxy waits for its successor.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{SocketAddrUnix, SocketFlags, accept_with, bind, listen};
use tokio::io::unix::AsyncFd;

use super::wire::{Connection, short, unix_socket};
use super::{ANSWER, path};
use crate::state::StateDir;

/// How long taking connections pauses when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket in the state folder. Its file stays behind: nobody answers there any more, or a successor does.
#[derive(Debug)]
pub struct TakeoverSocket(AsyncFd<OwnedFd>);

impl TakeoverSocket {
    /// Listens in place of whoever listened in this folder before.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn bind(state: &StateDir) -> io::Result<Self> {
        let (path, beside) = (path(state), state.path(".takeover.new"));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = unix_socket(SocketFlags::NONBLOCK)?;
        let (_folder, short) = short(&beside)?;
        bind(&socket, &SocketAddrUnix::new(&short)?)?;
        listen(&socket, 4)?;
        // At no moment is there a file at which nobody listens.
        fs::rename(&beside, &path)?;
        // SAFETY: an OwnedFd stays open, and the same one, until it is dropped.
        Ok(Self(unsafe { AsyncFd::register(socket)? }))
    }

    /// The next proxy that wants to take over.
    pub(super) async fn accept(&self) -> Connection {
        loop {
            match self.try_accept().await {
                Ok(connection) => return connection,
                Err(error) => {
                    tracing::warn!("takeover: a proxy could not be listened to: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Connection> {
        loop {
            let mut ready = self.0.readable().await?;
            let accepted = ready.try_io(|socket| Ok(accept_with(socket.get_ref(), SocketFlags::CLOEXEC)?));
            if let Ok(accepted) = accepted {
                return Connection::of(accepted?, ANSWER);
            }
        }
    }
}
