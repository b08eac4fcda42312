//! What two proxies say to each other when one takes over: messages of a few words, some with sockets.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with,
};
use serde::{Deserialize, Serialize};

/// Raised when the messages change their meaning.
pub(super) const PROTOCOL: u32 = 1;
/// The most sockets of one message; the kernel takes 253.
pub(super) const MAX_SOCKETS: usize = 128;
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 1024;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// To the proxy that runs: hand out your sockets.
    TakeOver {
        /// Which words the new one knows.
        protocol: u32,
    },
    /// Sockets that listen for connections.
    Listener {
        /// Where.
        address: SocketAddr,
    },
    /// The socket that listens for admin requests.
    Admin {
        /// Where.
        address: SocketAddr,
    },
    /// These were all.
    All,
    /// To the proxy that runs: you may go.
    Ready,
}

/// A connection between two proxies of the same user. Each message arrives as a whole, with its sockets.
#[derive(Debug)]
pub(super) struct Connection(OwnedFd);

/// A socket file, by a path that is short enough for a socket's address (107 bytes) however deep its folder lies: for
/// as long as the file that is returned is open.
pub(super) fn short(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    let short = format!("/proc/self/fd/{}", folder.as_raw_fd());
    Ok((folder, Path::new(&short).join(name)))
}

/// A socket for such connections.
pub(super) fn unix_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

impl Connection {
    /// Connects to the proxy that listens there; none: nobody does.
    pub(super) fn open(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let socket = unix_socket(SocketFlags::empty())?;
        let (_folder, path) = short(path)?;
        match connect(&socket, &SocketAddrUnix::new(&path)?) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Self::of(socket, patience).map(Some)
    }

    /// Of a connected socket, whose other side must be the same user. A call that waits does so for `patience`.
    pub(super) fn of(socket: OwnedFd, patience: Duration) -> io::Result<Self> {
        let other = sockopt::socket_peercred(&socket)?.uid;
        if other != rustix::process::geteuid() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the other side is user {}", other.as_raw()),
            ));
        }
        for waiting in [Timeout::Send, Timeout::Recv] {
            sockopt::set_socket_timeout(&socket, waiting, Some(patience))?;
        }
        Ok(Self(socket))
    }

    /// Sends a message with at most [`MAX_SOCKETS`] sockets.
    pub(super) fn send(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        // A peer that is gone is an error, not a signal.
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives a message and its sockets; waits for as long as the connection's patience lasts.
    pub(super) fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        self.receive_with(RecvFlags::empty())
    }

    /// Receives a message, if it is there already.
    pub(super) fn try_receive(&self) -> io::Result<Message> {
        Ok(self.receive_with(RecvFlags::DONTWAIT)?.0)
    }

    fn receive_with(&self, flags: RecvFlags) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut text = [0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        match text.get(..received.bytes) {
            None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(text) => Ok((serde_json::from_slice(text)?, sockets)),
        }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
