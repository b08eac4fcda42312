//! Reading model requests: protocol → model, version, operation.

mod name;
mod operation;
mod protocol;
mod refusal;

pub use name::{ModelName, ModelVersion};
pub use operation::{Operation, UnknownOperation};
pub use protocol::{AppProtocol, UnknownProtocol};
pub use refusal::{Refusal, RefusalReason};
