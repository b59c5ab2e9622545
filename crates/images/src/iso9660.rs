//! ISO 9660 (ECMA-119) with Rock Ridge (SUSP 1.12, RRIP 1.12), else with the names of Joliet, else with its own names, in this order as
//! the kernel does. Without Rock Ridge everything may be read and executed by everybody and belongs to the superuser.
//!
//! A directory is addressed by its own record, which begins its extent; everything else by its record in its directory.

mod names;
mod record;
mod rock_ridge;
mod times;

use rules::{Attr, Errno, Kind, Name, StatFs};

use crate::bytes::{product, sum};
use crate::{
    Entry, Filesystem, LINK_MAX, NodeId, Sink, Source, Unreadable, Xattr, add, blocks, finished,
};
use record::{Place, Record};
use rock_ridge::RockRidge;

/// Size of a sector, in which no record crosses into the next.
const SECTOR: u64 = 2048;
/// Where the descriptors begin.
const DESCRIPTORS: u64 = 16;
/// Most descriptors that are looked at.
const DESCRIPTORS_MAX: u64 = 64;
/// Most pieces of a file.
const PIECES: usize = 1024;
/// Permissions without Rock Ridge, as the kernel has them.
const PLAIN_PERM: u32 = 0o555;

/// An ISO 9660 image.
pub struct Iso9660 {
    source: Box<dyn Source>,
    root: u64,
    block_size: u32,
    blocks: u32,
    naming: Naming,
}

/// Where names and attributes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// Rock Ridge, whose fields begin after so many bytes.
    RockRidge {
        skip: usize,
    },
    Joliet,
    Plain,
}

/// A volume as its descriptor says it.
struct Volume {
    root: u64,
    block_size: u32,
    blocks: u32,
}

impl Iso9660 {
    /// Reads the volume descriptors.
    pub fn open(source: Box<dyn Source>) -> Result<Self, Unreadable> {
        let (mut primary, mut joliet) = (None, None);
        for sector in DESCRIPTORS..DESCRIPTORS + DESCRIPTORS_MAX {
            let Ok(bytes) = blocks::array::<2048>(&*source, sector * SECTOR) else {
                break;
            };
            if &bytes[1..6] != b"CD001" {
                break;
            }
            match bytes[0] {
                1 if primary.is_none() => primary = Some(Volume::parse(&bytes)?),
                2 if is_joliet(&bytes) && joliet.is_none() => {
                    joliet = Some(Volume::parse(&bytes)?);
                }
                255 => break,
                _ => {}
            }
        }
        let primary = primary.ok_or(Unreadable::Damaged("no volume"))?;
        let record = Record::read(&*source, Place(primary.root))?;
        let (volume, naming) = match (rock_ridge::find(&*source, &record)?, joliet) {
            (Some(skip), _) => (primary, Naming::RockRidge { skip }),
            (None, Some(joliet)) => (joliet, Naming::Joliet),
            (None, None) => (primary, Naming::Plain),
        };
        let image = Self {
            root: volume.root,
            block_size: volume.block_size,
            blocks: volume.blocks,
            naming,
            source,
        };
        match image.attr(NodeId(image.root))?.kind {
            Kind::Dir => Ok(image),
            _ => Err(Unreadable::Damaged("the root is no directory")),
        }
    }

    fn record(&self, node: NodeId) -> Result<Record, Errno> {
        Record::read(&*self.source, Place(node.0))
    }

    fn rock_ridge(&self, record: &Record) -> Result<RockRidge, Errno> {
        match self.naming {
            Naming::RockRidge { skip } => {
                rock_ridge::read(&*self.source, record.system_use(), skip, self.block_size)
            }
            Naming::Joliet | Naming::Plain => Ok(RockRidge::default()),
        }
    }

    fn block(&self, block: u32) -> u64 {
        u64::from(block) * u64::from(self.block_size)
    }

    /// Calls back with every piece of a file: where it begins, and its length.
    fn pieces(
        &self,
        first: Record,
        mut each: impl FnMut(u64, u32) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut record = first;
        for _ in 0..PIECES {
            each(self.block(record.extent()), record.length())?;
            if !record.is_continued() {
                return Ok(());
            }
            record = record.next(&*self.source)?;
        }
        Err(Errno::IO)
    }

    /// Returns the entry of a record, unless it is to be left out.
    fn entry(&self, record: &Record) -> Result<Option<Entry>, Errno> {
        if record.is_dot() || record.is_associated() {
            return Ok(None);
        }
        let fields = self.rock_ridge(record)?;
        if fields.is_relocated {
            // Shown where it was relocated from.
            return Ok(None);
        }
        let name = match (self.naming, fields.name) {
            (Naming::RockRidge { .. }, Some(name)) => name,
            (Naming::Joliet, _) => names::joliet(record.name()),
            (Naming::RockRidge { .. } | Naming::Plain, _) => names::plain(record.name()),
        };
        let (node, kind) = match fields.child {
            Some(block) => (self.block(block), Kind::Dir),
            None if record.is_dir() => (self.block(record.extent()), Kind::Dir),
            None => (
                record.place().0,
                fields.owner.map_or(Kind::File, |owner| owner.kind),
            ),
        };
        Ok(Some(Entry {
            name: Name::new(&name).map_err(|_| Errno::IO)?,
            kind: Some(kind),
            node: NodeId(node),
            ino: number(node),
        }))
    }
}

