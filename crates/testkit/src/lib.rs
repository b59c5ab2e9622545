//! What tests stand on: a tree in memory, faults, tree notation, a mount guard.
//!
//! [`MemoryTree`] answers as ext4 answers the superuser, errno by errno. [`Faulty`] counts the
//! writes of any tree and lets one of them fail. [`plant`] and [`draw`] turn text into
//! trees and back; [`contents`] is the same as data. [`MountGuard`] cleans up after a mounted test.

mod faulty;
mod io_uring_offer;
mod memory_tree;
mod mount_guard;
pub mod notation;

pub use faulty::{Faults, Faulty, Gone, Held};
pub use io_uring_offer::while_io_uring_is_offered;
pub use memory_tree::{Dir, File, MemoryDisk, MemoryTree};
pub use mount_guard::{MountGuard, require_root, require_root_and_fuse};
pub use notation::{contents, draw, plant};
