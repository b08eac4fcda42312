//! Why a command ends without having done its work, and the exit code that says so: 1 failed, 2 usage.

use std::fmt;
use std::process::ExitCode;

use crate::output::Printer;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told, with hints about what to do.
    Told {
        /// What went wrong.
        error: anyhow::Error,
        /// What to do about it.
        hints: Vec<String>,
    },
    /// The command was called in a way that can't work.
    Usage(String),
    /// All was told already.
    Silent,
    /// Nobody reads standard output any more: no error.
    NobodyReads,
}

/// What commands return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with its message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::from(anyhow::Error::msg(message.into()))
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told { hints, .. } = &mut self {
            hints.push(hint.into());
        }
        self
    }

    /// Tells it on standard error, and gives the process's exit code.
    pub(crate) fn report(&self, printer: &Printer) -> ExitCode {
        match self {
            Self::Told { error, hints } => {
                printer.error(&format!("{error:#}"));
                for hint in hints {
                    printer.hint(hint);
                }
                ExitCode::from(1)
            }
            Self::Usage(message) => {
                printer.error(message);
                printer.hint("`meshctl help` and `meshctl help COMMAND` show what can be written");
                ExitCode::from(2)
            }
            Self::Silent => ExitCode::from(1),
            Self::NobodyReads => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { error, .. } => write!(f, "{error:#}"),
            Self::Usage(message) => f.write_str(message),
            Self::Silent => f.write_str("failed"),
            Self::NobodyReads => f.write_str("nobody reads the output"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Told {
            error: error.into(),
            hints: Vec::new(),
        }
    }
}
