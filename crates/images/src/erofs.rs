//! Erofs, as `Documentation/filesystems/erofs.rst` of the kernel and `erofs_fs.h` (here by its Apache licence) describe it:
//! plain, inline and chunked files, and files compressed with lz4. Newer compressions, fragments and images
//! with further devices are refused.

mod clusters;
mod compressed;
mod contents;
mod directory;
mod inode;
mod xattr;

use rules::{Attr, Errno, Kind, StatFs, Time};

use crate::bytes::{Bytes, at_most, product};
use crate::{Entry, Filesystem, LINK_MAX, NodeId, Sink, Source, Unreadable, Xattr, blocks};

/// Where the superblock is.
const SUPERBLOCK: u64 = 1024;

/// Features that an image may need: padding of lz4, compression settings and large clusters, chunks, and
/// either a second algorithm or a table of devices.
const PADDED_LZ4: u32 = 0x1;
const SETTINGS: u32 = 0x2;
const CHUNKS: u32 = 0x4;
const SECOND_OR_DEVICES: u32 = 0x8;
const KNOWN: u32 = PADDED_LZ4 | SETTINGS | CHUNKS | SECOND_OR_DEVICES;

/// The algorithms that an image with [`SETTINGS`] may say it uses, by number.
const ALGORITHMS: [&str; 4] = ["lz4", "lzma", "deflate", "zstd"];

/// An erofs image.
pub struct Erofs {
    source: Box<dyn Source>,
    block_bits: u8,
    root: u64,
    inodes: u64,
    made: Time,
    blocks: u32,
    metadata: u64,
    shared_xattrs: u64,
    /// Whether lz4 blocks are at the end of their clusters.
    padded: bool,
}

impl Erofs {
    /// Reads the superblock.
    pub fn open(source: Box<dyn Source>) -> Result<Self, Unreadable> {
        let head = blocks::array::<128>(&*source, SUPERBLOCK)?;
        let mut head = Bytes(&head);
        if head.take(4)? != [0xe2, 0xe1, 0xf5, 0xe0] {
            return Err(Unreadable::Damaged("no erofs"));
        }
        let (_checksum, _compatible) = (head.u32()?, head.u32()?);
        let block_bits = head.u8()?;
        let _slots = head.u8()?;
        let root = head.u16()?.into();
        let inodes = head.u64()?;
        let made = Time {
            seconds: head.u64()?.cast_signed(),
            nanos: head.u32()?.min(999_999_999),
        };
        let count = head.u32()?;
        let (metadata, shared_xattrs) = (head.u32()?, head.u32()?);
        head.take(32)?;
        let features = head.u32()?;
        let algorithms = head.u16()?;
        let devices = head.u16()?;
        let _slot = head.u16()?;
        let dir_block_bits = head.u8()?;
        if !(9..=16).contains(&block_bits) || dir_block_bits != 0 {
            return Err(Unreadable::Damaged("the size of a block"));
        }
        refuse(features, algorithms, devices)?;
        let block_size = 1u64 << block_bits;
        let image = Self {
            block_bits,
            root,
            inodes,
            made,
            blocks: count,
            metadata: product(metadata.into(), block_size)?,
            shared_xattrs: product(shared_xattrs.into(), block_size)?,
            padded: features & PADDED_LZ4 != 0,
            source,
        };
        match image.inode(NodeId(root))?.kind {
            Kind::Dir => Ok(image),
            _ => Err(Unreadable::Damaged("the root is no directory")),
        }
    }

    fn block_size(&self) -> u32 {
        1 << self.block_bits
    }
}

/// Refuses what only the kernel reads.
fn refuse(features: u32, algorithms: u16, devices: u16) -> Result<(), Unreadable> {
    let what = if features & !KNOWN != 0 {
        let unknown = features & !KNOWN;
        format!("erofs with features {unknown:#x}: only the kernel may read it")
    } else if devices > 0 {
        "erofs on several devices: only the kernel may read it".to_owned()
    } else if features & SETTINGS != 0 && algorithms > 1 {
        let others = (1..16).find(|bit| algorithms & 1 << bit != 0).unwrap_or(0);
        let name = ALGORITHMS.get(others).unwrap_or(&"something unknown");
        format!("erofs compressed with {name}: only the kernel may read it; lz4 can be read")
    } else {
        return Ok(());
    };
    Err(Unreadable::Unsupported(what))
}

impl Filesystem for Erofs {
    fn root(&self) -> NodeId {
        NodeId(self.root)
    }

    fn attr(&self, node: NodeId) -> Result<Attr, Errno> {
        let inode = self.inode(node)?;
        Ok(Attr {
            dev: 0,
            ino: node.0,
            kind: inode.kind,
            perm: inode.perm,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: match inode.kind {
                Kind::CharDevice | Kind::BlockDevice => inode.data.into(),
                _ => 0,
            },
            size: inode.size,
            blocks: inode.size.div_ceil(512),
            block_size: self.block_size(),
            atime: inode.mtime,
            mtime: inode.mtime,
            ctime: inode.mtime,
            btime: None,
            immutable: false,
        })
    }

    fn entries(&self, dir: NodeId) -> Result<Vec<Entry>, Errno> {
        self.list(&self.inode(dir)?)
    }

    fn link_target(&self, link: NodeId) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(link)?;
        if inode.kind != Kind::Symlink {
            return Err(Errno::INVAL);
        }
        let length = at_most(inode.size, LINK_MAX)?;
        let mut target = Vec::with_capacity(length);
        self.hand_out(&inode, &mut |_, piece| {
            target.extend_from_slice(piece);
            Ok(())
        })?;
        if target.len() == length {
            Ok(target)
        } else {
            Err(Errno::IO)
        }
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Xattr>, Errno> {
        self.xattrs_of(&self.inode(node)?)
    }

    fn contents(&self, file: NodeId, sink: Sink<'_>) -> Result<(), Errno> {
        let inode = self.inode(file)?;
        if inode.kind != Kind::File {
            return Err(Errno::INVAL);
        }
        self.hand_out(&inode, sink)
    }

    fn stat_fs(&self) -> StatFs {
        crate::full(self.blocks.into(), self.block_size(), self.inodes, 255)
    }
}
