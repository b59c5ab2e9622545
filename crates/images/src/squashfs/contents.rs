//! The contents of files: blocks one after another, and a tail in a block of tails.

use rules::Errno;

use super::inode::{Inode, What};
use super::{NONE, Squashfs};
use crate::bytes::{Bytes, at_most, sum};
use crate::{Sink, blocks};

/// In the size of a block: it is stored as it is.
const PLAIN: u32 = 1 << 24;
/// How many sizes of blocks are read at a time.
const SIZES: u64 = 1024;

impl Squashfs {
    pub(super) fn hand_out(&self, file: &Inode, sink: Sink<'_>) -> Result<(), Errno> {
        let What::File {
            start,
            size,
            fragment,
            offset,
            ..
        } = file.what
        else {
            return Err(Errno::INVAL);
        };
        let whole = size >> self.block_log;
        let tail = (size & (u64::from(self.block_size) - 1)) as usize;
        let count = if fragment == NONE && tail > 0 {
            whole + 1
        } else {
            whole
        };
        let mut sizes = file.rest;
        let mut at = start;
        let mut done = 0;
        while done < count {
            let some = SIZES.min(count - done);
            let list = self.take(&mut sizes, some as usize * 4)?;
            let mut list = Bytes(&list);
            for index in done..done + some {
                let stored = list.u32()?;
                let length = if index == whole {
                    tail
                } else {
                    self.block_size as usize
                };
                if stored == 0 {
                    continue;
                }
                let bytes = self.data(at, stored)?;
                if bytes.len() != length {
                    return Err(Errno::IO);
                }
                sink(index << self.block_log, &bytes)?;
                at = sum(at, (stored & !PLAIN).into())?;
            }
            done += some;
        }
        if fragment == NONE || tail == 0 {
            return Ok(());
        }
        let block = self
            .fragment
            .get(fragment.into(), || self.tails(fragment))?;
        let from = at_most(offset.into(), block.len())?;
        let bytes = block.get(from..from + tail).ok_or(Errno::IO)?;
        sink(whole << self.block_log, bytes)
    }

    fn tails(&self, index: u32) -> Result<Vec<u8>, Errno> {
        if index >= self.fragments {
            return Err(Errno::IO);
        }
        let entry = self.table_entry::<16>(self.tables.fragments, index.into())?;
        let mut entry = Bytes(&entry);
        let start = entry.u64()?;
        self.data(start, entry.u32()?)
    }

    fn data(&self, at: u64, stored: u32) -> Result<Vec<u8>, Errno> {
        let limit = self.block_size as usize;
        let length = at_most((stored & !PLAIN).into(), limit)?;
        let bytes = blocks::read(&*self.source, at, length)?;
        if stored & PLAIN != 0 {
            Ok(bytes)
        } else {
            self.method.decompress(&bytes, limit)
        }
    }
}
