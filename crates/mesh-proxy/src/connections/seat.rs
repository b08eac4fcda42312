//! A connection's place: the marks that reading, writing and requests leave in it, and what it is told. All of it is a few
//! plain stores by the thread the connection belongs to; atomic only because upgraded connections must be sendable.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::cut::Cut;
use crate::observe::Direction;

/// What the seats of a worker share with it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Connections there are.
    pub(super) taken: AtomicU32,
    /// Those of them that were asked to leave for others.
    pub(super) leaving: AtomicU32,
    /// Seconds since the worker started.
    pub(super) now: AtomicU32,
    /// Whether nothing is to be read from clients for now: the process holds as much memory as it may.
    pub(super) paused: Arc<AtomicBool>,
}

/// Limits of time, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    pub(super) head: u32,
    pub(super) idle: u32,
    pub(super) stall: u32,
}

/// A connection's place. It is free again when the last holder lets go of it.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    pub(super) direction: Direction,
    /// Whether it takes one of the worker's places.
    pub(super) counted: bool,
    /// Whether it was asked to leave for others.
    pub(super) evicted: AtomicBool,
    /// Since it was taken, until it is known what it speaks.
    pub(super) greeting: Since,
    pub(super) head: Since,
    pub(super) idle: Since,
    stall: Since,
    /// Requests whose responses are not over.
    pub(super) open: AtomicU32,
    /// Whether a whole head ever came.
    pub(super) served: AtomicBool,
    /// Whether the body of the last request has not come to its end.
    body: AtomicBool,
    /// Whether there is something for the peer that was not handed to the system.
    unsent: AtomicBool,
    /// Whether the connection may rest, and is told to.
    rest: AtomicU8,
    /// Bytes read since no request was open.
    pub(super) taken: AtomicU32,
    /// Whether it is no longer this connection's reading and writing that tells how it is.
    pub(super) retired: AtomicBool,
    /// Whether it was told to read nothing for now.
    pub(super) held_back: AtomicBool,
    pub(super) told: AtomicU8,
    finishing: Since,
    /// Why its peer was told to go, and 1; 0: it was not.
    blamed: AtomicU8,
    waiting: Mutex<Vec<Waker>>,
}

/// How long an idle HTTP/1.1 connection stays open while the proxy ends, in seconds. A client that uses it within that
/// time learns from the answer that it is the last one; had the connection been closed at once, the request on its way
/// would be lost.
const LAST_REQUEST: u32 = 2;

/// It does not rest.
const NO_REST: u8 = 0;
/// It may be told to rest.
const MAY_REST: u8 = 1;
/// It is told to rest.
const REST: u8 = 2;

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To hold nothing that only requests need, until the next one comes.
    Rest,
    /// To end when its requests have.
    Finish,
    /// To end now.
    Close,
}

/// The second something began in; 0: it is not so.
#[derive(Debug, Default)]
pub(super) struct Since(AtomicU32);

impl Since {
    pub(super) fn begin(&self, now: u32) {
        if self.0.load(Relaxed) == 0 {
            self.0.store(now.max(1), Relaxed);
        }
    }

    fn end(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    pub(super) fn age(&self, now: u32) -> Option<u32> {
        match self.0.load(Relaxed) {
            0 => None,
            since => Some(now.saturating_sub(since)),
        }
    }
}

impl Seat {
    /// A seat in this room.
    pub(super) fn new(room: &Arc<Room>, direction: Direction, counted: bool) -> Self {
        Self {
            room: Arc::clone(room),
            direction,
            counted,
            evicted: AtomicBool::new(false),
            greeting: Since::default(),
            head: Since::default(),
            idle: Since::default(),
            stall: Since::default(),
            open: AtomicU32::new(0),
            served: AtomicBool::new(false),
            body: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            rest: AtomicU8::new(NO_REST),
            taken: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            told: AtomicU8::new(0),
            finishing: Since::default(),
            blamed: AtomicU8::new(0),
            waiting: Mutex::default(),
        }
    }

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

    /// Whether there is something for the peer that was not handed to the system.
    pub fn unsent(&self, unsent: bool) {
        self.unsent.store(unsent, Relaxed);
    }

    /// Whether the last request has a body of which not all is there.
    pub fn has_body(&self, has: bool) {
        self.body.store(has, Relaxed);
    }

    /// The body of the last request has come to its end.
    pub fn body_ended(&self) {
        self.body.store(false, Relaxed);
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

    /// Waits until it is told something.
    pub async fn told(&self) -> Told {
        let mut waits = false;
        poll_fn(|cx| {
            let told = match self.told.load(Relaxed) {
                0 => (self.rest.load(Relaxed) == REST).then_some(Told::Rest),
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

    /// Whether it may be told to rest from now on; if it was, that is over.
    pub fn may_rest(&self, may: bool) {
        self.rest.store(if may { MAY_REST } else { NO_REST }, Relaxed);
    }

    /// Whether nothing of it is left anywhere, but what may have come of a next request: no request is open, the last one
    /// came to its end, and everything for the peer is sent.
    pub fn is_quiet(&self) -> bool {
        let idle = self.open.load(Relaxed) == 0 && self.idle.0.load(Relaxed) != 0;
        let left = self.body.load(Relaxed) || self.unsent.load(Relaxed) || self.retired.load(Relaxed);
        idle && !left && self.head.0.load(Relaxed) == 0 && self.told.load(Relaxed) == 0
    }

    /// Tells it something.
    pub fn tell(&self, told: Told) {
        let word = match told {
            Told::Rest => {
                self.rest.store(REST, Relaxed);
                return self.wake();
            }
            Told::Finish => {
                self.finishing.begin(self.room.now.load(Relaxed));
                1
            }
            Told::Close => 2,
        };
        self.told.store(self.told.load(Relaxed).max(word), Relaxed);
        self.wake();
    }

    /// Tells it to rest if it is idle, and to end if it does something for too long. `ending`: since when the proxy is about
    /// to end, if it is. Returns what it is told.
    pub(super) fn look(
        &self,
        now: u32,
        limits: &Ages,
        ending: Option<u32>,
        cut: impl Fn(Direction, Cut),
    ) -> Option<Told> {
        if self.retired.load(Relaxed) {
            return None;
        }
        // It is somewhere in the second that it began in.
        let over = |since: &Since, limit: u32| since.age(now).is_some_and(|age| age > limit);
        let ends = ending.is_some_and(|since| now.saturating_sub(since) >= LAST_REQUEST);
        let (told, why) = match self.told.load(Relaxed) {
            0 if over(&self.head, limits.head) => (Told::Close, Some(Cut::SlowHead)),
            0 | 1 if over(&self.stall, limits.stall) => (Told::Close, Some(Cut::SlowReader)),
            0 if over(&self.idle, limits.idle) => (Told::Finish, Some(Cut::Idle)),
            0 if ends && over(&self.idle, LAST_REQUEST) => (Told::Finish, None),
            0 if self.rest.load(Relaxed) == MAY_REST && over(&self.idle, 1) && self.is_quiet() => {
                (Told::Rest, None)
            }
            // What is left of it are answers that it does not take.
            1 if self.awaits_head() && over(&self.finishing, limits.head) => (Told::Close, None),
            _ => return None,
        };
        if let Some(why) = why {
            cut(self.direction, why);
        }
        self.tell(told);
        Some(told)
    }

    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
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
