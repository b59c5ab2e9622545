//! Contents that are not compressed.

use rules::Errno;

use super::Erofs;
use super::inode::{Inode, Layout};
use crate::bytes::{Bytes, product, sum};
use crate::{Sink, blocks};

/// In the format of chunks: each index has eight bytes.
const LONG_INDEX: u32 = 0x20;
/// How many indexes are read at a time.
const INDEXES: u64 = 1024;
/// A chunk, or the contents of a file, that are nowhere.
const NOWHERE: u32 = u32::MAX;

impl Erofs {
    /// Hands out all contents.
    pub(super) fn hand_out(&self, inode: &Inode, sink: Sink<'_>) -> Result<(), Errno> {
        match inode.layout {
            Layout::Plain | Layout::Inline => {
                let blocks = inode.size / u64::from(self.block_size());
                let (start, whole) = match inode.layout {
                    Layout::Plain => (self.block(inode.data)?, inode.size),
                    _ if blocks == 0 => (0, 0),
                    _ => (self.block(inode.data)?, blocks << self.block_bits),
                };
                if inode.data != NOWHERE {
                    blocks::copy(&*self.source, start, whole, 0, sink)?;
                }
                blocks::copy(&*self.source, inode.end(), inode.size - whole, whole, sink)
            }
            Layout::Chunks => self.hand_out_chunks(inode, sink),
            Layout::Full | Layout::Packed => self.hand_out_clusters(inode, sink),
        }
    }

    /// Returns a block of a directory; the last one may be short.
    pub(super) fn dir_block(&self, inode: &Inode, index: u64) -> Result<Vec<u8>, Errno> {
        let from = product(index, self.block_size().into())?;
        let left = inode.size.checked_sub(from).ok_or(Errno::IO)?;
        let length = left.min(self.block_size().into());
        let start = match inode.layout {
            Layout::Plain => sum(self.block(inode.data)?, from)?,
            Layout::Inline if length < u64::from(self.block_size()) => inode.end(),
            Layout::Inline => sum(self.block(inode.data)?, from)?,
            Layout::Chunks | Layout::Full | Layout::Packed => return Err(Errno::IO),
        };
        blocks::read(&*self.source, start, length as usize)
    }

    pub(super) fn block(&self, number: u32) -> Result<u64, Errno> {
        product(number.into(), self.block_size().into())
    }

    fn hand_out_chunks(&self, inode: &Inode, sink: Sink<'_>) -> Result<(), Errno> {
        let bits = u32::from(self.block_bits) + (inode.data & 0x1f);
        let chunk = 1u64.checked_shl(bits).ok_or(Errno::IO)?;
        let width = if inode.data & LONG_INDEX != 0 { 8 } else { 4 };
        let list = inode.end().next_multiple_of(width);
        let count = inode.size.div_ceil(chunk);
        let mut done = 0;
        while done < count {
            let some = INDEXES.min(count - done);
            let place = sum(list, product(done, width)?)?;
            let indexes = blocks::read(&*self.source, place, (some * width) as usize)?;
            let mut indexes = Bytes(&indexes);
            for index in done..done + some {
                if width == 8 {
                    let (_advice, device) = (indexes.u16()?, indexes.u16()?);
                    if device != 0 {
                        return Err(Errno::IO);
                    }
                }
                let number = indexes.u32()?;
                if number == NOWHERE {
                    continue;
                }
                let at = index << bits;
                let length = chunk.min(inode.size - at);
                blocks::copy(&*self.source, self.block(number)?, length, at, sink)?;
            }
            done += some;
        }
        Ok(())
    }
}
