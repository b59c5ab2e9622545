//! Squashfs 4.0, as `Documentation/filesystems/squashfs.rst` of the kernel describes it: gzip, xz, lz4, zstd.
//!
//! Inodes, directories and tables are streams of metadata blocks, 8 KiB each once decompressed; a place in one is a reference:
//! the offset of the compressed block times 65536, plus the offset in what it holds.

mod contents;
mod directory;
mod inode;
mod metadata;
mod xattr;

use rules::{Attr, Errno, Kind, StatFs, Time};

use crate::bytes::Bytes;
use crate::cache::Cache;
use crate::decompress::Method;
use crate::{Entry, Filesystem, LINK_MAX, NodeId, Sink, Source, Unreadable, Xattr, blocks};
use inode::What;
use metadata::Block;

/// "There is none", of fragments and attributes.
const NONE: u32 = u32::MAX;
/// The same of tables.
const NO_TABLE: u64 = u64::MAX;

/// Metadata blocks that are kept: 1 MiB.
const METADATA: usize = 128;
/// Blocks of fragments that are kept: at most 4 MiB.
const FRAGMENTS: usize = 4;

/// A squashfs image.
pub struct Squashfs {
    source: Box<dyn Source>,
    method: Method,
    block_size: u32,
    block_log: u16,
    root: u64,
    inodes: u32,
    used: u64,
    fragments: u32,
    owners: u16,
    tables: Tables,
    metadata: Cache<Block>,
    fragment: Cache<Vec<u8>>,
}

/// Where the tables begin.
struct Tables {
    owners: u64,
    xattrs: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
}

impl Squashfs {
    /// Reads the superblock.
    pub fn open(source: Box<dyn Source>) -> Result<Self, Unreadable> {
        let head = blocks::array::<96>(&*source, 0)?;
        let mut head = Bytes(&head);
        if head.take(4)? != b"hsqs" {
            return Err(Unreadable::Damaged("no squashfs"));
        }
        let inodes = head.u32()?;
        let _made = head.u32()?;
        let block_size = head.u32()?;
        let fragments = head.u32()?;
        let compressor = head.u16()?;
        let block_log = head.u16()?;
        let _flags = head.u16()?;
        let owners = head.u16()?;
        let version = (head.u16()?, head.u16()?);
        if version != (4, 0) {
            let (major, minor) = version;
            let what = format!("squashfs {major}.{minor}: only 4.0 can be read");
            return Err(Unreadable::Unsupported(what));
        }
        if !(12..=20).contains(&block_log) || block_size != 1 << block_log {
            return Err(Unreadable::Damaged("the size of a block"));
        }
        let method = match compressor {
            1 => Method::Zlib,
            4 => Method::Xz,
            5 => Method::Lz4,
            6 => Method::Zstd,
            other => {
                let name = match other {
                    2 => "lzma",
                    3 => "lzo",
                    _ => "something unknown",
                };
                let what = format!("squashfs compressed with {name}: only the kernel may read it");
                return Err(Unreadable::Unsupported(what));
            }
        };
        let root = head.u64()?;
        let used = head.u64()?;
        let owners_table = head.u64()?;
        let xattrs = head.u64()?;
        let image = Self {
            method,
            block_size,
            block_log,
            root,
            inodes,
            used,
            fragments,
            owners,
            tables: Tables {
                owners: owners_table,
                xattrs,
                inodes: head.u64()?,
                directories: head.u64()?,
                fragments: head.u64()?,
            },
            metadata: Cache::new(METADATA),
            fragment: Cache::new(FRAGMENTS),
            source,
        };
        match image.inode(NodeId(root))?.what {
            What::Dir { .. } => Ok(image),
            _ => Err(Unreadable::Damaged("the root is no directory")),
        }
    }
}

impl Filesystem for Squashfs {
    fn root(&self) -> NodeId {
        NodeId(self.root)
    }

    fn attr(&self, node: NodeId) -> Result<Attr, Errno> {
        let inode = self.inode(node)?;
        let time = Time {
            seconds: inode.mtime.into(),
            nanos: 0,
        };
        let size = inode.size();
        Ok(Attr {
            dev: 0,
            ino: inode.number.into(),
            kind: inode.what.kind(),
            perm: inode.perm,
            nlink: inode.nlink,
            uid: self.owner(inode.owner)?,
            gid: self.owner(inode.group)?,
            rdev: match inode.what {
                What::Device { rdev, .. } => rdev.into(),
                _ => 0,
            },
            size,
            blocks: match inode.what {
                What::File { sparse, .. } => size.saturating_sub(sparse).div_ceil(512),
                _ => 0,
            },
            block_size: self.block_size,
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            immutable: false,
        })
    }

    fn entries(&self, dir: NodeId) -> Result<Vec<Entry>, Errno> {
        self.list(&self.inode(dir)?)
    }

    fn link_target(&self, link: NodeId) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(link)?;
        let What::Symlink { length } = inode.what else {
            return Err(Errno::INVAL);
        };
        let length = crate::bytes::at_most(length.into(), LINK_MAX)?;
        let mut rest = inode.rest;
        self.take(&mut rest, length)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Xattr>, Errno> {
        self.xattrs_of(&self.inode(node)?)
    }

    fn contents(&self, file: NodeId, sink: Sink<'_>) -> Result<(), Errno> {
        self.hand_out(&self.inode(file)?, sink)
    }

    fn stat_fs(&self) -> StatFs {
        let blocks = self.used.div_ceil(self.block_size.into());
        crate::full(blocks, self.block_size, self.inodes.into(), 256)
    }
}

impl What {
    fn kind(&self) -> Kind {
        match self {
            Self::Dir { .. } => Kind::Dir,
            Self::File { .. } => Kind::File,
            Self::Symlink { .. } => Kind::Symlink,
            Self::Device { kind, .. } | Self::Other(kind) => *kind,
        }
    }
}
