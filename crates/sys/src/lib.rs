//! The one room with all system calls and all `unsafe`.
//!
//! The host's [`tree::Tree`] is [`HostTree`]. Beside it live the other things a union
//! filesystem asks of Linux: the FUSE device, mounting, becoming a daemon, signals, and
//! looking at other processes. Nothing here prints or reads the environment.

pub mod branch_tree;
pub mod busy;
pub mod caller;
pub mod capabilities;
pub mod daemon;
mod errno;
pub mod footprint;
pub mod fuse_device;
pub mod fusermount;
pub mod host_tree;
pub mod identity;
pub mod image;
pub mod limits;
pub mod mapping;
pub mod mount_table;
pub mod mounting;
pub mod notify;
pub mod pages;
mod proc;
pub mod processes;
pub mod processors;
pub mod readahead;
pub mod request_ring;
pub mod signals;
mod waiting;

pub use branch_tree::{BranchDir, BranchFile, BranchTree};
pub use fuse_device::FuseDevice;
pub use host_tree::{HostDir, HostFile, HostTree};
