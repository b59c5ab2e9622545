//! Directory records (ECMA-119 9.1).

use rules::{Errno, Time};

use super::{SECTOR, times};
use crate::bytes::sum;
use crate::{Source, blocks};

/// Length of a record without name and system use.
const FIXED: usize = 33;

const IS_DIR: u8 = 0x02;
const IS_ASSOCIATED: u8 = 0x04;
const IS_CONTINUED: u8 = 0x80;

/// Where a record is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub(super) u64);

/// A record.
pub(super) struct Record {
    place: Place,
    bytes: Vec<u8>,
}

impl Record {
    /// Reads the record at a place. `EIO` when there is none.
    pub(super) fn read(source: &dyn Source, place: Place) -> Result<Self, Errno> {
        let length = usize::from(blocks::array::<1>(source, place.0)?[0]);
        let within = SECTOR - place.0 % SECTOR;
        if length <= FIXED || length as u64 > within {
            return Err(Errno::IO);
        }
        let bytes = blocks::read(source, place.0, length)?;
        let record = Self { place, bytes };
        if FIXED + record.name_length() > length || record.name_length() == 0 {
            return Err(Errno::IO);
        }
        Ok(record)
    }

    /// Reads the next record of a directory that ends there, if there is one more.
    pub(super) fn at_or_after(
        source: &dyn Source,
        place: Place,
        end: u64,
    ) -> Result<Option<Self>, Errno> {
        let mut at = place.0;
        while at < end {
            if blocks::array::<1>(source, at)? != [0] {
                return Self::read(source, Place(at)).map(Some);
            }
            // The rest of a sector is empty.
            at = sum(at / SECTOR * SECTOR, SECTOR)?;
        }
        Ok(None)
    }

    /// Reads the record that follows in the same directory.
    pub(super) fn next(&self, source: &dyn Source) -> Result<Self, Errno> {
        let end = self.end();
        let limit = sum(end.0, 2 * SECTOR)?;
        Self::at_or_after(source, end, limit)?.ok_or(Errno::IO)
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn end(&self) -> Place {
        Place(self.place.0 + self.bytes.len() as u64)
    }

    /// Returns the first block of the contents, after the attributes that may precede them.
    pub(super) fn extent(&self) -> u32 {
        self.number(2).saturating_add(self.bytes[1].into())
    }

    pub(super) fn length(&self) -> u32 {
        self.number(10)
    }

    pub(super) fn time(&self) -> Time {
        times::short(&self.bytes[18..25])
    }

    pub(super) fn is_dir(&self) -> bool {
        self.bytes[25] & IS_DIR != 0
    }

    pub(super) fn is_associated(&self) -> bool {
        self.bytes[25] & IS_ASSOCIATED != 0
    }

    pub(super) fn is_continued(&self) -> bool {
        self.bytes[25] & IS_CONTINUED != 0
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[FIXED..FIXED + self.name_length()]
    }

    /// Tells whether this is the directory's own record or its parent's.
    pub(super) fn is_dot(&self) -> bool {
        matches!(self.name(), [0 | 1])
    }

    /// Returns what follows the name and its padding.
    pub(super) fn system_use(&self) -> &[u8] {
        let end = FIXED + self.name_length();
        self.bytes.get(end + (end & 1)..).unwrap_or(&[])
    }

    fn name_length(&self) -> usize {
        self.bytes[32].into()
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.bytes[at..].first_chunk::<4>();
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}
