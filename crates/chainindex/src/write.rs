//! Writing an index, one directory after the other.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Seek, SeekFrom, Write};

use rules::lookup::{Seen, Sighting};
use rules::{Attr, Name};

use crate::bytes::{Sum, nanoseconds};
use crate::layout::{HEADER, MAGIC, flag};
use crate::{Layer, Member, Reading, VERSION};

/// A merged directory that is to be written.
#[derive(Debug, Clone)]
pub struct NewDirectory {
    /// What is merged, topmost first.
    pub members: Vec<Member>,
    /// The names, in any order, each once.
    pub entries: Vec<NewEntry>,
}

/// A name in a directory that is to be written.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// The name.
    pub name: Name,
    /// What each branch of the chain has under it, topmost first; 0 is the topmost branch of the chain.
    pub sightings: Vec<Sighting>,
    /// The attributes of what the topmost of them has, if that is shown. The number of the filesystem is not kept.
    pub attr: Option<Attr>,
}

/// Why a directory is not in the index. It is read from the branches then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotIndexed {
    /// It is there already.
    Twice,
    /// A time or a size is larger than the format holds.
    TooLarge,
}

/// What many entries have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Class {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    block_size: u32,
    rdev: u64,
    sightings: u32,
    count: u32,
}

struct Written {
    offset: u64,
    length: u64,
    sum: u64,
}

/// Writes an index. Memory grows with the number of directories, not with that of the names.
pub struct Writer<W> {
    out: W,
    reading: Reading,
    layers: Vec<Layer>,
    at: u64,
    directories: BTreeMap<(u16, u64), Written>,
    classes: Vec<Class>,
    known_classes: HashMap<Class, u32>,
    sightings: Vec<u32>,
    known_sightings: HashMap<Vec<u32>, u32>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins an index of these branches, topmost first, at the start of `out`.
    pub fn new(mut out: W, reading: Reading, layers: Vec<Layer>) -> io::Result<Self> {
        // Nothing that is cut off here passes for an index.
        out.write_all(&[0; HEADER])?;
        Ok(Self {
            out,
            reading,
            layers,
            at: HEADER as u64,
            directories: BTreeMap::new(),
            classes: Vec::new(),
            known_classes: HashMap::new(),
            sightings: Vec::new(),
            known_sightings: HashMap::new(),
        })
    }

    /// Returns how many directories were written.
    pub fn len(&self) -> usize {
        self.directories.len()
    }

    /// Returns whether no directory was written.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Adds a directory, unless the format cannot say what it is.
    pub fn add(&mut self, mut directory: NewDirectory) -> io::Result<Result<(), NotIndexed>> {
        let Some(top) = directory.members.first() else {
            return Ok(Err(NotIndexed::TooLarge));
        };
        let key = (top.layer, top.ino);
        if self.directories.contains_key(&key) {
            return Ok(Err(NotIndexed::Twice));
        }
        let by_name = |one: &NewEntry, two: &NewEntry| one.name.cmp(&two.name);
        directory.entries.sort_by(by_name);
        let Some(block) = self.block(&directory) else {
            return Ok(Err(NotIndexed::TooLarge));
        };
        self.out.write_all(&block)?;
        let written = Written {
            offset: self.at,
            length: block.len() as u64,
            sum: Sum::new().add(&block).value(),
        };
        self.at += written.length;
        self.directories.insert(key, written);
        Ok(Ok(()))
    }

    fn block(&mut self, directory: &NewDirectory) -> Option<Vec<u8>> {
        let mut block = Vec::new();
        let names: usize = directory.entries.iter().map(|e| e.name.len()).sum();
        for count in [directory.members.len(), directory.entries.len(), names, 0] {
            block.extend(u32::try_from(count).ok()?.to_le_bytes());
        }
        for member in &directory.members {
            block.extend(u32::from(member.layer).to_le_bytes());
            block.extend(member.nlink.to_le_bytes());
            block.extend(member.ino.to_le_bytes());
            block.extend(nanoseconds(member.mtime)?.to_le_bytes());
            block.extend(nanoseconds(member.ctime)?.to_le_bytes());
        }
        let mut at = 0u32;
        for entry in &directory.entries {
            self.entry(&mut block, entry, at)?;
            at += u32::try_from(entry.name.len()).ok()?;
        }
        for entry in &directory.entries {
            block.extend(entry.name.as_bytes());
        }
        block.resize(block.len().next_multiple_of(8), 0);
        Some(block)
    }

