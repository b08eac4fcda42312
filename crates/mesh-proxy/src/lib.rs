//! The sidecar: routes, secures and records model requests.

pub mod admin;
pub mod app;
pub mod apply;
pub mod authorize;
pub mod balance;
pub mod body;
pub mod config;
pub mod connect;
pub mod control;
pub mod credentials;
pub mod drain;
pub mod error;
pub mod forward;
pub mod headers;
pub mod inbound;
pub mod intercept;
pub mod io;
pub mod listen;
pub mod observe;
pub mod outbound;
pub mod persist;
pub mod pool;
pub mod read_ahead;
pub mod shared;
pub mod state;
pub mod table;
pub mod tcp;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod worker;
