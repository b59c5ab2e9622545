//! Streams of metadata blocks, and the tables in them.

use rules::Errno;

use super::Squashfs;
use crate::blocks;
use crate::bytes::{Bytes, at_most, sum};

/// Most that a metadata block holds.
const BLOCK: usize = 8192;
/// In the length of a block: it is stored as it is.
const PLAIN: u16 = 0x8000;

/// A metadata block.
pub(super) struct Block {
    bytes: Vec<u8>,
    /// Where the next one begins in the image.
    next: u64,
}

/// A place in a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Where the block begins in the image.
    block: u64,
    /// In what it holds.
    offset: usize,
}

impl Place {
    /// Returns the place that a reference means, in the stream that begins at `table`.
    pub(super) fn of_reference(table: u64, reference: u64) -> Result<Self, Errno> {
        Self::new(sum(table, reference >> 16)?, reference & 0xffff)
    }

    pub(super) fn new(block: u64, offset: u64) -> Result<Self, Errno> {
        let offset = at_most(offset, BLOCK)?;
        Ok(Self { block, offset })
    }
}

impl Squashfs {
    /// Reads from a place, which moves on. The caller bounds the length.
    pub(super) fn take(&self, place: &mut Place, length: usize) -> Result<Vec<u8>, Errno> {
        let mut taken = Vec::with_capacity(length);
        while taken.len() < length {
            let block = self.metadata.get(place.block, || self.block(place.block))?;
            let here = block.bytes.get(place.offset..).ok_or(Errno::IO)?;
            let count = here.len().min(length - taken.len());
            taken.extend_from_slice(&here[..count]);
            place.offset += count;
            if place.offset == block.bytes.len() {
                *place = Place {
                    block: block.next,
                    offset: 0,
                };
            }
        }
        Ok(taken)
    }

    /// Returns an entry of a table that a list of offsets leads to.
    pub(super) fn table_entry<const N: usize>(
        &self,
        list: u64,
        index: u64,
    ) -> Result<[u8; N], Errno> {
        let per_block = (BLOCK / N) as u64;
        let slot = sum(list, index / per_block * 8)?;
        let block = blocks::array::<8>(&*self.source, slot)?;
        let block = u64::from_le_bytes(block);
        let mut place = Place::new(block, index % per_block * N as u64)?;
        let entry = self.take(&mut place, N)?;
        entry.try_into().map_err(|_| Errno::IO)
    }

    fn block(&self, at: u64) -> Result<Block, Errno> {
        let head = u16::from_le_bytes(blocks::array::<2>(&*self.source, at)?);
        let length = at_most((head & !PLAIN).into(), BLOCK)?;
        let start = sum(at, 2)?;
        let stored = blocks::read(&*self.source, start, length)?;
        let bytes = if head & PLAIN != 0 {
            stored
        } else {
            self.method.decompress(&stored, BLOCK)?
        };
        if bytes.is_empty() {
            return Err(Errno::IO);
        }
        let next = sum(start, length as u64)?;
        Ok(Block { bytes, next })
    }

    /// Returns the user or group that an inode names by its index.
    pub(super) fn owner(&self, index: u16) -> Result<u32, Errno> {
        if index >= self.owners {
            return Err(Errno::IO);
        }
        let entry = self.table_entry::<4>(self.tables.owners, index.into())?;
        Bytes(&entry).u32()
    }
}
