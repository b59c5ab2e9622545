//! Asking an index.

use rules::lookup::{Seen, Sighting, resolve};
use rules::{Attr, BranchIndex, Kind, Name};

use crate::bytes::{Part, Sum};
use crate::layout::{
    BLOCK, CLASS, DIRECTORY, ENTRY, HEADER, LAYER, MAGIC, MEMBER, SIGHTING, flag, header,
};
use crate::{Layer, Member, Reading, Refused, VERSION};

/// An index in bytes, such as a mapped file.
#[derive(Debug)]
pub struct ChainIndex<B> {
    bytes: B,
    reading: Reading,
    layers: u64,
    directories: u64,
    classes: u64,
    sightings: u64,
    tables: u64,
}

impl<B: AsRef<[u8]>> ChainIndex<B> {
    /// Checks the header and the tables.
    pub fn open(bytes: B) -> Result<Self, Refused> {
        let all = Part(bytes.as_ref());
        if all.0.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(Refused::NotAnIndex);
        }
        let length = all.0.len() as u64;
        let short = |_| Refused::Length(length);
        let head = all.cut(0, HEADER as u64).map_err(short)?;
        let version = head.u32(header::VERSION)?;
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        if head.u64(header::LENGTH)? != length {
            return Err(Refused::Length(length));
        }
        let count = |at| head.u32(at).map(u64::from);
        let reading = match head.u32(header::READING)? {
            0 => Reading::Aufs,
            1 => Reading::OverlayTrusted,
            2 => Reading::OverlayUser,
            _ => return Err(Refused::Damaged("unknown kind of whiteouts")),
        };
        if head.u64(header::RESERVED)? != 0 {
            return Err(Refused::Damaged("the header"));
        }
        let index = Self {
            reading,
            layers: count(header::LAYERS)?,
            directories: count(header::DIRECTORIES)?,
            classes: count(header::CLASSES)?,
            sightings: count(header::SIGHTINGS)?,
            tables: head.u64(header::TABLES)?,
            bytes,
        };
        let all = index.all();
        // Each is below 2^32 and the records are short: no sum overflows.
        let tables_length = index.sightings_at() + index.sightings * SIGHTING as u64;
        let tables = all.cut(index.tables, tables_length)?;
        if index.tables.checked_add(tables_length) != Some(length) {
            return Err(Refused::Damaged("the tables do not end with the file"));
        }
        let sum = Sum::new().add(&all.0[..header::SUM]).add(tables.0);
        if sum.value() != all.u64(header::SUM)? {
            return Err(Refused::Damaged("the checksum of the tables"));
        }
        if index.layers > u64::from(u16::MAX) {
            return Err(Refused::Damaged("too many branches"));
        }
        Ok(index)
    }

    /// Returns how the branches were read.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// Returns the branches, topmost first.
    pub fn layers(&self) -> Result<Vec<Layer>, Refused> {
        (0..self.layers).map(|number| self.layer(number)).collect()
    }

    /// Returns how many branches there are.
    pub fn layer_count(&self) -> usize {
        self.layers as usize
    }

    /// Returns how many directories there are.
    pub fn len(&self) -> u32 {
        self.directories as u32
    }

    /// Returns whether there is no directory.
    pub fn is_empty(&self) -> bool {
        self.directories == 0
    }

    /// Returns how many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.all().0.len() as u64
    }

    /// Returns the bytes themselves.
    pub fn source(&self) -> &B {
        &self.bytes
    }

    /// Returns the number of the directory whose topmost member is this one.
    pub fn find(&self, layer: u16, ino: u64) -> Result<Option<u32>, Refused> {
        let key = (u64::from(layer), ino);
        let (mut from, mut to) = (0, self.directories);
        while from < to {
            let middle = from.midpoint(to);
            let record = self.directory_record(middle)?;
            match (record.u64(0)?, record.u64(8)?).cmp(&key) {
                std::cmp::Ordering::Equal => return Ok(Some(middle as u32)),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(None)
    }

    /// Returns a directory by its number after checking that it is as it was written.
    pub fn checked(&self, number: u32) -> Result<Directory<'_>, Refused> {
        let directory = self.directory(number)?;
        let sum = self.directory_record(u64::from(number))?.u64(32)?;
        if Sum::new().add(directory.block.0).value() != sum {
            return Err(Refused::Damaged("the checksum of a directory"));
        }
        Ok(directory)
    }

    /// Returns a directory by its number. For what was checked once.
    pub fn directory(&self, number: u32) -> Result<Directory<'_>, Refused> {
        let record = self.directory_record(u64::from(number))?;
        let block = self.all().cut(record.u64(16)?, record.u64(24)?)?;
        let members = u64::from(block.u32(0)?);
        let entries = u64::from(block.u32(4)?);
        let names_length = u64::from(block.u32(8)?);
        let entries_at = BLOCK as u64 + members * MEMBER as u64;
        let names_at = entries_at + entries * ENTRY as u64;
        Ok(Directory {
            members: block.cut(BLOCK as u64, members * MEMBER as u64)?,
            entries: block.cut(entries_at, entries * ENTRY as u64)?,
            names: block.cut(names_at, names_length)?,
            block,
            classes: self.table(self.classes_at(), self.classes * CLASS as u64)?,
            sightings: self.table(self.sightings_at(), self.sightings * SIGHTING as u64)?,
            layers: self.layers,
        })
    }

    fn all(&self) -> Part<'_> {
        Part(self.bytes.as_ref())
    }

    fn classes_at(&self) -> u64 {
        self.layers * LAYER as u64 + self.directories * DIRECTORY as u64
    }

    fn sightings_at(&self) -> u64 {
        self.classes_at() + self.classes * CLASS as u64
    }

    fn table(&self, at: u64, length: u64) -> Result<Part<'_>, Refused> {
        // What `open` checked may have changed since, if somebody changes the file.
        let at = self.tables.checked_add(at);
        self.all()
            .cut(at.ok_or(Refused::Damaged("the tables"))?, length)
    }

    fn layer(&self, number: u64) -> Result<Layer, Refused> {
        let record = self.table(number * LAYER as u64, LAYER as u64)?;
        Ok(Layer {
            fsid: record.u64(0)?,
            dev: record.u64(8)?,
            ino: record.u64(16)?,
            mtime: record.time(24)?,
            ctime: record.time(32)?,
            whiteouts: record.u64(40)? != 0,
        })
    }

    fn directory_record(&self, number: u64) -> Result<Part<'_>, Refused> {
        if number >= self.directories {
            return Err(Refused::Damaged("no such directory"));
        }
        let at = self.layers * LAYER as u64 + number * DIRECTORY as u64;
        self.table(at, DIRECTORY as u64)
    }
}

