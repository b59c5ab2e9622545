//! Where things are in the file.

/// The first bytes.
pub(crate) const MAGIC: [u8; 8] = *b"plywidx\0";

/// Lengths of records in bytes.
pub(crate) const HEADER: usize = 64;
pub(crate) const LAYER: usize = 48;
pub(crate) const DIRECTORY: usize = 40;
pub(crate) const CLASS: usize = 40;
pub(crate) const SIGHTING: usize = 4;
pub(crate) const BLOCK: usize = 16;
pub(crate) const MEMBER: usize = 32;
pub(crate) const ENTRY: usize = 64;

/// Positions in the header.
pub(crate) mod header {
    pub(crate) const VERSION: usize = 8;
    pub(crate) const READING: usize = 12;
    pub(crate) const LENGTH: usize = 16;
    pub(crate) const TABLES: usize = 24;
    pub(crate) const LAYERS: usize = 32;
    pub(crate) const DIRECTORIES: usize = 36;
    pub(crate) const CLASSES: usize = 40;
    pub(crate) const SIGHTINGS: usize = 44;
    /// Must be 0.
    pub(crate) const RESERVED: usize = 48;
    /// Of the tables and the header before it.
    pub(crate) const SUM: usize = 56;
}

/// Bits of an entry.
pub(crate) mod flag {
    /// It is shown, and has attributes.
    pub(crate) const SHOWN: u16 = 1;
    /// It has a time of birth.
    pub(crate) const BORN: u16 = 2;
    /// It cannot be changed.
    pub(crate) const IMMUTABLE: u16 = 4;
    pub(crate) const ALL: u16 = 7;
}
