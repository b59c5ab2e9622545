//! The contents of open files: reading, writing, space and holes.

use std::os::fd::BorrowedFd;

use rules::Errno;
use rustix::fs::{FallocateFlags, SeekFrom};
use tree::Seek;

use crate::errno::{IntoErrno, uninterrupted};

/// Reads until the buffer is full or the file ends.
pub(super) fn read(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        match uninterrupted(|| rustix::io::pread(file, &mut buffer[done..], at).errno()) {
            Ok(0) => break,
            Ok(count) => done += count,
            // What was read counts; the next call meets the error again.
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Writes once and returns how much it was.
pub(super) fn write(file: BorrowedFd<'_>, buffer: &[u8], offset: u64) -> Result<usize, Errno> {
    uninterrupted(|| rustix::io::pwrite(file, buffer, offset).errno())
}

/// Writes everything.
pub(super) fn write_all(
    file: BorrowedFd<'_>,
    mut buffer: &[u8],
    mut offset: u64,
) -> Result<(), Errno> {
    while !buffer.is_empty() {
        let count = write(file, buffer, offset)?;
        if count == 0 {
            return Err(Errno::IO);
        }
        buffer = &buffer[count..];
        offset += count as u64;
    }
    Ok(())
}

/// Allocates, punches or shifts space.
pub(super) fn allocate(
    file: BorrowedFd<'_>,
    mode: u32,
    offset: u64,
    length: u64,
) -> Result<(), Errno> {
    let mode = FallocateFlags::from_bits_retain(mode);
    rustix::fs::fallocate(file, mode, offset, length).errno()
}

/// Finds the next data or hole.
///
/// It moves the offset of the open file, which nothing here ever uses.
pub(super) fn seek(file: BorrowedFd<'_>, offset: u64, what: Seek) -> Result<u64, Errno> {
    let whence = match what {
        Seek::Data => SeekFrom::Data(offset),
        Seek::Hole => SeekFrom::Hole(offset),
    };
    rustix::fs::seek(file, whence).errno()
}
