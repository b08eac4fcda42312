//! A new configuration takes effect: listeners are bound, the Table is built, and one store makes it what requests see.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use mesh_api::snapshot::Snapshot;
use socket2::{Domain, Protocol, Socket, Type};

use crate::listen::{Listener, Takes};
use crate::observe::Direction;
use crate::shared::Shared;
use crate::table::{self, Retired};
use crate::worker::{Command, Workers};

mod listening;

pub use listening::Listening;

/// How many connections may wait to be taken.
const BACKLOG: i32 = 4096;

/// Why a configuration can't take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kind and name, such as `Workload ml/triton`.
    pub object: String,
    /// Such as `ports[0].listen`.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

/// Puts configurations into effect, one after the other.
pub struct Applier {
    shared: Arc<Shared>,
    workers: Workers,
    listening: Listening,
    /// Sockets of the proxy that this one takes over from.
    inherited: HashMap<SocketAddr, Vec<TcpListener>>,
    retired: Retired,
}

impl Applier {
    /// Of a proxy that listens nowhere yet, with the sockets of the one before it. Within a runtime, whose thread
    /// clears away what has gone out of use.
    pub fn new(
        shared: Arc<Shared>,
        workers: Workers,
        inherited: HashMap<SocketAddr, Vec<TcpListener>>,
    ) -> Self {
        Self {
            shared,
            workers,
            listening: Listening::default(),
            inherited,
            retired: Retired::start(),
        }
    }

    /// Puts a Snapshot into effect, as a whole or not at all. Requests in flight go on as they began.
    ///
    /// # Errors
    /// When a listener can't be bound; the proxy goes on as before.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<(), Vec<Refusal>> {
        if self.shared.drain.is_started() {
            // Nobody listens any more, or a successor does: what is left needs the Table alone.
            self.serve(snapshot);
            return Ok(());
        }
        let wanted = wanted(&snapshot);
        let mut bound = Vec::new();
        let mut refusals = Vec::new();
        for (address, (takes, field)) in &wanted {
            if self.listening.takes(*address) == Some(*takes) {
                continue;
            }
            match self.sockets(*address) {
                Ok(sockets) => bound.push((*address, *takes, sockets)),
                Err(error) if takes.intercepted && address.is_ipv6() && has_no_ipv6(&error) => {
                    // There is nothing to intercept then.
                    tracing::debug!(%address, "this machine has no IPv6: none is intercepted");
                }
                Err(error) => refusals.push(Refusal {
                    object: format!("Workload {}", snapshot.workload.name),
                    field: field.clone(),
                    reason: format!("can't listen on {address}: {error}"),
                }),
            }
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        self.serve(snapshot);
        for address in self.listening.addresses() {
            if !wanted.contains_key(&address) {
                self.listening.remove(address);
                self.workers.tell(|_| vec![Command::Close(address)]);
            }
        }
        for (address, takes, sockets) in bound {
            if self.listening.takes(address).is_some() {
                self.workers.tell(|_| vec![Command::Close(address)]);
            }
            self.listen(address, takes, sockets);
        }
        // What the proxy before listened on besides.
        self.inherited.clear();
        Ok(())
    }

    /// From now on, requests see the Table of this.
    fn serve(&self, snapshot: Arc<Snapshot>) {
        let before = self.shared.table.load();
        let table = table::build(snapshot, before.as_deref());
        drop(before);
        self.retired.take(self.shared.table.swap(Some(Arc::new(table))));
    }

    /// Where the proxy listens.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Sockets for an address, at least one for each worker: those of the proxy before, where it listened there too.
    fn sockets(&mut self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let count = self.workers.count();
        match self.inherited.remove(&address) {
            None => bind(address, count),
            Some(mut sockets) => {
                while sockets.len() < count {
                    sockets.push(socket(address, true)?);
                }
                Ok(sockets)
            }
        }
    }

    /// Gives each worker its sockets.
    fn listen(&self, address: SocketAddr, takes: Takes, sockets: Vec<TcpListener>) {
        if let Err(error) = self.listening.add(address, takes, &sockets) {
            // It serves all the same; only a successor would not get this one.
            tracing::warn!(%address, "a listener can't be handed to another proxy: {error}");
        }
        let count = self.workers.count();
        let mut parts: Vec<Vec<Command>> = (0..count).map(|_| Vec::new()).collect();
        for (at, socket) in sockets.into_iter().enumerate() {
            let listener = Listener {
                address,
                takes,
                socket,
            };
            parts[at % count].push(Command::Listen(listener));
        }
        self.workers.tell(|worker| std::mem::take(&mut parts[worker]));
    }

    /// Ends the workers, and with them every connection that is left.
    pub fn stop(self) {
        self.workers.stop();
    }
}

/// The listeners a Snapshot asks for, with the fields that say so.
fn wanted(snapshot: &Snapshot) -> BTreeMap<SocketAddr, (Takes, String)> {
    let workload = &snapshot.workload;
    let mut wanted = BTreeMap::new();
    let mut want = |address, direction, intercepted, field: String| {
        let takes = Takes {
            direction,
            intercepted,
        };
        wanted.insert(address, (takes, field));
    };
    match workload.interception {
        Some(ports) => {
            for ip in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
                let address = SocketAddr::new(ip, ports.inbound);
                want(
                    address,
                    Direction::Inbound,
                    true,
                    "interception.inboundPort".to_owned(),
                );
            }
            for address in ports.outbound_listeners() {
                want(
                    address,
                    Direction::Outbound,
                    true,
                    "interception.outboundPort".to_owned(),
                );
            }
        }
        None => {
            for (index, port) in workload.ports.iter().enumerate() {
                want(
                    port.listen,
                    Direction::Inbound,
                    false,
                    format!("ports[{index}].listen"),
                );
            }
        }
    }
    if let Some(listen) = workload.proxy_listen {
        want(
            listen,
            Direction::Outbound,
            false,
            "outbound.proxyPort".to_owned(),
        );
    }
    for (index, port) in workload.local_ports.iter().enumerate() {
        let field = format!("outbound.localPorts[{index}].listen");
        want(port.listen, Direction::Outbound, false, field);
    }
    wanted
}

/// Whether binding failed because there is no such kind of address here: EAFNOSUPPORT (97) or EADDRNOTAVAIL.
pub(crate) fn has_no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
        || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// A socket for each worker, all on the same address: the kernel spreads connections over them.
fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Another process of the same user could share the address too; a first socket without sharing finds out.
    drop(socket(address, false)?);
    (0..count).map(|_| socket(address, true)).collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
