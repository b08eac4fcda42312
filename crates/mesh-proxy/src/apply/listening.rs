//! The addresses a proxy listens on, with a duplicate of each socket, so that they can be handed to a successor.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::listen::Takes;

/// Where a proxy listens. Cheap to clone, one for all; only the control side uses it.
#[derive(Clone, Debug, Default)]
pub struct Listening(Arc<Mutex<HashMap<SocketAddr, Listener>>>);

#[derive(Debug)]
struct Listener {
    takes: Takes,
    /// The workers have sockets of their own for the same queues: a socket closes when the last of them does.
    sockets: Vec<TcpListener>,
}

impl Listening {
    /// What is taken there; none: nobody listens there.
    pub(super) fn takes(&self, at: SocketAddr) -> Option<Takes> {
        self.lock().get(&at).map(|listener| listener.takes)
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().keys().copied().collect()
    }

    /// Remembers the sockets of an address. Whether there were others.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn add(&self, at: SocketAddr, takes: Takes, sockets: &[TcpListener]) -> io::Result<bool> {
        let sockets: io::Result<Vec<_>> = sockets.iter().map(TcpListener::try_clone).collect();
        let listener = Listener {
            takes,
            sockets: sockets?,
        };
        Ok(self.lock().insert(at, listener).is_some())
    }

    /// Forgets an address.
    pub(super) fn remove(&self, at: SocketAddr) {
        self.lock().remove(&at);
    }

    /// Lets go of all sockets: those that no worker and no successor has close.
    pub fn close(&self) {
        self.lock().clear();
    }

    /// The sockets, for a successor.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn duplicates(&self) -> io::Result<BTreeMap<SocketAddr, Vec<OwnedFd>>> {
        let all = self.lock();
        let duplicates = all.iter().map(|(address, listener)| {
            let sockets = listener.sockets.iter();
            let sockets: io::Result<Vec<_>> = sockets.map(|it| it.try_clone().map(OwnedFd::from)).collect();
            Ok((*address, sockets?))
        });
        duplicates.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
