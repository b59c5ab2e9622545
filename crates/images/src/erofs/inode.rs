//! Inodes, in their short and their long form.

use rules::{Errno, Kind, Time};

use super::Erofs;
use crate::NodeId;
use crate::blocks;
use crate::bytes::{Bytes, product, sum};

/// Inodes are numbered by units of their short form.
const SHORT: u64 = 32;
const LONG: u64 = 64;

/// How the contents are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Blocks one after another.
    Plain,
    /// The same, but what does not fill the last block follows the inode.
    Inline,
    /// Chunks anywhere.
    Chunks,
    /// Compressed, with one index of eight bytes for each cluster.
    Full,
    /// Compressed, with packed indexes.
    Packed,
}

/// An inode.
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) perm: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) layout: Layout,
    /// First block, device, or format of the chunks.
    pub(super) data: u32,
    /// Where the extended attributes begin.
    pub(super) xattrs: u64,
    /// How long they are; 0: there are none.
    pub(super) xattrs_length: usize,
}

impl Inode {
    /// Returns where it ends: what belongs to the contents follows there.
    pub(super) fn end(&self) -> u64 {
        self.xattrs + self.xattrs_length as u64
    }
}

impl Erofs {
    /// Reads an inode by its number.
    pub(super) fn inode(&self, node: NodeId) -> Result<Inode, Errno> {
        let start = sum(self.metadata, product(node.0, SHORT)?)?;
        let head = blocks::array::<32>(&*self.source, start)?;
        let mut head = Bytes(&head);
        let format = head.u16()?;
        let is_long = format & 1 != 0;
        let layout = match format >> 1 & 7 {
            0 => Layout::Plain,
            1 => Layout::Full,
            2 => Layout::Inline,
            3 => Layout::Packed,
            4 => Layout::Chunks,
            _ => return Err(Errno::IO),
        };
        let xattrs_length = match usize::from(head.u16()?) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        let mode = u32::from(head.u16()?);
        let short_links = head.u16()?;
        let mut inode = Inode {
            kind: Kind::of_mode(mode).ok_or(Errno::IO)?,
            perm: mode & 0o7777,
            nlink: short_links.into(),
            uid: 0,
            gid: 0,
            size: 0,
            mtime: self.made,
            layout,
            data: 0,
            xattrs: sum(start, if is_long { LONG } else { SHORT })?,
            xattrs_length,
        };
        sum(inode.xattrs, 1 << 20)?;
        if is_long {
            inode.size = head.u64()?;
            inode.data = head.u32()?;
            head.u32()?;
            (inode.uid, inode.gid) = (head.u32()?, head.u32()?);
            let rest = blocks::array::<32>(&*self.source, sum(start, SHORT)?)?;
            let mut rest = Bytes(&rest);
            inode.mtime = Time {
                seconds: rest.u64()?.cast_signed(),
                nanos: rest.u32()?.min(999_999_999),
            };
            inode.nlink = rest.u32()?;
        } else {
            inode.size = head.u32()?.into();
            head.u32()?;
            inode.data = head.u32()?;
            head.u32()?;
            (inode.uid, inode.gid) = (head.u16()?.into(), head.u16()?.into());
        }
        Ok(inode)
    }
}