/// A merged directory in an index.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    block: Part<'a>,
    members: Part<'a>,
    entries: Part<'a>,
    names: Part<'a>,
    classes: Part<'a>,
    sightings: Part<'a>,
    layers: u64,
}

impl<'a> Directory<'a> {
    /// Returns what is merged, topmost first.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Result<Member, Refused>> + use<'a> {
        let layers = self.layers;
        self.members.0.chunks_exact(MEMBER).map(move |record| {
            let record = Part(record);
            Ok(Member {
                layer: layer(record.u32(0)?, layers)?,
                nlink: record.u32(4)?,
                ino: record.u64(8)?,
                mtime: record.time(16)?,
                ctime: record.time(24)?,
            })
        })
    }

    /// Returns how many names there are, hidden ones included.
    pub fn len(&self) -> usize {
        self.entries.0.len() / ENTRY
    }

    /// Returns whether there is no name, not even a hidden one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the names in their order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Result<Entry<'a>, Refused>> + use<'a> {
        let this = *self;
        let records = self.entries.0.chunks_exact(ENTRY);
        records.map(move |record| this.entry(Part(record)))
    }

    /// Returns what there is under a name.
    pub fn find(&self, name: &[u8]) -> Result<Option<Entry<'a>>, Refused> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            let record = self.entries.cut((middle * ENTRY) as u64, ENTRY as u64)?;
            match self.name(record)?.cmp(name) {
                std::cmp::Ordering::Equal => return self.entry(record).map(Some),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(None)
    }

    fn name(&self, record: Part<'a>) -> Result<&'a [u8], Refused> {
        let length = u64::from(record.u16(8)?);
        Ok(self.names.cut(u64::from(record.u32(0)?), length)?.0)
    }

    fn entry(&self, record: Part<'a>) -> Result<Entry<'a>, Refused> {
        let class = u64::from(record.u32(4)?) * CLASS as u64;
        let class = self.classes.cut(class, CLASS as u64)?;
        let at = u64::from(class.u32(20)?) * SIGHTING as u64;
        let length = u64::from(class.u32(24)?) * SIGHTING as u64;
        let flags = record.u16(10)?;
        if flags & !flag::ALL != 0 {
            return Err(Refused::Damaged("the flags of a name"));
        }
        Ok(Entry {
            name: self.name(record)?,
            flags,
            record,
            class,
            sightings: self.sightings.cut(at, length)?,
            layers: self.layers,
        })
    }
}

/// A name in a directory of an index.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    name: &'a [u8],
    flags: u16,
    record: Part<'a>,
    class: Part<'a>,
    sightings: Part<'a>,
    layers: u64,
}

