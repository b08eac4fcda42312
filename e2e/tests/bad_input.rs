//! Acceptance: 60 bad inputs at least (YAML, flags, wire bytes, HTTP smuggling attempts, duplicate `model` keys, encoded
//! paths; certificates are in `identity.rs`): each a clear error, no panic, nothing opened wider.

#[path = "bad_input/documents.rs"]
mod documents;
#[path = "bad_input/flags.rs"]
mod flags;
#[path = "bad_input/requests.rs"]
mod requests;
#[path = "bad_input/wire.rs"]
mod wire;
