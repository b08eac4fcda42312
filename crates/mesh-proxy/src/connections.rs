//! A worker's connections to clients: counted, and looked at once a second for those that hold their place too long.
//!
//! Reading and writing leave marks in a connection's [`Seat`], a handful of plain stores; no connection and no request
//! has a timer of its own for this. When all places are taken, those that have been idle longest are asked to leave.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, Waker};

use mesh_api::duration::Duration;

use crate::cut::Cut;
use crate::limits::Limits;
use crate::memory::Memory;
use crate::observe::Direction;

/// When all places are taken, this part of them is made free at once, so that looking for them is not done for each
/// new connection.
const EVICTED_AT_ONCE: usize = 32;
/// The part of the connections that is closed in each second that memory does not suffice.
const SHED_AT_ONCE: usize = 16;

/// What the seats of a worker share with it.
#[derive(Debug, Default)]
struct Room {
    /// Connections there are.
    taken: AtomicU32,
    /// Those of them that were asked to leave for others.
    leaving: AtomicU32,
    /// Seconds since the worker started.
    now: AtomicU32,
    /// Whether nothing is to be read from clients for now: the process holds as much memory as it may.
    paused: Arc<AtomicBool>,
}

/// A worker's connections.
#[derive(Debug)]
pub struct Connections {
    room: Arc<Room>,
    seats: RefCell<Vec<Weak<Seat>>>,
    limits: Ages,
    places: u32,
}

/// Limits of time, in seconds.
#[derive(Clone, Copy, Debug)]
struct Ages {
    head: u32,
    idle: u32,
    stall: u32,
}

/// A connection's place. It is free again when the last holder lets go of it.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    direction: Direction,
    /// Whether it takes one of the worker's places.
    counted: bool,
    /// Whether it was asked to leave for others.
    evicted: AtomicBool,
    /// Since it was taken, until it is known what it speaks.
    greeting: Since,
    head: Since,
    idle: Since,
    stall: Since,
    /// Requests whose responses are not over.
    open: AtomicU32,
    /// Whether a whole head ever came.
    served: AtomicBool,
    /// Bytes read since no request was open.
    taken: AtomicU32,
    /// Whether it is no longer this connection's reading and writing that tells how it is.
    retired: AtomicBool,
    /// Whether it was told to read nothing for now.
    held_back: AtomicBool,
    told: AtomicU8,
    finishing: Since,
    /// Why its peer was told to go, and 1; 0: it was not.
    blamed: AtomicU8,
    waiting: Mutex<Vec<Waker>>,
}

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To end when its requests have.
    Finish,
    /// To end now.
    Close,
}

/// The second something began in; 0: it is not so.
#[derive(Debug, Default)]
struct Since(AtomicU32);

impl Since {
    fn begin(&self, now: u32) {
        if self.0.load(Relaxed) == 0 {
            self.0.store(now.max(1), Relaxed);
        }
    }

