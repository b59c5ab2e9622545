//! Reading all names of a directory.

use std::os::fd::BorrowedFd;

use rules::{Errno, Kind, Name};
use rustix::fs::{FileType, RawDir};
use tree::DirEntry;

use super::opening;
use crate::errno::IntoErrno;

/// Room for what one call reads: about two thousand names.
const BUFFER: usize = 64 * 1024;

/// Returns the names in the directory's own order, without `.` and `..`.
pub(super) fn list(dir: BorrowedFd<'_>) -> Result<Vec<DirEntry>, Errno> {
    let dir = opening::dir_for_reading(dir)?;
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut records = RawDir::new(&dir, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(record) = records.next() {
        let record = record.errno()?;
        let name = record.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        // A damaged filesystem may show names that are none.
        let name = Name::new(name).map_err(|_| Errno::IO)?;
        entries.push(DirEntry {
            name,
            kind: kind(record.file_type()),
            ino: record.ino(),
        });
    }
    Ok(entries)
}

fn kind(told: FileType) -> Option<Kind> {
    Some(match told {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return None,
    })
}
