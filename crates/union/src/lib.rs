//! The union engine: branches, inodes, and one file per family of operations.
//!
//! It makes no system call and knows no FUSE: it asks [`tree::Tree`]s and follows `rules`.

mod api;
mod attr;
mod branch;
pub mod branch_tools;
mod chain;
mod copy;
mod copy_up;
mod create;
mod data;
mod dialect;
mod direct;
mod error;
mod failing;
mod gate;
mod index;
mod inode;
mod kept_times;
mod known;
mod link;
mod listing;
mod lookup;
mod lower_permissions;
mod members;
mod memory;
mod move_down;
mod name_table;
mod notes;
mod on_open;
mod open_file;
mod origin;
mod pending;
mod placement;
mod pseudo_link;
mod reading;
mod relocate;
mod remove;
mod rename;
mod renamed;
mod restack;
mod settings;
mod shown_marks;
mod told;
mod union;
mod users;
mod xattr;

pub use api::{
    BranchId, Caller, DirectChange, Entry, InodeId, Listed, Observer, OpenFlags, Opened, Watcher,
};
pub use branch::Branch;
pub use chain::{BuildError, Built, IndexBytes, Unfit};
pub use error::{Error, Refusal, Result};
pub use gate::Passage;
pub use listing::DirStream;
pub use memory::Memory;
pub use move_down::Stays;
pub use open_file::{Attached, OpenFile};
pub use renamed::{Below, Told, hides, origins, told, tree_id};
pub use restack::RestackError;
pub use settings::{DialectKind, DirectChanges, OverlayMarks, Settings};
pub use union::{OpenError, Union};
pub use users::{InTheWay, Usage};
