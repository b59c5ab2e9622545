//! The file that says what a chain of read-only branches shows: bytes in, answers out.
//!
//! It holds, for each merged directory, which directories of the branches are merged, every name that they have with what each branch
//! has under it, and the attributes of what is shown. A program maps it and asks; nothing is unpacked. The format is drawn in
//! `docs/formats/chain-index.md`.
//!
//! Bytes are never trusted: every offset and length is checked, each part has a checksum, and what does not fit is an error with its
//! reason, never a panic. The same input gives the same bytes.

mod bytes;
mod layout;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::{ChainIndex, Directory, Entry};
pub use write::{NewDirectory, NewEntry, NotIndexed, Writer};

use rules::Time;

/// How the branches were read: what counts as a whiteout and as a mark of an opaque directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// AUFS's marks.
    Aufs,
    /// AUFS's and overlay's, the latter in `trusted.` or `user.` attributes.
    OverlayTrusted,
    /// AUFS's and overlay's, the latter in `user.` attributes only.
    OverlayUser,
}

/// A branch of the chain, as its root was when the index was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// What the filesystem calls itself; 0 when it says nothing.
    pub fsid: u64,
    /// The number of the filesystem, which may be another after the next start of the system.
    pub dev: u64,
    /// Inode number of the root.
    pub ino: u64,
    /// When names in the root changed last.
    pub mtime: Time,
    /// When the root changed last.
    pub ctime: Time,
    /// Whether whiteouts and opaque marks of this branch count.
    pub whiteouts: bool,
}

impl Layer {
    /// Returns whether a branch is what it was when the index was made. A filesystem that names itself is known by that name.
    pub fn is(&self, now: &Self) -> bool {
        let named = self.fsid != 0 && now.fsid != 0;
        let dev = if named { now.dev } else { self.dev };
        Self { dev, ..*self } == *now
    }
}

/// A directory of a branch that is part of a merged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The branch, 0 for the topmost of the chain.
    pub layer: u16,
    /// Its count of links.
    pub nlink: u32,
    /// Inode number.
    pub ino: u64,
    /// When names in it changed last.
    pub mtime: Time,
    /// When it changed last.
    pub ctime: Time,
}

/// Why bytes are no index that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The first bytes are other ones.
    #[error("not an index of branches")]
    NotAnIndex,
    /// Another program wrote it.
    #[error("version {0} of the format, this program reads version {VERSION}")]
    Version(u32),
    /// Some of it is missing, or there is more than there should be.
    #[error("{0} bytes, which is not its length")]
    Length(u64),
    /// A part does not have its checksum, or says something impossible.
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// The version of the format.
pub const VERSION: u32 = 1;