impl<'a> Entry<'a> {
    /// Returns the name.
    pub fn name(&self) -> Result<Name, Refused> {
        Name::new(self.name).map_err(|_| Refused::Damaged("a name"))
    }

    /// Returns what the branches have under the name, topmost first; 0 is the topmost of the chain.
    pub fn sightings(&self) -> impl ExactSizeIterator<Item = Result<Sighting, Refused>> + use<'a> {
        let layers = self.layers;
        let mut next = 0;
        self.sightings.0.chunks_exact(SIGHTING).map(move |word| {
            let word = Part(word).u32(0)?;
            let branch = layer(word & 0xffff, layers)?;
            let what = match word >> 16 {
                0 => Seen::Dir,
                1 => Seen::File,
                2 => Seen::Whiteout,
                3 => Seen::Damaged,
                _ => return Err(Refused::Damaged("what a branch has")),
            };
            if u32::from(branch) < next {
                return Err(Refused::Damaged("the order of branches"));
            }
            next = u32::from(branch) + 1;
            Ok(Sighting {
                branch: BranchIndex(branch),
                what,
            })
        })
    }

    /// Returns what the topmost branch has that has anything.
    pub fn top(&self) -> Result<Sighting, Refused> {
        let first = self.sightings().next();
        first.unwrap_or(Err(Refused::Damaged("a name that no branch has")))
    }

    /// Returns the attributes of what is shown; the number of the filesystem is 0.
    pub fn attr(&self) -> Result<Option<Attr>, Refused> {
        if self.flags & flag::SHOWN == 0 {
            return Ok(None);
        }
        let mode = self.class.u32(0)?;
        let kind = Kind::of_mode(mode).ok_or(Refused::Damaged("the kind of an object"))?;
        let top = self.top()?;
        let fits = match top.what {
            Seen::Dir => kind == Kind::Dir,
            Seen::File => kind != Kind::Dir,
            Seen::Whiteout | Seen::Damaged => false,
        };
        if !fits || resolve(&[top]).branch().is_none() {
            return Err(Refused::Damaged("the kind of an object"));
        }
        let btime = self.record.time(56)?;
        Ok(Some(Attr {
            dev: 0,
            ino: self.record.u64(16)?,
            kind,
            perm: mode & 0o7777,
            nlink: self.class.u32(12)?,
            uid: self.class.u32(4)?,
            gid: self.class.u32(8)?,
            rdev: self.class.u64(32)?,
            size: self.record.u64(24)?,
            blocks: u64::from(self.record.u32(12)?),
            block_size: self.class.u32(16)?,
            atime: self.record.time(32)?,
            mtime: self.record.time(40)?,
            ctime: self.record.time(48)?,
            btime: (self.flags & flag::BORN != 0).then_some(btime),
            immutable: self.flags & flag::IMMUTABLE != 0,
        }))
    }
}

fn layer(number: u32, layers: u64) -> Result<u16, Refused> {
    let known = u64::from(number) < layers;
    let number = u16::try_from(number).ok().filter(|_| known);
    number.ok_or(Refused::Damaged("no such branch"))
}
