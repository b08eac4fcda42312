//! Where documents come from, as events for the index.

pub mod directory;
pub mod kubernetes;
pub mod watch;
