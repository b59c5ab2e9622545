//! The laws and words of unions: plain data and pure functions.
//!
//! Nothing here does I/O, reads a clock or starts a thread, so every rule can be
//! tried as a table. The rooms above gather facts, ask a rule, and carry it out.

pub mod access;
pub mod attr;
pub mod balance;
pub mod errno;
pub mod lookup;
pub mod move_down;
pub mod name;
pub mod options;
pub mod placement;
pub mod policy;
pub mod removal;
pub mod rename;
pub mod renamed;
pub mod stack;
pub mod whiteout;

pub use attr::{Attr, Changes, Creation, Identity, Kind, SetTime, StatFs, Time};
pub use errno::Errno;
pub use name::{InvalidName, Name};
pub use stack::{BranchIndex, CopyUpOnOpen, Powers, XattrClasses};
