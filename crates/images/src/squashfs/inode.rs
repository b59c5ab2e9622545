//! Inodes: what an object is, without its contents.

use rules::{Errno, Kind};

use super::metadata::Place;
use super::{NONE, Squashfs};
use crate::NodeId;
use crate::bytes::Bytes;

/// An inode.
pub(super) struct Inode {
    pub(super) perm: u32,
    /// Index of the owner.
    pub(super) owner: u16,
    /// Index of the group.
    pub(super) group: u16,
    pub(super) mtime: u32,
    pub(super) number: u32,
    pub(super) nlink: u32,
    /// Index of the extended attributes, or [`NONE`].
    pub(super) xattrs: u32,
    pub(super) what: What,
    /// What follows: the target of a link, the sizes of a file's blocks.
    pub(super) rest: Place,
}

/// What an inode is about.
pub(super) enum What {
    Dir {
        block: u32,
        offset: u16,
        /// Of its entries, and 3 for `.` and `..`.
        size: u32,
    },
    File {
        start: u64,
        size: u64,
        /// Bytes in holes.
        sparse: u64,
        fragment: u32,
        offset: u32,
    },
    Symlink {
        length: u32,
    },
    Device {
        kind: Kind,
        rdev: u32,
    },
    Other(Kind),
}

impl Inode {
    pub(super) fn size(&self) -> u64 {
        match self.what {
            What::Dir { size, .. } => size.into(),
            What::File { size, .. } => size,
            What::Symlink { length } => length.into(),
            What::Device { .. } | What::Other(_) => 0,
        }
    }
}

impl Squashfs {
    /// Reads an inode, by its reference.
    pub(super) fn inode(&self, node: NodeId) -> Result<Inode, Errno> {
        let mut rest = Place::of_reference(self.tables.inodes, node.0)?;
        let head = self.take(&mut rest, 16)?;
        let mut head = Bytes(&head);
        let kind = head.u16()?;
        let perm = u32::from(head.u16()?) & 0o7777;
        let (owner, group) = (head.u16()?, head.u16()?);
        let (mtime, number) = (head.u32()?, head.u32()?);
        // The types from 8 on have what those from 1 on leave out.
        let length = match kind {
            1 | 2 => 16,
            8 => 24,
            9 => 40,
            11 | 12 => 12,
            3..=5 | 10 | 13 | 14 => 8,
            6 | 7 => 4,
            _ => return Err(Errno::IO),
        };
        let fields = self.take(&mut rest, length)?;
        let mut fields = Bytes(&fields);
        let (nlink, xattrs, what) = match kind {
            1 => dir(&mut fields)?,
            8 => long_dir(&mut fields)?,
            2 => file(&mut fields)?,
            9 => long_file(&mut fields)?,
            3 | 10 => {
                let nlink = fields.u32()?;
                let length = fields.u32()?;
                let xattrs = if kind == 10 {
                    self.after_target(rest, length)?
                } else {
                    NONE
                };
                (nlink, xattrs, What::Symlink { length })
            }
            4 | 5 | 11 | 12 => {
                let nlink = fields.u32()?;
                let rdev = fields.u32()?;
                let kind = if matches!(kind, 4 | 11) {
                    Kind::BlockDevice
                } else {
                    Kind::CharDevice
                };
                let xattrs = fields.u32().unwrap_or(NONE);
                (nlink, xattrs, What::Device { kind, rdev })
            }
            _ => {
                let nlink = fields.u32()?;
                let kind = if matches!(kind, 6 | 13) {
                    Kind::Fifo
                } else {
                    Kind::Socket
                };
                (nlink, fields.u32().unwrap_or(NONE), What::Other(kind))
            }
        };
        Ok(Inode {
            perm,
            owner,
            group,
            mtime,
            number,
            nlink,
            xattrs,
            what,
            rest,
        })
    }

    fn after_target(&self, mut rest: Place, length: u32) -> Result<u32, Errno> {
        let length = crate::bytes::at_most(length.into(), crate::LINK_MAX)?;
        self.take(&mut rest, length)?;
        Bytes(&self.take(&mut rest, 4)?).u32()
    }
}

type Fields = (u32, u32, What);

fn dir(fields: &mut Bytes<'_>) -> Result<Fields, Errno> {
    let block = fields.u32()?;
    let nlink = fields.u32()?;
    let size = u32::from(fields.u16()?);
    let offset = fields.u16()?;
    let what = What::Dir {
        block,
        offset,
        size,
    };
    Ok((nlink, NONE, what))
}

fn long_dir(fields: &mut Bytes<'_>) -> Result<Fields, Errno> {
    let nlink = fields.u32()?;
    let size = fields.u32()?;
    let block = fields.u32()?;
    let (_parent, _index) = (fields.u32()?, fields.u16()?);
    let offset = fields.u16()?;
    let what = What::Dir {
        block,
        offset,
        size,
    };
    Ok((nlink, fields.u32()?, what))
}

fn file(fields: &mut Bytes<'_>) -> Result<Fields, Errno> {
    let start = fields.u32()?.into();
    let fragment = fields.u32()?;
    let offset = fields.u32()?;
    let size = fields.u32()?.into();
    let what = What::File {
        start,
        size,
        sparse: 0,
        fragment,
        offset,
    };
    Ok((1, NONE, what))
}

fn long_file(fields: &mut Bytes<'_>) -> Result<Fields, Errno> {
    let start = fields.u64()?;
    let size = fields.u64()?;
    let sparse = fields.u64()?;
    let nlink = fields.u32()?;
    let fragment = fields.u32()?;
    let offset = fields.u32()?;
    let what = What::File {
        start,
        size,
        sparse,
        fragment,
        offset,
    };
    Ok((nlink, fields.u32()?, what))
}
