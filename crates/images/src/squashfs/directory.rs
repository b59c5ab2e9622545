//! Directories: runs of entries whose inodes are in one metadata block.

use rules::{Errno, Kind, Name};

use super::Squashfs;
use super::inode::{Inode, What};
use super::metadata::Place;
use crate::bytes::{Bytes, sum};
use crate::{Entry, NodeId, add, finished};

/// `.` and `..` count in the size of a directory without being in it.
const DOTS: u32 = 3;
/// Most entries after one header.
const RUN: u32 = 256;

impl Squashfs {
    pub(super) fn list(&self, dir: &Inode) -> Result<Vec<Entry>, Errno> {
        let What::Dir {
            block,
            offset,
            size,
        } = dir.what
        else {
            return Err(Errno::NOTDIR);
        };
        let mut place = Place::new(sum(self.tables.directories, block.into())?, offset.into())?;
        let mut left = size.saturating_sub(DOTS);
        let mut entries = Vec::new();
        let mut take = |length: u32| {
            left = left.checked_sub(length).ok_or(Errno::IO)?;
            Ok::<_, Errno>((self.take(&mut place, length as usize)?, left))
        };
        let mut more = size > DOTS;
        while more {
            let (head, _) = take(12)?;
            let mut head = Bytes(&head);
            let count = head.u32()?;
            let block = u64::from(head.u32()?) << 16;
            let number = head.u32()?;
            if count >= RUN {
                return Err(Errno::IO);
            }
            for _ in 0..=count {
                let (fields, _) = take(8)?;
                let mut fields = Bytes(&fields);
                let offset = fields.u16()?;
                let above = fields.u16()?.cast_signed();
                let kind = kind_of(fields.u16()?)?;
                let length = u32::from(fields.u16()?) + 1;
                if length as usize > crate::NAME_MAX + 1 {
                    return Err(Errno::IO);
                }
                let (name, left) = take(length)?;
                add(
                    &mut entries,
                    Entry {
                        name: Name::new(&name).map_err(|_| Errno::IO)?,
                        kind: Some(kind),
                        node: NodeId(block | u64::from(offset)),
                        ino: number.wrapping_add_signed(above.into()).into(),
                    },
                )?;
                more = left > 0;
            }
        }
        Ok(finished(entries))
    }
}

fn kind_of(number: u16) -> Result<Kind, Errno> {
    Ok(match number {
        1 => Kind::Dir,
        2 => Kind::File,
        3 => Kind::Symlink,
        4 => Kind::BlockDevice,
        5 => Kind::CharDevice,
        6 => Kind::Fifo,
        7 => Kind::Socket,
        _ => return Err(Errno::IO),
    })
}
