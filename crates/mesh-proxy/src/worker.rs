//! A worker: one thread, one runtime, its own connections. Workers share nothing but what [`Shared`] holds.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

use crate::balance::Moment;
use crate::connections::Connections;
use crate::cut::Cut;
use crate::intercept::server_first::ServerFirst;
use crate::listen::{self, Listener};
use crate::memory;
use crate::observe::{Direction, Observe, WorkerObserve};
use crate::pool::Pools;
use crate::shared::Shared;

/// How often connections, to clients and to endpoints, are looked at. Ages of clients' connections are counted in this.
const SWEEP: Duration = Duration::from_secs(1);

/// After how many connections came to rest what they held is given back to the system: about a megabyte.
const MANY_RESTED: usize = 64;

/// What a worker's requests share.
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// How many there are.
    workers: u32,
    /// This worker's connections to clients.
    pub connections: Connections,
    /// This worker's connections to endpoints.
    pub pools: Pools,
    /// Where servers were seen to speak first.
    pub server_first: ServerFirst,
    /// This worker's view of what is counted.
    pub observe: Rc<WorkerObserve>,
    /// Connections that were told to rest since memory was given back.
    rested: Cell<usize>,
    turn: Cell<u64>,
    warned: Cell<Option<Instant>>,
}

impl Worker {
    /// One of so many.
    pub fn new(shared: Arc<Shared>, observe: &Arc<Observe>, workers: usize) -> Rc<Self> {
        Rc::new(Self {
            connections: Connections::new(&shared.limits, &shared.memory, workers),
            shared,
            workers: u32::try_from(workers).unwrap_or(u32::MAX).max(1),
            pools: Pools::default(),
            server_first: ServerFirst::default(),
            observe: observe.worker(),
            rested: Cell::new(0),
            turn: Cell::new(0),
            warned: Cell::new(None),
        })
    }

    /// Looks at all connections, a second after the last time.
    pub fn sweep(&self) {
        self.pools.sweep(tokio::time::Instant::now());
        // They have done as they were told when they were looked at last.
        if self.rested.get() >= MANY_RESTED {
            self.rested.set(0);
            memory::give_back();
        }
        let rested = self
            .connections
            .look(self.shared.drain.is_started(), |direction, why| {
                self.cut(direction, why);
            });
        self.rested.set(self.rested.get() + rested);
    }

    /// Counts a connection that was refused or closed for this.
    pub fn cut(&self, direction: Direction, cut: Cut) {
        self.observe.shared().cut(direction, cut);
    }

    /// Whether something that may happen very often may be said in the log: once a second.
    pub fn may_warn(&self) -> bool {
        let now = Instant::now();
        let may = self
            .warned
            .get()
            .is_none_or(|last| now.duration_since(last) >= SWEEP);
        if may {
            self.warned.set(Some(now));
        }
        may
    }

    /// A number uniform over `u64`. Nothing secret hangs on it.
    pub fn random(&self) -> u64 {
        self.observe.random().next()
    }

    /// How much of what all workers have falls to each.
    pub fn share(&self, of_all: u32) -> u32 {
        of_all / self.workers
    }

    /// Counts up.
    pub fn turn(&self) -> u64 {
        self.turn.replace(self.turn.get().wrapping_add(1))
    }
}

/// Microseconds since the process started.
pub fn now() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    Moment(START.get_or_init(Instant::now).elapsed().as_micros() as u64)
}

/// What a worker is told.
pub enum Command {
    /// Take connections from this listener.
    Listen(Listener),
    /// Take no more from the one at this address.
    Close(SocketAddr),
}

/// The workers of a proxy.
pub struct Workers {
    commands: Vec<mpsc::UnboundedSender<Command>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts so many.
    ///
    /// # Errors
    /// When the machine gives no thread or runtime.
    pub fn start(shared: &Arc<Shared>, observe: &Arc<Observe>, count: usize) -> std::io::Result<Self> {
        let mut workers = Self {
            commands: Vec::new(),
            threads: Vec::new(),
        };
        for number in 0..count {
            let (commands, inbox) = mpsc::unbounded_channel();
            let (shared, observe) = (Arc::clone(shared), Arc::clone(observe));
            let (started, has_started) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || match runtime() {
                    Ok(runtime) => {
                        let _ = started.send(Ok(()));
                        let worker = Worker::new(shared, &observe, count);
                        // As a task: the runtime wakes what it itself runs by a system call, tasks without one.
                        let running = async { tokio::task::spawn_local(run(worker, inbox)).await };
                        if runtime.block_on(running).is_err() {
                            tracing::error!("a worker has ended");
                        }
                    }
                    Err(error) => drop(started.send(Err(error))),
                })?;
            has_started.recv().map_err(std::io::Error::other)??;
            workers.commands.push(commands);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.commands.len()
    }

    /// Tells each worker its part.
    pub fn tell(&self, mut part: impl FnMut(usize) -> Vec<Command>) {
        for (number, commands) in self.commands.iter().enumerate() {
            for command in part(number) {
                // A worker ends only when this is dropped.
                let _ = commands.send(command);
            }
        }
    }

    /// Ends the workers, and with them every connection that is left.
    pub fn stop(self) {
        drop(self.commands);
        for thread in self.threads {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// A runtime whose tasks are this thread's own: waking one up costs neither a lock nor a system call.
fn runtime() -> std::io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

async fn run(worker: Rc<Worker>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut accepting: HashMap<SocketAddr, Vec<tokio::task::JoinHandle<()>>> = HashMap::new();
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                None => return worker.observe.end(),
                Some(Command::Listen(listener)) => {
                    let address = listener.address;
                    let task = tokio::task::spawn_local(listen::accept(Rc::clone(&worker), listener));
                    accepting.entry(address).or_default().push(task);
                }
                Some(Command::Close(address)) => {
                    let tasks = accepting.remove(&address);
                    tasks.iter().flatten().for_each(tokio::task::JoinHandle::abort);
                }
            },
            _ = sweep.tick() => worker.sweep(),
        }
    }
}
