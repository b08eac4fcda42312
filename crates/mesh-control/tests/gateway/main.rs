//! Routes of the Gateway API as rules of the one Route model, and what their status says: tables of cases.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod precedence;
mod requests;
mod scene;
mod status;
