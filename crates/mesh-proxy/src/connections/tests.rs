//! Seats over time, without sockets: what is told to whom, and why.

use futures_util::FutureExt;

use super::*;

const OUT: Direction = Direction::Outbound;

struct Case {
    connections: Connections,
    memory: Memory,
    cuts: RefCell<Vec<Cut>>,
}

impl Case {
    fn new(limits: &Limits) -> Self {
        let memory = Memory::default();
        Self {
            connections: Connections::new(limits, &memory, 1),
            memory,
            cuts: RefCell::default(),
        }
    }

    fn take(&self) -> Option<Arc<Seat>> {
        self.connections
            .take(OUT, |_, cut| self.cuts.borrow_mut().push(cut))
    }

    fn seconds(&self, count: u32, pressed: bool) {
        self.memory.read(u64::from(pressed), 0);
        for _ in 0..count {
            self.connections
                .look(false, |_, cut| self.cuts.borrow_mut().push(cut));
        }
    }

    fn cuts(&self) -> Vec<Cut> {
        std::mem::take(&mut self.cuts.borrow_mut())
    }
}

fn limits(places: u32) -> Limits {
    let seconds = |seconds: u64| Duration::from_millis(seconds * 1_000);
    Limits {
        head_timeout: seconds(10),
        idle_timeout: seconds(100),
        stall_timeout: seconds(30),
        max_connections: places,
        ..Limits::default()
    }
}

fn told(seat: &Seat) -> Option<Told> {
    seat.told().now_or_never()
}

#[test]
fn each_phase_has_its_time() {
    type Phase = (
        &'static str,
        fn(&Arc<Seat>) -> Option<Busy>,
        Option<(u32, Cut, Told)>,
    );
    let phases: [Phase; 7] = [
        (
            "idle",
            |seat| {
                seat.ready();
                None
            },
            Some((101, Cut::Idle, Told::Finish)),
        ),
        (
            "half a head",
            |seat| {
                seat.ready();
                seat.read(1, true);
                None
            },
            Some((11, Cut::SlowHead, Told::Close)),
        ),
        (
            "a head, whole after all",
            |seat| {
                seat.read(1, true);
                seat.read(1, false);
                seat.ready();
                None
            },
            Some((101, Cut::Idle, Told::Finish)),
        ),
        (
            "does not read",
            |seat| {
                seat.stalled(true);
                Some(seat.open())
            },
            Some((31, Cut::SlowReader, Told::Close)),
        ),
        (
            "reads again",
            |seat| {
                seat.stalled(true);
                seat.stalled(false);
                Some(seat.open())
            },
            None,
        ),
        (
            "a request is open",
            |seat| {
                seat.read(1, true);
                Some(seat.open())
            },
            None,
        ),
        (
            "another protocol",
            |seat| {
                seat.read(1, true);
                seat.retire();
                None
            },
            None,
        ),
    ];
    for (what, phase, expected) in phases {
        let case = Case::new(&limits(10));
        let seat = case.take().unwrap();
        let _busy = phase(&seat);
        let Some((after, cut, how)) = expected else {
            case.seconds(10_000, false);
            assert_eq!((told(&seat), case.cuts()), (None, vec![]), "{what}");
            continue;
        };
        case.seconds(after - 1, false);
        assert_eq!(told(&seat), None, "{what}, too early");
        case.seconds(2, false);
        assert_eq!((told(&seat), case.cuts()), (Some(how), vec![cut]), "{what}");
    }
}

#[test]
fn who_is_asked_to_finish_and_does_not_is_closed() {
    let case = Case::new(&limits(10));
    let seat = case.take().unwrap();
    seat.ready();
    case.seconds(102, false);
    assert_eq!(told(&seat), Some(Told::Finish));
    let busy = seat.open();
    case.seconds(1_000, false);
    assert_eq!(
        told(&seat),
        Some(Told::Finish),
        "a request in flight has its time"
    );
    drop(busy);
    case.seconds(12, false);
    assert_eq!(told(&seat), Some(Told::Close));
    assert_eq!(case.cuts(), [Cut::Idle], "counted once");
}

#[test]
fn when_all_places_are_taken_the_idle_make_room() {
    let case = Case::new(&limits(4));
    let seats: Vec<_> = (0..4).map(|_| case.take().unwrap()).collect();
    // One has an open request, one was idle for long, one for short, one never said anything.
    seats[0].ready();
    let _busy = seats[0].open();
    drop(seats[1].open());
    case.seconds(5, false);
    drop(seats[2].open());
    let fifth = case.take().unwrap();
    fifth.ready();
    let _other = fifth.open();
    assert_eq!(
        told(&seats[3]),
        Some(Told::Close),
        "who never said anything goes first"
    );
    let sixth = case.take().unwrap();
    sixth.ready();
    let _another = sixth.open();
    assert_eq!(
        told(&seats[1]),
        Some(Told::Finish),
        "then who was idle for longest"
    );
    let _seventh = case.take().unwrap();
    assert_eq!(told(&seats[2]), Some(Told::Finish));
    assert_eq!(told(&seats[0]), None, "a request is never sacrificed");
    assert_eq!(case.cuts(), [Cut::Evicted; 3]);
}

