//! Why a connection was refused, or closed before its time: what a peer does beyond a limit that no response can answer.
//! Each is counted. What a request is answered is in [`crate::error`].

use std::fmt;

use h2::Reason;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its head, or its handshake, took too long.
    SlowHead,
    /// It had no request open for too long.
    Idle,
    /// It took nothing of what there was for it for too long.
    SlowReader,
    /// There were as many connections as there may be, and none of them idle.
    TooManyConnections,
    /// It was idle, and others needed the room.
    Evicted,
    /// This process has no descriptor left.
    NoDescriptors,
    /// The head has too many bytes or fields.
    HeadTooLarge,
    /// It breaks the protocol.
    Malformed,
    /// It resets its streams.
    Resets,
    /// Its frames carry nothing.
    EmptyFrames,
    /// It floods in a way that HTTP/2's implementation recognises: resets before they were seen, empty or tiny DATA frames,
    /// streams beyond the limit.
    Flood,
    /// A server's frames carry nothing, or too many tiny ones wait for their clients.
    ServerFlood,
    /// The proxy holds as much memory as it may.
    Memory,
}

impl Cut {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::SlowHead,
        Self::Idle,
        Self::SlowReader,
        Self::TooManyConnections,
        Self::Evicted,
        Self::NoDescriptors,
        Self::HeadTooLarge,
        Self::Malformed,
        Self::Resets,
        Self::EmptyFrames,
        Self::Flood,
        Self::ServerFlood,
        Self::Memory,
    ];

    /// The stable word for labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlowHead => "slow-head",
            Self::Idle => "idle",
            Self::SlowReader => "slow-reader",
            Self::TooManyConnections => "too-many-connections",
            Self::Evicted => "evicted",
            Self::NoDescriptors => "no-descriptors",
            Self::HeadTooLarge => "head-too-large",
            Self::Malformed => "malformed",
            Self::Resets => "resets",
            Self::EmptyFrames => "empty-frames",
            Self::Flood => "flood",
            Self::ServerFlood => "server-flood",
            Self::Memory => "memory",
        }
    }
}

/// What a client's connection may end with.
pub trait Ending: fmt::Display {
    /// Why it ended; none: its client left.
    fn cut(&self) -> Option<Cut>;
}

impl Ending for h2::Error {
    fn cut(&self) -> Option<Cut> {
        match self.reason() {
            _ if self.is_remote() => None,
            None | Some(Reason::NO_ERROR) => None,
            Some(Reason::ENHANCE_YOUR_CALM) => Some(Cut::Flood),
            Some(_) => Some(Cut::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_number_and_its_word() {
        for (number, cut) in Cut::ALL.into_iter().enumerate() {
            assert_eq!(cut as usize, number);
            let same = Cut::ALL
                .into_iter()
                .filter(|other| other.as_str() == cut.as_str());
            assert_eq!(same.count(), 1);
        }
    }
}