    fn end(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    fn age(&self, now: u32) -> Option<u32> {
        match self.0.load(Relaxed) {
            0 => None,
            since => Some(now.saturating_sub(since)),
        }
    }
}

impl Connections {
    /// Of one of so many workers.
    pub fn new(limits: &Limits, memory: &Memory, workers: usize) -> Self {
        let seconds = |it: Duration| u32::try_from(it.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
        Self {
            room: Arc::new(Room {
                paused: memory.flag(),
                ..Room::default()
            }),
            seats: RefCell::default(),
            limits: Ages {
                head: seconds(limits.head_timeout),
                idle: seconds(limits.idle_timeout),
                stall: seconds(limits.stall_timeout),
            },
            places: limits.connections_of_worker(workers),
        }
    }

    /// A place for a new connection; none: there is none, and nobody can be asked to leave. `cut` counts.
    pub fn take(&self, direction: Direction, cut: impl Fn(Direction, Cut)) -> Option<Arc<Seat>> {
        if self.room.paused.load(Relaxed) {
            cut(direction, Cut::Memory);
            return None;
        }
        let staying = self
            .room
            .taken
            .load(Relaxed)
            .saturating_sub(self.room.leaving.load(Relaxed));
        if staying >= self.places && self.make_room(&cut) == 0 {
            cut(direction, Cut::TooManyConnections);
            return None;
        }
        self.room.taken.fetch_add(1, Relaxed);
        let seat = self.seat(direction, true);
        seat.greeting.begin(self.room.now.load(Relaxed));
        Some(self.watched(seat))
    }

    /// The seat of a connection inside of another one, which has the place.
    pub fn inner(&self, direction: Direction) -> Arc<Seat> {
        self.watched(self.seat(direction, false))
    }

    /// The seat of a connection to a server: only its frames are looked at.
    pub fn to_server(&self) -> Arc<Seat> {
        Arc::new(self.seat(Direction::Outbound, false))
    }

    fn watched(&self, seat: Seat) -> Arc<Seat> {
        let seat = Arc::new(seat);
        self.seats.borrow_mut().push(Arc::downgrade(&seat));
        seat
    }

    fn seat(&self, direction: Direction, counted: bool) -> Seat {
        Seat {
            room: Arc::clone(&self.room),
            direction,
            counted,
            evicted: AtomicBool::new(false),
            greeting: Since::default(),
            head: Since::default(),
            idle: Since::default(),
            stall: Since::default(),
            open: AtomicU32::new(0),
            served: AtomicBool::new(false),
            taken: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            told: AtomicU8::new(0),
            finishing: Since::default(),
            blamed: AtomicU8::new(0),
            waiting: Mutex::default(),
        }
    }

    /// Asks those to leave that have no request open: first who never sent one, then who has been idle longest. They
    /// leave when their tasks run next. Returns how many.
    pub fn make_room(&self, cut: impl Fn(Direction, Cut)) -> usize {
        let now = self.room.now.load(Relaxed);
        let mut idle: Vec<_> = self
            .seats
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|seat| !seat.retired.load(Relaxed) && seat.told.load(Relaxed) == 0)
            .filter_map(|seat| {
                let ages = [&seat.greeting, &seat.head, &seat.idle];
                let age = ages.into_iter().find_map(|since| since.age(now))?;
                Some(((seat.served.load(Relaxed), u32::MAX - age), seat))
            })
            .collect();
        let many = (self.places as usize / EVICTED_AT_ONCE).max(1).min(idle.len());
        if many > 0 {
            idle.select_nth_unstable_by_key(many - 1, |(rank, _)| *rank);
        }
        for (_, seat) in &idle[..many] {
            cut(seat.direction, Cut::Evicted);
            if seat.counted {
                seat.evicted.store(true, Relaxed);
                self.room.leaving.fetch_add(1, Relaxed);
            }
            // Nothing of a request is lost with half a head.
            let idle = seat.idle.age(now).is_some() && seat.head.age(now).is_none();
            seat.tell(if idle { Told::Finish } else { Told::Close });
        }
        many
    }

    /// Looks at every connection, a second after the last time.
    pub fn look(&self, cut: impl Fn(Direction, Cut)) {
        let now = self.room.now.load(Relaxed) + 1;
        self.room.now.store(now, Relaxed);
        let paused = self.room.paused.load(Relaxed);
        self.seats.borrow_mut().retain(|seat| {
            let Some(seat) = seat.upgrade() else { return false };
            if !paused && seat.held_back.swap(false, Relaxed) {
                seat.wake();
            }
            seat.look(now, &self.limits, &cut);
            true
        });
        if paused {
            self.shed(cut);
        }
    }

    /// Closes those that have taken in most since they were last idle, and all that are idle.
    fn shed(&self, cut: impl Fn(Direction, Cut)) {
        let mut seats: Vec<_> = self
            .seats
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|seat| !seat.retired.load(Relaxed) && seat.told.load(Relaxed) < 2)
            .collect();
        seats.sort_unstable_by_key(|seat| std::cmp::Reverse(seat.taken.load(Relaxed)));
        let heaviest = seats.len().div_ceil(SHED_AT_ONCE);
        for (rank, seat) in seats.iter().enumerate() {
            if rank < heaviest || seat.open.load(Relaxed) == 0 {
                cut(seat.direction, Cut::Memory);
                seat.tell(Told::Close);
            }
        }
    }
}

