//! The parts of the command line that other crates use too: the demo's real model servers and clients.

pub mod demo;
