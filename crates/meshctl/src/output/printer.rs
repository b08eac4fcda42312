//! The one way out: data on standard output, everything else on standard error.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use super::Style;
use super::text::Text;
use crate::error::{Failure, Outcome};

/// In which form data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For people with wide terminals: more columns
    Wide,
    /// For machines
    Json,
    /// For machines and people
    Yaml,
    /// A graph for Graphviz (`routes` alone)
    Dot,
    /// A graph for Mermaid (`routes` alone)
    Mermaid,
}

/// Where everything that is printed goes through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer;

impl Printer {
    /// Prints data on standard output.
    ///
    /// # Errors
    /// [`Failure::NobodyReads`] when the reader is gone.
    pub(crate) fn data(self, text: &str) -> Outcome {
        let mut out = anstream::stdout().lock();
        written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// Prints data as JSON or YAML.
    pub(crate) fn machine(self, format: Format, value: &impl Serialize) -> Outcome {
        let text = match format {
            Format::Yaml => serde_saphyr::to_string(value).context("cannot write YAML")?,
            _ => serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n",
        };
        self.data(&text)
    }

    /// Shows data over what was shown before, on a terminal; elsewhere one after the other.
    pub(crate) fn frame(self, text: &str) -> Outcome {
        if io::stdout().is_terminal() {
            self.data(&format!("\u{1b}[H\u{1b}[2J{text}"))
        } else {
            self.data(&format!("{text}\n"))
        }
    }

    /// Says something on standard error.
    pub(crate) fn say(self, text: impl Into<Text>) {
        // When nobody reads standard error, nobody can be told.
        let _ = writeln!(anstream::stderr().lock(), "{}", text.into().ansi());
    }

    /// Says lines that are styled already on standard error.
    pub(crate) fn say_lines(self, text: &str) {
        let _ = write!(anstream::stderr().lock(), "{text}");
    }

    /// Says what went wrong.
    pub(crate) fn error(self, text: &str) {
        self.lines(Style::Bad, "error:", text);
    }

    /// Says what is to be looked at.
    pub(crate) fn warn(self, text: &str) {
        self.lines(Style::Warn, "warning:", text);
    }

    /// Says what to do.
    pub(crate) fn hint(self, text: &str) {
        self.lines(Style::Good, "hint:", text);
    }

    fn lines(self, style: Style, word: &str, text: &str) {
        let mut lines = text.lines();
        self.say(Text::styled(style, word).plain(format!(" {}", lines.next().unwrap_or_default())));
        lines.for_each(|line| self.say(line));
    }

    /// How wide lines should be, in columns: the terminal's width, or 100 if it does not tell a sensible one. What goes
    /// to a file or another program is not cut.
    pub(crate) fn width(self) -> usize {
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col >= 40 => usize::from(size.ws_col),
            Ok(_) => 100,
            Err(_) => usize::MAX,
        }
    }
}

fn written(result: io::Result<()>) -> Outcome {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::NobodyReads),
        other => Ok(other.context("cannot write to standard output")?),
    }
}
