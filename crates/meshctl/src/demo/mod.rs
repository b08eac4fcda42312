//! Real model servers and clients for the demo and the end-to-end tests: how they get onto a fresh machine
//! ([`provision()`]), and how each of them is run ([`servers`]).
//!
//! Everything lives in one folder of its own ([`home`]): a Python environment with NVIDIA Triton, MLServer and the
//! official clients, llama-server (or LitServe, where it cannot be had), and small models made on the spot. Nothing is
//! installed into the system, and removing the folder removes all of it.

mod assets;
mod chat;
mod installer;
mod layout;
mod llama;
mod pip_config;
mod problem;
mod provision;
mod python;
mod run;
pub mod servers;
mod stamp;

pub use chat::ChatServer;
pub use layout::{HOME_VARIABLE, home};
pub use problem::Problem;
pub use provision::{Kit, Part, Report, State, Step, provision};
pub use python::PYTHON_VARIABLE;