impl Filesystem for Iso9660 {
    fn root(&self) -> NodeId {
        NodeId(self.root)
    }

    fn attr(&self, node: NodeId) -> Result<Attr, Errno> {
        let record = self.record(node)?;
        let fields = self.rock_ridge(&record)?;
        let made = record.time();
        let plain = if record.is_dir() {
            Kind::Dir
        } else {
            Kind::File
        };
        let kind = fields.owner.map_or(plain, |owner| owner.kind);
        if (kind == Kind::Dir) != record.is_dir() {
            return Err(Errno::IO);
        }
        let mut size = 0;
        match kind {
            Kind::Dir => size = record.length().into(),
            Kind::Symlink => size = fields.target.len() as u64,
            Kind::File => self.pieces(record, |_, length| {
                size = sum(size, length.into())?;
                Ok(())
            })?,
            _ => {}
        }
        let mtime = fields.modified.unwrap_or(made);
        Ok(Attr {
            dev: 0,
            ino: number(node.0),
            kind,
            perm: fields.owner.map_or(PLAIN_PERM, |owner| owner.perm),
            nlink: fields.owner.map_or(1, |owner| owner.nlink),
            uid: fields.owner.map_or(0, |owner| owner.uid),
            gid: fields.owner.map_or(0, |owner| owner.gid),
            rdev: match kind {
                Kind::CharDevice | Kind::BlockDevice => fields.device,
                _ => 0,
            },
            size,
            blocks: size.div_ceil(512),
            block_size: self.block_size,
            atime: fields.accessed.unwrap_or(mtime),
            mtime,
            ctime: fields.changed.unwrap_or(mtime),
            btime: None,
            immutable: false,
        })
    }

    fn entries(&self, dir: NodeId) -> Result<Vec<Entry>, Errno> {
        let own = self.record(dir)?;
        if !own.is_dir() {
            return Err(Errno::NOTDIR);
        }
        let end = sum(dir.0, own.length().into())?;
        let mut entries = Vec::new();
        let mut place = Place(dir.0);
        let mut continues = false;
        while let Some(record) = Record::at_or_after(&*self.source, place, end)? {
            place = record.end();
            let first = !continues;
            continues = record.is_continued();
            if first && let Some(entry) = self.entry(&record)? {
                add(&mut entries, entry)?;
            }
        }
        Ok(finished(entries))
    }

    fn link_target(&self, link: NodeId) -> Result<Vec<u8>, Errno> {
        let fields = self.rock_ridge(&self.record(link)?)?;
        match fields.owner {
            Some(owner) if owner.kind == Kind::Symlink => {}
            _ => return Err(Errno::INVAL),
        }
        if fields.target.is_empty() || fields.target.len() > LINK_MAX {
            return Err(Errno::IO);
        }
        Ok(fields.target)
    }

    fn xattrs(&self, _node: NodeId) -> Result<Vec<Xattr>, Errno> {
        Ok(Vec::new())
    }

    fn contents(&self, file: NodeId, sink: Sink<'_>) -> Result<(), Errno> {
        if self.attr(file)?.kind != Kind::File {
            return Err(Errno::INVAL);
        }
        let mut at = 0;
        self.pieces(self.record(file)?, |offset, length| {
            let length = length.into();
            blocks::copy(&*self.source, offset, length, at, sink)?;
            at = sum(at, length)?;
            Ok(())
        })
    }

    fn stat_fs(&self) -> StatFs {
        crate::full(self.blocks.into(), self.block_size, 0, 255)
    }
}

impl Volume {
    fn parse(descriptor: &[u8; 2048]) -> Result<Self, Unreadable> {
        let block_size = u16::from_le_bytes([descriptor[128], descriptor[129]]);
        if !matches!(block_size, 512 | 1024 | 2048) {
            return Err(Unreadable::Damaged("the size of a block"));
        }
        let number = |at: usize| {
            let bytes = descriptor[at..].first_chunk::<4>();
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        Ok(Self {
            // The record of the root names the extent, which begins with the root's own record.
            root: product(number(156 + 2).into(), block_size.into())?,
            block_size: block_size.into(),
            blocks: number(80),
        })
    }
}

/// The escape sequences of UCS-2 in its three levels.
fn is_joliet(descriptor: &[u8; 2048]) -> bool {
    matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E")
}

/// Returns the inode number of what a record describes: no record is shorter than 32 bytes.
fn number(place: u64) -> u64 {
    place / 32
}
