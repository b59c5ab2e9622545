//! Filesystem images, read without the kernel: squashfs, erofs and ISO 9660.
//!
//! An image is bytes at offsets ([`Source`]) and becomes a [`Filesystem`]: nodes with attributes, names, attributes of users and
//! contents. Nothing here makes a system call or writes.
//!
//! Images come from anybody. What they say is checked before it is used: every offset, length and count. What one call keeps in
//! memory is bounded by constants, whatever the image says; contents go to the caller piece by piece. A directory
//! that contains itself is the caller's to notice: nothing here walks down on its own. A damaged image gives `EIO`, as the kernel does.

mod blocks;
mod bytes;
mod cache;
mod decompress;
mod erofs;
mod iso9660;
mod squashfs;
#[cfg(test)]
mod tests;

use rules::{Attr, Errno, Kind, Name, StatFs};

pub use erofs::Erofs;
pub use iso9660::Iso9660;
pub use squashfs::Squashfs;

/// The bytes of an image.
pub trait Source: Send + Sync {
    /// Fills the buffer from an offset; `EIO` when the image ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Errno>;

    /// Returns how many bytes there are.
    fn size(&self) -> u64;
}

/// An object in an image, as its filesystem addresses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A name in a directory of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Name,
    /// The kind, where the directory tells it.
    pub kind: Option<Kind>,
    /// What has the name.
    pub node: NodeId,
    /// Its inode number.
    pub ino: u64,
}

/// Takes contents: an offset, and the bytes there. What is never given is zeros.
pub type Sink<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), Errno>;

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Returns the space of an image, in which nothing is free. It has no device number of its own.
fn full(blocks: u64, block_size: u32, files: u64, name_max: u32) -> StatFs {
    StatFs {
        dev: 0,
        fsid: 0,
        blocks,
        blocks_free: 0,
        blocks_available: 0,
        files,
        files_free: 0,
        block_size,
        fragment_size: block_size,
        name_max,
    }
}

/// A filesystem in an image.
pub trait Filesystem: Send + Sync {
    /// Returns the root directory.
    fn root(&self) -> NodeId;

    /// Returns the attributes of a node; `dev` is 0.
    fn attr(&self, node: NodeId) -> Result<Attr, Errno>;

    /// Returns the names in a directory, each once, without `.` and `..`. `ENOTDIR` for others.
    fn entries(&self, dir: NodeId) -> Result<Vec<Entry>, Errno>;

    /// Returns the target of a symbolic link. `EINVAL` for others.
    fn link_target(&self, link: NodeId) -> Result<Vec<u8>, Errno>;

    /// Returns the extended attributes.
    fn xattrs(&self, node: NodeId) -> Result<Vec<Xattr>, Errno>;

    /// Hands out the contents of a regular file, from its start to its end. `EINVAL` for others.
    fn contents(&self, file: NodeId, sink: Sink<'_>) -> Result<(), Errno>;

    /// Returns how large the filesystem is.
    fn stat_fs(&self) -> StatFs;
}

/// Why an image cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The bytes cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The image is not what its magic number says.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// The image uses something that only the kernel reads.
    #[error("{0}")]
    Unsupported(String),
}

/// The errno that reading an image gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub Errno);

impl From<Errno> for Unreadable {
    fn from(errno: Errno) -> Self {
        Self::Source(SourceError(errno))
    }
}

/// Most names that a directory may have here: they are kept in memory while it is in use.
const NAMES: usize = 1 << 20;

/// Longest name.
const NAME_MAX: usize = 255;

/// Longest target of a symbolic link (`PATH_MAX` with its NUL).
const LINK_MAX: usize = 4095;

/// Most bytes that all attributes of one node may have here.
const XATTRS: usize = 16 << 20;

/// Adds an entry; the first of a name counts, once [`finished`] was called.
fn add(entries: &mut Vec<Entry>, entry: Entry) -> Result<(), Errno> {
    if entries.len() == NAMES {
        return Err(Errno::IO);
    }
    entries.push(entry);
    Ok(())
}

/// Returns the entries by name, each name once.
fn finished(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup_by(|later, first| later.name == first.name);
    entries
}
