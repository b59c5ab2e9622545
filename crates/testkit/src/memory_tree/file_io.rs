//! Open files: reading, writing, space and copies.

use rules::Errno;
use tree::{Access, Seek};

use super::File;
use super::content::{BLOCK, Content, MAX_SIZE};
use super::disk::Table;
use super::inode::{Body, Ino};

const KEEP_SIZE: u32 = 0x01;
const PUNCH_HOLE: u32 = 0x02;
const COLLAPSE_RANGE: u32 = 0x08;
const ZERO_RANGE: u32 = 0x10;
const INSERT_RANGE: u32 = 0x20;

/// Makes sure that a range ends where the kernel can still count.
fn expect_in_range(offset: u64, length: usize) -> Result<(), Errno> {
    let end = offset.checked_add(length as u64);
    if end.is_some_and(|end| end <= i64::MAX as u64) {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}

impl File {
    /// Makes sure that the file was opened for writing.
    pub(crate) fn expect_writable(&self) -> Result<(), Errno> {
        if self.access == Access::ReadWrite {
            Ok(())
        } else {
            Err(Errno::BADF)
        }
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        expect_in_range(offset, buffer.len())?;
        let mut table = self.disk.lock();
        let count = table.content(self.ino).read(buffer, offset);
        if self.access != Access::ReadQuietly && !buffer.is_empty() {
            table.note_access(self.ino);
        }
        Ok(count)
    }

    pub(crate) fn write(&self, buffer: &[u8], offset: u64) -> Result<usize, Errno> {
        expect_in_range(offset, 0)?;
        self.expect_writable()?;
        expect_in_range(offset, buffer.len())?;
        if buffer.is_empty() {
            return Ok(0);
        }
        let room = MAX_SIZE
            .checked_sub(offset)
            .filter(|room| *room > 0)
            .ok_or(Errno::FBIG)?;
        let count = room.min(buffer.len() as u64) as usize;
        let mut table = self.disk.lock();
        table.with_room(self.ino, |content| {
            content.write(&buffer[..count], offset);
        })?;
        table.touch_data(self.ino);
        Ok(count)
    }

    pub(crate) fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        if length == 0 || offset > i64::MAX as u64 || length > i64::MAX as u64 {
            return Err(Errno::INVAL);
        }
        let known = [0, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE];
        let deed = mode & !KEEP_SIZE;
        let keeps_size = mode & KEEP_SIZE != 0;
        let must_keep = deed == PUNCH_HOLE;
        let may_not_keep = matches!(deed, COLLAPSE_RANGE | INSERT_RANGE);
        if !known.contains(&deed) || (must_keep && !keeps_size) || (may_not_keep && keeps_size) {
            return Err(Errno::OPNOTSUPP);
        }
        self.expect_writable()?;
        let end = offset + length;
        if end > MAX_SIZE {
            return Err(Errno::FBIG);
        }
        let mut table = self.disk.lock();
        let content = table.content_mut(self.ino);
        let size = content.size();
        let aligned = offset.is_multiple_of(BLOCK) && length.is_multiple_of(BLOCK);
        match deed {
            COLLAPSE_RANGE if !aligned || end >= size => return Err(Errno::INVAL),
            INSERT_RANGE if !aligned || offset >= size => return Err(Errno::INVAL),
            INSERT_RANGE if size + length > MAX_SIZE => return Err(Errno::FBIG),
            COLLAPSE_RANGE => content.collapse(offset, length),
            INSERT_RANGE => content.insert(offset, length),
            PUNCH_HOLE | ZERO_RANGE => content.punch(offset, length),
            _ => {}
        }
        if !keeps_size && !may_not_keep {
            content.resize(size.max(end));
        }
        table.touch_data(self.ino);
        Ok(())
    }

    pub(crate) fn seek(&self, offset: u64, what: Seek) -> Result<u64, Errno> {
        let table = self.disk.lock();
        let content = table.content(self.ino);
        let found = match what {
            Seek::Data => content.next_data(offset),
            Seek::Hole => content.next_hole(offset),
        };
        found.ok_or(Errno::NXIO)
    }

    /// Copies a range, but not onto itself (`EINVAL`); also between disks, as the host does.
    pub(crate) fn copy_range(
        &self,
        from_offset: u64,
        to: &Self,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        to.expect_writable()?;
        // Cloned, so that never two disks are locked at a time.
        let content = self.disk.lock().content(self.ino).clone();
        let length = length.min(content.size().saturating_sub(from_offset));
        let same_file = self.disk.is_same(&to.disk) && self.ino == to.ino;
        if same_file && from_offset.abs_diff(to_offset) < length {
            return Err(Errno::INVAL);
        }
        if length == 0 {
            return Ok(0);
        }
        let room = MAX_SIZE
            .checked_sub(to_offset)
            .filter(|room| *room > 0)
            .ok_or(Errno::FBIG)?;
        let length = length.min(room);
        let mut table = to.disk.lock();
        table.with_room(to.ino, |target| {
            target.copy_from(&content, from_offset, to_offset, length);
        })?;
        table.touch_data(to.ino);
        Ok(length)
    }

    /// Copies the beginning of this file to an empty one, which gets the length even when
    /// this file is shorter.
    pub(crate) fn copy_data(&self, to: &Self, length: u64) -> Result<(), Errno> {
        to.expect_writable()?;
        if length > MAX_SIZE {
            return Err(Errno::FBIG);
        }
        let content = self.disk.lock().content(self.ino).clone();
        let mut table = to.disk.lock();
        table.with_room(to.ino, |target| {
            target.copy_from(&content, 0, 0, length.min(content.size()));
            target.resize(length);
        })?;
        table.touch_data(to.ino);
        Ok(())
    }
}

impl Table {
    fn content(&self, ino: Ino) -> &Content {
        self.inode(ino)
            .content()
            .expect("a handle of a file is of a regular file")
    }

    fn content_mut(&mut self, ino: Ino) -> &mut Content {
        match &mut self.inode_mut(ino).body {
            Body::File(content) => content,
            _ => unreachable!("a handle of a file is of a regular file"),
        }
    }

    /// Changes the bytes of a file, unless they would take more than is free.
    fn with_room(&mut self, ino: Ino, change: impl FnOnce(&mut Content)) -> Result<(), Errno> {
        let free = self.free();
        let content = self.content_mut(ino);
        let (before, mut changed) = (content.sectors(), content.clone());
        change(&mut changed);
        if changed.sectors().saturating_sub(before) / (BLOCK / 512) > free {
            return Err(Errno::NOSPC);
        }
        *content = changed;
        Ok(())
    }

    /// Notes a read as mounts with `relatime` do: when the file changed since the last one.
    fn note_access(&mut self, ino: Ino) {
        let inode = self.inode(ino);
        if inode.atime <= inode.mtime.max(inode.ctime) {
            let now = self.tick();
            self.inode_mut(ino).atime = now;
        }
    }
}
