//! Extended attributes.

use rules::Errno;

use super::inode::Inode;
use super::metadata::Place;
use super::{NO_TABLE, NONE, Squashfs};
use crate::bytes::{Bytes, at_most};
use crate::{NAME_MAX, XATTRS, Xattr, blocks};

/// In the type of an attribute: its value is elsewhere, and shared.
const ELSEWHERE: u16 = 0x100;
/// Longest value (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65536;

impl Squashfs {
    pub(super) fn xattrs_of(&self, inode: &Inode) -> Result<Vec<Xattr>, Errno> {
        if inode.xattrs == NONE || self.tables.xattrs == NO_TABLE {
            return Ok(Vec::new());
        }
        let head = blocks::array::<16>(&*self.source, self.tables.xattrs)?;
        let mut head = Bytes(&head);
        let values = head.u64()?;
        if inode.xattrs >= head.u32()? {
            return Err(Errno::IO);
        }
        let list = crate::bytes::sum(self.tables.xattrs, 16)?;
        let entry = self.table_entry::<16>(list, inode.xattrs.into())?;
        let mut entry = Bytes(&entry);
        let mut place = Place::of_reference(values, entry.u64()?)?;
        let count = entry.u32()?;
        let mut found = Vec::new();
        let mut room = XATTRS;
        for _ in 0..count {
            let (name, value) = self.xattr(&mut place, values)?;
            // Small ones take more than their bytes.
            let taken = name.len() + value.len() + 64;
            room = room.checked_sub(taken).ok_or(Errno::IO)?;
            found.push((name, value));
        }
        Ok(found)
    }

    fn xattr(&self, place: &mut Place, values: u64) -> Result<Xattr, Errno> {
        let head = self.take(place, 4)?;
        let mut head = Bytes(&head);
        let (kind, length) = (head.u16()?, head.u16()?);
        let prefix: &[u8] = match kind & 0xff {
            0 => b"user.",
            1 => b"trusted.",
            2 => b"security.",
            _ => return Err(Errno::IO),
        };
        let length = at_most(length.into(), NAME_MAX)?;
        let name = [prefix, &self.take(place, length)?].concat();
        let value = self.value(place)?;
        if kind & ELSEWHERE == 0 {
            return Ok((name, value));
        }
        let mut elsewhere = Place::of_reference(values, Bytes(&value).u64()?)?;
        Ok((name, self.value(&mut elsewhere)?))
    }

    fn value(&self, place: &mut Place) -> Result<Vec<u8>, Errno> {
        let length = Bytes(&self.take(place, 4)?).u32()?;
        self.take(place, at_most(length.into(), VALUE_MAX)?)
    }
}
