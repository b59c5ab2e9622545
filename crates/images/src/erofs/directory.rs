//! Directories: blocks that have their entries at the front and the names behind.

use rules::{Errno, Kind, Name};

use super::Erofs;
use super::inode::Inode;
use crate::bytes::{Bytes, from};
use crate::{Entry, NAME_MAX, NodeId, add, finished};

/// Size of an entry.
const ENTRY: usize = 12;

impl Erofs {
    pub(super) fn list(&self, dir: &Inode) -> Result<Vec<Entry>, Errno> {
        if dir.kind != Kind::Dir {
            return Err(Errno::NOTDIR);
        }
        let mut entries = Vec::new();
        for index in 0..dir.size.div_ceil(self.block_size().into()) {
            read(&self.dir_block(dir, index)?, &mut entries)?;
        }
        Ok(finished(entries))
    }
}

fn read(block: &[u8], entries: &mut Vec<Entry>) -> Result<(), Errno> {
    let first = usize::from(from(block, 8)?.u16()?);
    if first < ENTRY || first >= block.len() || !first.is_multiple_of(ENTRY) {
        return Err(Errno::IO);
    }
    let mut fields = Bytes(&block[..first]);
    for index in 1..=first / ENTRY {
        let node = fields.u64()?;
        let start = usize::from(fields.u16()?);
        let kind = fields.u8()?;
        let _reserved = fields.u8()?;
        // The next entry says where this one's name ends.
        let end = if index == first / ENTRY {
            block.len()
        } else {
            from(block, index * ENTRY + 8)?.u16()?.into()
        };
        let name = block.get(start..end).ok_or(Errno::IO)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or(name);
        if matches!(name, b"." | b"..") {
            continue;
        }
        if name.len() > NAME_MAX {
            return Err(Errno::IO);
        }
        let entry = Entry {
            name: Name::new(name).map_err(|_| Errno::IO)?,
            kind: kind_of(kind),
            node: NodeId(node),
            ino: node,
        };
        add(entries, entry)?;
    }
    Ok(())
}

fn kind_of(number: u8) -> Option<Kind> {
    Some(match number {
        1 => Kind::File,
        2 => Kind::Dir,
        3 => Kind::CharDevice,
        4 => Kind::BlockDevice,
        5 => Kind::Fifo,
        6 => Kind::Socket,
        7 => Kind::Symlink,
        _ => return None,
    })
}
