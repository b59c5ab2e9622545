//! The kernel's requests in, calls of the union out.
//!
//! FUSE is spoken here directly, over io_uring or `/dev/fuse`: [`protocol`] knows the bytes,
//! [`transport`] moves them, and handlers translate between them and [`union::Union`].
//! What belongs to neither side is beside them: which files the kernel may read and write
//! on its own (`passthrough`), telling it that what it caches is wrong (`invalidation`), and
//! what the union finishes later (`background`).
//!
//! Who mounts brings an open device; a [`Server`] answers on it until it is unmounted.
#![forbid(unsafe_code)]

mod background;
mod control;
mod counters;
mod directory_handles;
mod executed;
mod greeting;
mod handlers;
mod id_map;
mod invalidation;
mod negotiation;
mod observer;
mod options;
mod passthrough;
pub mod protocol;
mod server;
mod session;
mod threads;
pub mod transport;
mod watching;

pub use control::Control;
pub use counters::Counters;
pub use id_map::{IdMap, Mapping, Range, Squash};
pub use negotiation::MAX_DATA;
pub use options::{CachePolicy, FOREVER, ServeOptions};
pub use server::{ServeError, Server};
pub use transport::{NoRing, Way};
