//! Why a connection in HTTP/1.1 ended before its time.

use std::fmt;
use std::io;

use crate::body::BodyError;
use crate::cut::{Cut, Ending};
use crate::http1::{Refused, Short};

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client has left.
    Left,
    /// What it sent is no request.
    Refused(Refused),
    /// The connection broke.
    Broken(io::Error),
    /// There is no more of an answer although it is not over.
    Answer(BodyError),
}

impl From<Short> for Ended {
    fn from(short: Short) -> Self {
        Self::Answer(short.into())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("the client has left"),
            Self::Refused(refused) => write!(f, "a request was refused: {refused}"),
            Self::Broken(error) => write!(f, "{error}"),
            Self::Answer(error) => write!(f, "an answer was not sent whole: {error}"),
        }
    }
}

impl Ending for Ended {
    fn cut(&self) -> Option<Cut> {
        match self {
            Self::Refused(Refused::TooLarge) => Some(Cut::HeadTooLarge),
            Self::Refused(Refused::TargetTooLong | Refused::Malformed(_)) => Some(Cut::Malformed),
            Self::Left | Self::Broken(_) | Self::Answer(_) => None,
        }
    }
}
