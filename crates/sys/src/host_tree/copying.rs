//! Copying contents from one open file to another, cheapest way first.
//!
//! Holes stay holes. The kernel copies where it can, and shares blocks where the
//! filesystem can; a buffer of ours is the last resort.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rules::Errno;
use tree::Seek;

use super::place::Place;
use super::{attributes, contents};
use crate::errno::{IntoErrno, check, uninterrupted};

/// Room for what one step through the buffer copies.
const BUFFER: usize = 256 * 1024;
/// The least run of zeros that becomes a hole where the source cannot tell its holes.
const BLOCK: usize = 4096;
/// Up to this size a file is read whole at once.
const SMALL: u64 = 4 * BLOCK as u64;

/// An open file with an offset in it.
type Spot<'a> = (BorrowedFd<'a>, u64);

/// Copies a range and returns how many bytes it was, 0 at the end of the source.
///
/// `EINVAL` when the ranges overlap in one file, as the kernel says it.
pub(super) fn copy_range(from: Spot<'_>, to: Spot<'_>, length: u64) -> Result<u64, Errno> {
    match copy_in_kernel(from, to, length) {
        Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            if overlap(from, to, length)? {
                return Err(Errno::INVAL);
            }
            copy_through_buffer(from, to, length, Zeros::Written)
        }
        done => done,
    }
}

/// Fills an empty file with the first `length` bytes of another. `clones` tells whether sharing blocks is worth trying, and
/// learns whether it is.
pub(super) fn copy_data(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    length: u64,
    clones: &AtomicBool,
) -> Result<(), Errno> {
    if length <= SMALL {
        return copy_small(from, to, length);
    }
    if clones.load(Ordering::Relaxed) {
        match clone_range(from, to, length) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => clones.store(false, Ordering::Relaxed),
            // A clone that fails, for whatever reason, has done nothing: copying tells the reason.
            Err(_) => {}
        }
    }
    copy_segments(from, to, length)?;
    // A hole at the end is left to make; and the source may have changed meanwhile.
    if size(to)? != length {
        set_size(to, length)?;
    }
    Ok(())
}

/// Lets the file `to` share the first `length` bytes of `from`, and have that size. `EINVAL` when `from` is shorter, or when its end is
/// not the end of a block.
fn clone_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: u64) -> Result<(), Errno> {
    let range = libc::file_clone_range {
        src_fd: from.as_raw_fd().into(),
        src_offset: 0,
        src_length: length,
        dest_offset: 0,
    };
    // SAFETY: the call reads one `file_clone_range`, which lives through it.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONERANGE as _, &raw const range) })
        .map(drop)
}

/// Copies what one read gets, which takes fewer calls than asking for holes first. Blocks of zeros become holes.
fn copy_small(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: u64) -> Result<(), Errno> {
    let mut buffer = [0; SMALL as usize];
    let wanted = &mut buffer[..usize::try_from(length).unwrap_or(0)];
    let count = contents::read(from, wanted, 0)?;
    let (copied, mut end) = (&wanted[..count], 0);
    for (index, block) in copied.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            let at = (index * BLOCK) as u64;
            contents::write_all(to, block, at)?;
            end = at + block.len() as u64;
        }
    }
    if end == length {
        Ok(())
    } else {
        set_size(to, length)
    }
}

fn set_size(file: BorrowedFd<'_>, length: u64) -> Result<(), Errno> {
    uninterrupted(|| rustix::fs::ftruncate(file, length).errno())
}

/// Copies everything that is no hole.
fn copy_segments(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < length {
        let start = match contents::seek(from, at, Seek::Data) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                copy_through_buffer((from, at), (to, at), length - at, Zeros::LeftOut)?;
                return Ok(());
            }
            Err(errno) => return Err(errno),
        };
        if start >= length {
            return Ok(());
        }
        let end = contents::seek(from, start, Seek::Hole)?.min(length);
        copy_segment(from, to, start, end)?;
        at = end;
    }
    Ok(())
}

/// Copies the bytes from `start` to `end`, or to the end of a source that became shorter.
fn copy_segment(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    start: u64,
    end: u64,
) -> Result<(), Errno> {
    let mut at = start;
    while at < end {
        match copy_range((from, at), (to, at), end - at)? {
            0 => return Ok(()),
            count => at += count,
        }
    }
    Ok(())
}

fn copy_in_kernel(from: Spot<'_>, to: Spot<'_>, length: u64) -> Result<u64, Errno> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    uninterrupted(|| {
        let (mut from_offset, mut to_offset) = (from.1, to.1);
        let (from_offset, to_offset) = (Some(&mut from_offset), Some(&mut to_offset));
        rustix::fs::copy_file_range(from.0, from_offset, to.0, to_offset, length).errno()
    })
    .map(|count| count as u64)
}

/// What becomes of a block of zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    Written,
    LeftOut,
}

pub(super) fn copy_through_buffer(
    from: Spot<'_>,
    to: Spot<'_>,
    length: u64,
    zeros: Zeros,
) -> Result<u64, Errno> {
    let mut buffer = vec![0; BUFFER.min(usize::try_from(length).unwrap_or(BUFFER))];
    let mut done = 0;
    while done < length {
        let want = buffer
            .len()
            .min(usize::try_from(length - done).unwrap_or(usize::MAX));
        let count = contents::read(from.0, &mut buffer[..want], from.1 + done)?;
        if count == 0 {
            break;
        }
        write_blocks(to.0, &buffer[..count], to.1 + done, zeros)?;
        done += count as u64;
    }
    Ok(done)
}

fn write_blocks(to: BorrowedFd<'_>, bytes: &[u8], offset: u64, zeros: Zeros) -> Result<(), Errno> {
    if zeros == Zeros::Written {
        return contents::write_all(to, bytes, offset);
    }
    let blocks = bytes.chunks(BLOCK).enumerate();
    for (index, block) in blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
        contents::write_all(to, block, offset + (index * BLOCK) as u64)?;
    }
    Ok(())
}

fn overlap(from: Spot<'_>, to: Spot<'_>, length: u64) -> Result<bool, Errno> {
    let (source, target) = (
        attributes::attr(Place::itself(from.0))?,
        attributes::attr(Place::itself(to.0))?,
    );
    let same_file = (source.dev, source.ino) == (target.dev, target.ino);
    Ok(same_file && from.1.abs_diff(to.1) < length)
}

fn size(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    attributes::attr(Place::itself(file)).map(|attr| attr.size)
}