    fn entry(&mut self, block: &mut Vec<u8>, entry: &NewEntry, name_at: u32) -> Option<()> {
        let class = self.class(entry)?;
        let length = u16::try_from(entry.name.len()).ok()?;
        let mut flags = 0;
        let (mut blocks, mut numbers) = (0, [0u64; 6]);
        if let Some(attr) = &entry.attr {
            flags |= flag::SHOWN;
            flags |= if attr.immutable { flag::IMMUTABLE } else { 0 };
            flags |= if attr.btime.is_some() { flag::BORN } else { 0 };
            blocks = u32::try_from(attr.blocks).ok()?;
            numbers = [
                attr.ino,
                attr.size,
                nanoseconds(attr.atime)?.cast_unsigned(),
                nanoseconds(attr.mtime)?.cast_unsigned(),
                nanoseconds(attr.ctime)?.cast_unsigned(),
                nanoseconds(attr.btime.unwrap_or_default())?.cast_unsigned(),
            ];
        }
        block.extend(name_at.to_le_bytes());
        block.extend(class.to_le_bytes());
        block.extend(length.to_le_bytes());
        block.extend(flags.to_le_bytes());
        block.extend(blocks.to_le_bytes());
        numbers
            .iter()
            .for_each(|number| block.extend(number.to_le_bytes()));
        Some(())
    }

    fn class(&mut self, entry: &NewEntry) -> Option<u32> {
        let words: Vec<_> = entry.sightings.iter().map(word).collect();
        let count = u32::try_from(words.len()).ok()?;
        let next = u32::try_from(self.sightings.len()).ok()?;
        let sightings = *self
            .known_sightings
            .entry(words)
            .or_insert_with_key(|words| {
                self.sightings.extend(words);
                next
            });
        let attr = entry.attr.as_ref();
        let class = Class {
            mode: attr.map_or(0, Attr::mode),
            uid: attr.map_or(0, |attr| attr.uid),
            gid: attr.map_or(0, |attr| attr.gid),
            nlink: attr.map_or(0, |attr| attr.nlink),
            block_size: attr.map_or(0, |attr| attr.block_size),
            rdev: attr.map_or(0, |attr| attr.rdev),
            sightings,
            count,
        };
        let next = u32::try_from(self.classes.len()).ok()?;
        let number = *self.known_classes.entry(class).or_insert_with_key(|class| {
            self.classes.push(class.clone());
            next
        });
        Some(number)
    }

    /// Writes the tables and the header, and returns what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        let too_many = || io::Error::from(io::ErrorKind::FileTooLarge);
        let count = |count: usize| u32::try_from(count).map_err(|_| too_many());
        let tables = self.tables().ok_or_else(too_many)?;
        self.out.write_all(&tables)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(reading_number(self.reading).to_le_bytes());
        header.extend((self.at + tables.len() as u64).to_le_bytes());
        header.extend(self.at.to_le_bytes());
        header.extend(count(self.layers.len())?.to_le_bytes());
        header.extend(count(self.directories.len())?.to_le_bytes());
        header.extend(count(self.classes.len())?.to_le_bytes());
        header.extend(count(self.sightings.len())?.to_le_bytes());
        header.extend([0; 8]);
        header.extend(Sum::new().add(&header).add(&tables).value().to_le_bytes());
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn tables(&self) -> Option<Vec<u8>> {
        let mut tables = Vec::new();
        for layer in &self.layers {
            tables.extend(layer.fsid.to_le_bytes());
            tables.extend(layer.dev.to_le_bytes());
            tables.extend(layer.ino.to_le_bytes());
            tables.extend(nanoseconds(layer.mtime)?.to_le_bytes());
            tables.extend(nanoseconds(layer.ctime)?.to_le_bytes());
            tables.extend(u64::from(layer.whiteouts).to_le_bytes());
        }
        for ((layer, ino), written) in &self.directories {
            tables.extend(u64::from(*layer).to_le_bytes());
            tables.extend(ino.to_le_bytes());
            tables.extend(written.offset.to_le_bytes());
            tables.extend(written.length.to_le_bytes());
            tables.extend(written.sum.to_le_bytes());
        }
        for class in &self.classes {
            for number in [
                class.mode,
                class.uid,
                class.gid,
                class.nlink,
                class.block_size,
                class.sightings,
                class.count,
                0,
            ] {
                tables.extend(number.to_le_bytes());
            }
            tables.extend(class.rdev.to_le_bytes());
        }
        for word in &self.sightings {
            tables.extend(word.to_le_bytes());
        }
        Some(tables)
    }
}

fn word(sighting: &Sighting) -> u32 {
    let what = match sighting.what {
        Seen::Dir => 0,
        Seen::File => 1,
        Seen::Whiteout => 2,
        Seen::Damaged => 3,
    };
    u32::from(sighting.branch.0) | what << 16
}

fn reading_number(reading: Reading) -> u32 {
    match reading {
        Reading::Aufs => 0,
        Reading::OverlayTrusted => 1,
        Reading::OverlayUser => 2,
    }
}
