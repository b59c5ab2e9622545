//! The words of the kernel: FUSE 7.31 to 7.45 as bytes.
//!
//! Requests are read in place and replies are built in place: nothing here allocates.
//! Input that breaks the format is [`Malformed`], never a panic.

pub mod arguments;
pub mod attributes;
pub mod header;
pub mod init;
pub mod listing;
pub mod notification;
pub mod opcode;
pub mod payload;
pub mod replies;
pub mod request;
mod set_attr;

pub use arguments::{Arguments, Malformed};
pub use header::{Header, Message};
pub use opcode::Opcode;
pub use payload::Payload;
pub use request::{Dialect, Request};
