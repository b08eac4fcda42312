//! A new configuration takes effect: listeners are bound, the Table is built, and one store makes it what requests see.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use mesh_api::snapshot::Snapshot;
use socket2::{Domain, Protocol, Socket, Type};

use crate::listen::Listener;
use crate::observe::Direction;
use crate::shared::Shared;
use crate::table;
use crate::worker::{Command, Workers};

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
    listening: HashMap<SocketAddr, Direction>,
}

impl Applier {
    /// Of a proxy that listens nowhere yet.
    pub fn new(shared: Arc<Shared>, workers: Workers) -> Self {
        Self {
            shared,
            workers,
            listening: HashMap::new(),
        }
    }

    /// Puts a Snapshot into effect, as a whole or not at all. Requests in flight go on as they began.
    ///
    /// # Errors
    /// When a listener can't be bound; the proxy goes on as before.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<(), Vec<Refusal>> {
        let wanted = wanted(&snapshot);
        let mut bound = Vec::new();
        let mut refusals = Vec::new();
        for (address, (direction, field)) in &wanted {
            if self.listening.get(address) == Some(direction) {
                continue;
            }
            match bind(*address, self.workers.count()) {
                Ok(sockets) => bound.push((*address, *direction, sockets)),
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
        let before = self.shared.table.load();
        let table = table::build(snapshot, before.as_deref());
        self.shared.table.store(Some(Arc::new(table)));
        let gone: Vec<_> = self
            .listening
            .keys()
            .filter(|address| !wanted.contains_key(*address))
            .copied()
            .collect();
        for address in gone {
            self.listening.remove(&address);
            self.workers.tell(|_| Some(Command::Close(address)));
        }
        for (address, direction, sockets) in bound {
            if self.listening.insert(address, direction).is_some() {
                self.workers.tell(|_| Some(Command::Close(address)));
            }
            let mut sockets = sockets.into_iter();
            self.workers.tell(|_| {
                sockets.next().map(|socket| {
                    Command::Listen(Listener {
                        address,
                        direction,
                        socket,
                    })
                })
            });
        }
        Ok(())
    }

    /// Ends the workers, and with them every connection that is left.
    pub fn stop(self) {
        self.workers.stop();
    }
}

/// The listeners a Snapshot asks for, with the fields that say so.
fn wanted(snapshot: &Snapshot) -> BTreeMap<SocketAddr, (Direction, String)> {
    let workload = &snapshot.workload;
    let mut wanted = BTreeMap::new();
    for (index, port) in workload.ports.iter().enumerate() {
        wanted.insert(
            port.listen,
            (Direction::Inbound, format!("ports[{index}].listen")),
        );
    }
    if let Some(listen) = workload.proxy_listen {
        wanted.insert(listen, (Direction::Outbound, "outbound.proxyPort".to_owned()));
    }
    for (index, port) in workload.local_ports.iter().enumerate() {
        wanted.insert(
            port.listen,
            (
                Direction::Outbound,
                format!("outbound.localPorts[{index}].listen"),
            ),
        );
    }
    wanted
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
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