#[test]
fn there_are_never_more_than_there_are_places_and_some_that_leave() {
    let case = Case::new(&limits(64));
    let mut seats = Vec::new();
    for _ in 0..1_000 {
        seats.push(case.take().unwrap());
        // Those that were told to go go, each before the next look.
        seats.retain(|seat| told(seat).is_none());
        assert!(seats.len() <= 64);
    }
    assert_eq!(case.connections.room.leaving.load(Relaxed), 0);
}

#[test]
fn when_nobody_can_leave_nobody_comes() {
    let case = Case::new(&limits(2));
    let seats: Vec<_> = (0..2).map(|_| case.take().unwrap()).collect();
    seats.iter().for_each(|seat| seat.ready());
    let mut busy: Vec<_> = seats.iter().map(Seat::open).collect();
    assert!(case.take().is_none());
    assert_eq!(case.cuts(), [Cut::TooManyConnections]);
    busy.pop();
    assert!(case.take().is_some());
    drop((busy, seats));
    case.seconds(1, false);
    assert!(case.take().is_some());
    assert_eq!(case.connections.seats.borrow().len(), 1, "who left is forgotten");
}

#[test]
fn without_memory_nothing_is_read_and_the_heaviest_go() {
    let case = Case::new(&limits(100));
    let seats: Vec<_> = (0..20).map(|_| case.take().unwrap()).collect();
    let _busy: Vec<_> = seats[1..].iter().map(Seat::open).collect();
    seats[7].read(1_000_000, false);
    seats[8].read(2_000_000, false);
    let waker = futures_util::task::noop_waker();
    assert!(!seats[1].paused(&waker));
    case.seconds(1, true);
    assert!(seats[1].paused(&waker) && case.take().is_none());
    let closed: Vec<_> = (0..20).filter(|at| told(&seats[*at]).is_some()).collect();
    assert_eq!(closed, [0, 7, 8], "the idle one, and a sixteenth");
    case.seconds(1, false);
    assert!(!seats[1].paused(&waker) && case.take().is_some());
}

#[test]
fn only_what_is_over_rests() {
    type Phase = (&'static str, fn(&Arc<Seat>) -> Option<Busy>, bool);
    let phases: [Phase; 9] = [
        ("idle", |_| None, true),
        ("a request is open", |seat| Some(seat.open()), false),
        (
            "half a head",
            |seat| {
                seat.read(1, true);
                None
            },
            false,
        ),
        (
            "something is unsent",
            |seat| {
                seat.unsent(true);
                None
            },
            false,
        ),
        (
            "everything is sent",
            |seat| {
                seat.unsent(true);
                seat.unsent(false);
                None
            },
            true,
        ),
        (
            "a body is not over",
            |seat| {
                drop(seat.open());
                seat.has_body(true);
                None
            },
            false,
        ),
        (
            "a body is over",
            |seat| {
                drop(seat.open());
                seat.has_body(true);
                seat.body_ended();
                None
            },
            true,
        ),
        (
            "another protocol",
            |seat| {
                seat.retire();
                None
            },
            false,
        ),
        (
            "not in HTTP/1.1",
            |seat| {
                seat.may_rest(false);
                None
            },
            false,
        ),
    ];
    for (what, phase, rests) in phases {
        let case = Case::new(&limits(10));
        let seat = case.take().unwrap();
        seat.ready();
        seat.may_rest(true);
        let _busy = phase(&seat);
        case.seconds(1, false);
        assert_eq!(told(&seat), None, "{what}, too early");
        case.seconds(2, false);
        assert_eq!(told(&seat) == Some(Told::Rest), rests, "{what}");
        assert_eq!(case.cuts(), [], "{what}");
        // The end goes before.
        seat.tell(Told::Finish);
        assert_eq!(told(&seat), Some(Told::Finish), "{what}");
    }
}

#[test]
fn when_the_proxy_ends_the_idle_have_a_while_for_a_last_request() {
    let case = Case::new(&limits(10));
    let (idle, late) = (case.take().unwrap(), case.take().unwrap());
    idle.ready();
    let busy = late.open();
    case.seconds(50, false);
    let ending = |seconds: u32| {
        for _ in 0..seconds {
            case.connections
                .look(true, |_, cut| case.cuts.borrow_mut().push(cut));
        }
    };
    ending(2);
    assert_eq!(
        told(&idle),
        None,
        "idle since before, but not so long since the end began"
    );
    ending(1);
    assert_eq!(told(&idle), Some(Told::Finish));
    assert_eq!(told(&late), None, "a request has its time");
    drop(busy);
    ending(2);
    assert_eq!(told(&late), None);
    ending(1);
    assert_eq!(told(&late), Some(Told::Finish));
    assert_eq!(case.cuts(), [], "nobody is to blame");
}
