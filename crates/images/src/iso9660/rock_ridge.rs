//! Rock Ridge: what POSIX needs, in the system use of directory records.

use rules::{Errno, Kind, Time};

use super::record::Record;
use super::times;
use crate::bytes::{Bytes, at_most, product, sum};
use crate::{LINK_MAX, NAME_MAX, Source, blocks};

/// Most areas that one record continues in.
const AREAS: usize = 64;
/// Longest of them.
const AREA: usize = 2048;

/// What the fields of a record say.
#[derive(Debug, Default)]
pub(super) struct RockRidge {
    pub(super) name: Option<Vec<u8>>,
    pub(super) owner: Option<Owner>,
    pub(super) device: u64,
    pub(super) target: Vec<u8>,
    pub(super) modified: Option<Time>,
    pub(super) accessed: Option<Time>,
    pub(super) changed: Option<Time>,
    /// Where a directory is that had to be moved for being too deep.
    pub(super) child: Option<u32>,
    /// This is such a directory, at the place that it was moved to.
    pub(super) is_relocated: bool,
    link: Link,
}

/// The attributes of POSIX (`PX`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) kind: Kind,
    pub(super) perm: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// How far the target of a link is put together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Link {
    #[default]
    Empty,
    /// The next component begins after a slash.
    AfterComponent,
    /// The next component begins at once.
    AtRoot,
    /// The next piece belongs to the same component.
    InComponent,
}

/// Returns how many bytes precede the fields, if there are any, as the root's own record says.
pub(super) fn find(source: &dyn Source, root: &Record) -> Result<Option<usize>, Errno> {
    let area = root.system_use();
    // CD-ROM XA puts fourteen bytes of its own in front.
    for skip in [0, 14] {
        let Some(&[b'S', b'P', 7, _, 0xbe, 0xef, skipped, ..]) = area.get(skip..) else {
            continue;
        };
        let skipped = usize::from(skipped);
        let fields = read(source, area, skip, super::SECTOR as u32)?;
        return Ok(fields.owner.map(|_| skipped));
    }
    Ok(None)
}

/// Reads all fields of a record.
pub(super) fn read(
    source: &dyn Source,
    area: &[u8],
    skip: usize,
    block_size: u32,
) -> Result<RockRidge, Errno> {
    let mut found = RockRidge::default();
    let mut area = area.get(skip..).unwrap_or(&[]).to_vec();
    for _ in 0..AREAS {
        let Some((block, offset, length)) = found.area(&area)? else {
            return Ok(found);
        };
        let start = product(block.into(), block_size.into())?;
        let start = sum(start, offset.into())?;
        area = blocks::read(source, start, at_most(length.into(), AREA)?)?;
    }
    Err(Errno::IO)
}

impl RockRidge {
    /// Takes over the fields of an area; returns where they continue: block, offset, length.
    fn area(&mut self, area: &[u8]) -> Result<Option<(u32, u32, u32)>, Errno> {
        let mut rest = Bytes(area);
        let mut more = None;
        // What is shorter than a field is padding.
        while rest.0.len() >= 4 {
            let length = usize::from(rest.0[2]);
            if length < 4 {
                break;
            }
            let Ok(field) = rest.take(length) else {
                return Err(Errno::IO);
            };
            let (tag, mut value) = (&field[..2], Bytes(&field[4..]));
            match tag {
                b"CE" => more = Some((both(&mut value)?, both(&mut value)?, both(&mut value)?)),
                b"PX" => self.owner = Some(owner(&mut value)?),
                b"PN" => self.device = device(both(&mut value)?, both(&mut value)?),
                b"NM" => self.name_piece(&mut value)?,
                b"SL" => self.link_piece(&mut value)?,
                b"TF" => self.times(&mut value)?,
                b"CL" => self.child = Some(both(&mut value)?),
                b"RE" => self.is_relocated = true,
                b"ST" => break,
                _ => {}
            }
        }
        Ok(more)
    }

    fn name_piece(&mut self, value: &mut Bytes<'_>) -> Result<(), Errno> {
        let flags = value.u8()?;
        if flags & 0b110 != 0 {
            // `.` and `..`
            return Ok(());
        }
        let name = self.name.get_or_insert_default();
        name.extend_from_slice(value.0);
        if name.len() > NAME_MAX {
            return Err(Errno::IO);
        }
        Ok(())
    }

    fn link_piece(&mut self, value: &mut Bytes<'_>) -> Result<(), Errno> {
        let _continues = value.u8()?;
        while value.0.len() >= 2 {
            let flags = value.u8()?;
            let length = value.u8()?;
            let text = value.take(length.into())?;
            if self.link == Link::AfterComponent {
                self.target.push(b'/');
            }
            match flags & 0b1110 {
                0b0010 => self.target.push(b'.'),
                0b0100 => self.target.extend_from_slice(b".."),
                0b1000 => self.target.push(b'/'),
                _ => self.target.extend_from_slice(text),
            }
            self.link = match flags {
                flags if flags & 0b1000 != 0 => Link::AtRoot,
                flags if flags & 1 != 0 => Link::InComponent,
                _ => Link::AfterComponent,
            };
            if self.target.len() > LINK_MAX {
                return Err(Errno::IO);
            }
        }
        Ok(())
    }

    fn times(&mut self, value: &mut Bytes<'_>) -> Result<(), Errno> {
        let flags = value.u8()?;
        // In this order: made, modified, accessed, attributes changed.
        for bit in 0..4 {
            if flags & 1 << bit == 0 {
                continue;
            }
            let time = if flags & 0x80 != 0 {
                times::long(value.take(17)?)
            } else {
                times::short(value.take(7)?)
            };
            match bit {
                1 => self.modified = Some(time),
                2 => self.accessed = Some(time),
                3 => self.changed = Some(time),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads a number that stands there in both orders of bytes.
fn both(value: &mut Bytes<'_>) -> Result<u32, Errno> {
    let number = value.u32()?;
    value.take(4)?;
    Ok(number)
}

fn owner(value: &mut Bytes<'_>) -> Result<Owner, Errno> {
    let mode = both(value)?;
    Ok(Owner {
        kind: Kind::of_mode(mode).ok_or(Errno::IO)?,
        perm: mode & 0o7777,
        nlink: both(value)?,
        uid: both(value)?,
        gid: both(value)?,
    })
}

/// Packs the number of a device as `makedev` does. Some writers put all of it into the lower half.
fn device(high: u32, low: u32) -> u64 {
    let (major, minor) = if high == 0 && low > 0xff {
        (low >> 8, low & 0xff)
    } else {
        (high, low)
    };
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
}
