//! The bodies that pass through: never copied, counted on the way, and closing what they hold when they end.

mod from_client;
mod request;
mod response;
mod sending;
mod server;
mod streamed;
mod upload;

pub(crate) use from_client::announced;
pub use from_client::{BrokenOff, ClientBody, FromClient, Incoming};
pub(crate) use request::refused;
pub use request::{RequestBody, Source};
pub(crate) use response::grpc_status;
pub use response::{InFlight, Progress, ResponseBody, Upstream};
pub use sending::Sending;
pub(crate) use sending::poll_room;
pub use server::{ServerBody, ServerError};
pub use upload::Upload;

/// What a body may fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
