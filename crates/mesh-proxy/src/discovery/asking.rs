//! What is asked for, of one kind: names or addresses, each with bounds of its own, so that who may choose the ones can't
//! use up the room of the others.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long what is not there is not asked for again.
const ABSENT: Duration = Duration::from_secs(10);

/// What may stand for a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Sought {
    /// A host name, in lower case and without a port.
    Host(String),
    /// Where a connection was going.
    Address(SocketAddr),
}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{host:?}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What the control plane says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It stands for a service, which is in the Table.
    There,
    /// It stands for none.
    Absent,
    /// It stands for one service too many.
    TooMany,
}

pub(super) type Answered = watch::Receiver<Option<Answer>>;

/// What is asked for, and what is known to stand for no service.
#[derive(Debug)]
pub(super) struct Asking {
    most: usize,
    remembered: usize,
    asked: BTreeMap<Sought, Asked>,
    /// Until when it is taken to be so without asking again.
    absent: HashMap<Sought, Instant>,
}

#[derive(Debug)]
struct Asked {
    /// In which `Uses`; 0: in none yet.
    sequence: u64,
    answer: watch::Sender<Option<Answer>>,
}

impl Asking {
    /// For at most so many at a time; so many are remembered to stand for no service.
    pub(super) fn new(most: usize, remembered: usize) -> Self {
        Self {
            most,
            remembered,
            asked: BTreeMap::new(),
            absent: HashMap::new(),
        }
    }

    /// How many are asked for.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// Whether no more can be asked for.
    pub(super) fn is_full(&self) -> bool {
        self.asked.len() >= self.most
    }

    /// What is asked for, in order.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Sought> {
        self.asked.keys()
    }

    /// Joins who asks for this already.
    pub(super) fn join(&self, sought: &Sought) -> Option<Answered> {
        Some(self.asked.get(sought)?.answer.subscribe())
    }

    /// Whether it stood for no service a moment ago.
    pub(super) fn is_absent(&self, sought: &Sought) -> bool {
        self.absent
            .get(sought)
            .is_some_and(|until| *until > Instant::now())
    }

    /// Whether it stood for no service when the control plane was last asked.
    pub(super) fn was_absent(&self, sought: &Sought) -> bool {
        self.absent.contains_key(sought)
    }

    /// Asks for it from the next `Uses` on.
    pub(super) fn ask(&mut self, sought: Sought) -> Answered {
        let (answer, answered) = watch::channel(None);
        self.asked.insert(sought, Asked { sequence: 0, answer });
        answered
    }

    /// Asks for it no longer.
    pub(super) fn give_up(&mut self, sought: &Sought) {
        self.asked.remove(sought);
    }

    /// Asks for nothing any longer.
    pub(super) fn give_all_up(&mut self) {
        self.asked.clear();
    }

    /// All that is asked for stands in this `Uses`.
    pub(super) fn said(&mut self, sequence: u64) {
        for asked in self.asked.values_mut() {
            asked.sequence = sequence;
        }
    }

    /// Answers all that was asked for up to this `Uses`.
    pub(super) fn settle(&mut self, sequence: u64, mut answer: impl FnMut(&Sought) -> Answer) {
        let now = Instant::now();
        let Self {
            asked,
            absent,
            remembered,
            ..
        } = self;
        asked.retain(|sought, waiting| {
            if waiting.sequence == 0 || waiting.sequence > sequence {
                return true;
            }
            let answer = answer(sought);
            absent.remove(sought);
            if answer == Answer::Absent {
                if absent.len() >= *remembered {
                    absent.retain(|_, until| *until > now);
                }
                // When all of them are fresh, this one is asked for again next time: few are, at a time.
                if absent.len() < *remembered {
                    absent.insert(sought.clone(), now + ABSENT);
                }
            }
            waiting.answer.send_replace(Some(answer));
            false
        });
    }

    #[cfg(test)]
    pub(super) fn remembers(&self) -> usize {
        self.absent.len()
    }
}
