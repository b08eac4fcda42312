//! The sidecar: routes, secures and records model requests.

pub mod apply;
pub mod authorize;
pub mod balance;
pub mod body;
pub mod connect;
pub mod drain;
pub mod error;
pub mod forward;
pub mod headers;
pub mod inbound;
pub mod io;
pub mod listen;
pub mod observe;
pub mod outbound;
pub mod pool;
pub mod read_ahead;
pub mod shared;
pub mod table;
pub mod tcp;
pub mod tls;
pub mod worker;
