//! Which server speaks the OpenAI API in the demo: llama-server where it can be had, else LitServe.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::llama::Llama;

/// The OpenAI-compatible server that was chosen, shown as one line that says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatServer(pub(super) Choice);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Choice {
    /// The real thing, with a language model of half a megabyte.
    Llama(Llama),
    /// A server that repeats the prompt, because of this reason.
    LitServe(String),
}

impl ChatServer {
    /// The server's own name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Choice::Llama(_) => "llama-server",
            Choice::LitServe(_) => "litserve",
        }
    }
}

impl fmt::Display for ChatServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Choice::Llama(_) => f.write_str("llama-server, from Debian's packages"),
            Choice::LitServe(reason) => write!(f, "LitServe instead of llama-server: {reason}"),
        }
    }
}