impl Seat {
    /// Bytes came in; `mid_head`: they end in the middle of a head.
    pub fn read(&self, bytes: usize, mid_head: bool) {
        let taken = self.taken.load(Relaxed);
        self.taken.store(
            taken.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX)),
            Relaxed,
        );
        if mid_head {
            self.head.begin(self.room.now.load(Relaxed));
        } else {
            self.head.end();
        }
    }

    /// Whether no request is open, so that what comes in is a head.
    pub fn awaits_head(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    /// There is something for the peer, and it takes nothing of it (`true`), or some of it (`false`).
    pub fn stalled(&self, stalled: bool) {
        if stalled {
            self.stall.begin(self.room.now.load(Relaxed));
        } else {
            self.stall.end();
        }
    }

    /// Whether nothing is to be read now; if so, the waker is called when that changes.
    pub fn paused(&self, waker: &Waker) -> bool {
        let paused = self.room.paused.load(Relaxed);
        if paused {
            self.held_back.store(true, Relaxed);
            self.wait(waker);
        }
        paused
    }

    /// From here on it has no request open, unless one begins.
    pub fn ready(&self) {
        self.greeting.end();
        if self.open.load(Relaxed) == 0 {
            self.idle.begin(self.room.now.load(Relaxed));
        }
    }

    /// From here on nothing of it is looked at: it carries another protocol, whose limits are its own.
    pub fn retire(&self) {
        self.greeting.end();
        self.retired.store(true, Relaxed);
    }

    /// Its peer is told to go for this.
    pub fn blame(&self, cut: Cut) {
        self.blamed.store(cut as u8 + 1, Relaxed);
    }

    /// Why its peer was told to go, if it was.
    pub fn blamed(&self) -> Option<Cut> {
        let number = self.blamed.load(Relaxed).checked_sub(1)?;
        Cut::ALL.get(usize::from(number)).copied()
    }

    /// The second it is, for what is regained by the second.
    pub fn now(&self) -> u32 {
        self.room.now.load(Relaxed)
    }

    /// A request whose head is there, until what is returned is dropped.
    pub fn open(self: &Arc<Self>) -> Busy {
        self.open.store(self.open.load(Relaxed) + 1, Relaxed);
        self.served.store(true, Relaxed);
        self.idle.end();
        self.head.end();
        Busy(Arc::clone(self))
    }

    /// Waits until it is told to end.
    pub async fn told(&self) -> Told {
        let mut waits = false;
        poll_fn(|cx| {
            let told = match self.told.load(Relaxed) {
                0 => None,
                1 => Some(Told::Finish),
                _ => Some(Told::Close),
            };
            match told {
                Some(told) => Poll::Ready(told),
                None => {
                    // A task has one waker for as long as it lives.
                    if !std::mem::replace(&mut waits, true) {
                        self.wait(cx.waker());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Waits until it is told to end at once.
    pub async fn closed(&self) {
        let mut waits = false;
        poll_fn(|cx| {
            if self.told.load(Relaxed) > 1 {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut waits, true) {
                self.wait(cx.waker());
            }
            Poll::Pending
        })
        .await;
    }

    /// Tells it to end.
    pub fn tell(&self, told: Told) {
        let word = match told {
            Told::Finish => {
                self.finishing.begin(self.room.now.load(Relaxed));
                1
            }
            Told::Close => 2,
        };
        self.told.store(self.told.load(Relaxed).max(word), Relaxed);
        self.wake();
    }

    /// Tells it to end if it does something for too long.
    fn look(&self, now: u32, limits: &Ages, cut: impl Fn(Direction, Cut)) {
        if self.retired.load(Relaxed) {
            return;
        }
        // It is somewhere in the second that it began in.
        let over = |since: &Since, limit: u32| since.age(now).is_some_and(|age| age > limit);
        let (told, why) = match self.told.load(Relaxed) {
            0 if over(&self.head, limits.head) => (Told::Close, Cut::SlowHead),
            0 | 1 if over(&self.stall, limits.stall) => (Told::Close, Cut::SlowReader),
            0 if over(&self.idle, limits.idle) => (Told::Finish, Cut::Idle),
            // What is left of it are answers that it does not take.
            1 if self.awaits_head() && over(&self.finishing, limits.head) => {
                return self.tell(Told::Close);
            }
            _ => return,
        };
        cut(self.direction, why);
        self.tell(told);
    }

    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn wake(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for waker in waiting.iter() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.counted {
            self.room.taken.fetch_sub(1, Relaxed);
        }
        if self.evicted.load(Relaxed) {
            self.room.leaving.fetch_sub(1, Relaxed);
        }
    }
}

/// A request that is open on a connection.
#[derive(Debug)]
pub struct Busy(Arc<Seat>);

impl Busy {
    /// The same connection is busy until what is returned is dropped too.
    pub fn longer(&self) -> Self {
        self.0.open()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let seat = &self.0;
        let left = seat.open.load(Relaxed).saturating_sub(1);
        seat.open.store(left, Relaxed);
        if left == 0 {
            seat.taken.store(0, Relaxed);
            seat.ready();
        }
    }
}

#[cfg(test)]
mod tests;
