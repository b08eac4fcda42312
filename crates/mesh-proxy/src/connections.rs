//! A worker's connections to clients: counted, and looked at once a second for those that hold their place too long.
//!
//! Reading and writing leave marks in a connection's [`Seat`], a handful of plain stores; no connection and no request
//! has a timer of its own for this. When all places are taken, those that have been idle longest are asked to leave.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use mesh_api::duration::Duration;

use crate::cut::Cut;
use crate::limits::Limits;
use crate::memory::Memory;
use crate::observe::Direction;

mod seat;

use seat::{Ages, Room};
pub use seat::{Busy, Seat, Told};

/// When all places are taken, this part of them is made free at once, so that looking for them is not done for each
/// new connection.
const EVICTED_AT_ONCE: usize = 32;
/// The part of the connections that is closed in each second that memory does not suffice.
const SHED_AT_ONCE: usize = 16;

/// A worker's connections.
#[derive(Debug)]
pub struct Connections {
    room: Arc<Room>,
    seats: RefCell<Vec<Weak<Seat>>>,
    limits: Ages,
    places: u32,
    /// Since when the proxy is about to end, if it is.
    ending: Cell<Option<u32>>,
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
            ending: Cell::default(),
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
        Seat::new(&self.room, direction, counted)
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

    /// Looks at every connection, a second after the last time. `ending`: the proxy is about to end. Returns how many were
    /// told to rest.
    pub fn look(&self, ending: bool, cut: impl Fn(Direction, Cut)) -> usize {
        let now = self.room.now.load(Relaxed) + 1;
        self.room.now.store(now, Relaxed);
        if ending && self.ending.get().is_none() {
            self.ending.set(Some(now));
        }
        let paused = self.room.paused.load(Relaxed);
        let mut rested = 0;
        self.seats.borrow_mut().retain(|seat| {
            let Some(seat) = seat.upgrade() else { return false };
            if !paused && seat.held_back.swap(false, Relaxed) {
                seat.wake();
            }
            let told = seat.look(now, &self.limits, self.ending.get(), &cut);
            rested += usize::from(told == Some(Told::Rest));
            true
        });
        if paused {
            self.shed(cut);
        }
        rested
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

#[cfg(test)]
mod tests;
