//! From a command line to a served mount.
//!
//! Everything that can be wrong with the request is found before anything is made:
//! [`plan::Plan`] holds open branches and checked places. [`attach`] mounts, [`serve`] is the life
//! of the server, and [`live`] how it changes meanwhile.

pub(crate) mod attach;
pub(crate) mod branches;
pub(crate) mod chain_index;
pub(crate) mod image;
pub(crate) mod inode_table;
pub(crate) mod live;
mod move_down;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod predecessor;
pub(crate) mod request;
pub(crate) mod serve;
pub(crate) mod translate;
pub(crate) mod unsupported;
