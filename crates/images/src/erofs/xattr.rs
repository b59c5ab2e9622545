//! Extended attributes, beside the inode or shared.

use rules::Errno;

use super::Erofs;
use super::inode::Inode;
use crate::bytes::{Bytes, at_most, product, sum};
use crate::{XATTRS, Xattr, blocks};

/// Size of what precedes the attributes of an inode.
const HEAD: usize = 12;
/// Size of what precedes name and value.
const FIELDS: usize = 4;

impl Erofs {
    pub(super) fn xattrs_of(&self, inode: &Inode) -> Result<Vec<Xattr>, Errno> {
        if inode.xattrs_length <= HEAD {
            return Ok(Vec::new());
        }
        let area = blocks::read(&*self.source, inode.xattrs, inode.xattrs_length)?;
        let mut area = Bytes(&area);
        let _filter = area.u32()?;
        let shared = area.u8()?;
        area.take(HEAD - 5)?;
        let mut found = Vec::new();
        let mut room = XATTRS;
        for _ in 0..shared {
            let id = u64::from(area.u32()?);
            let place = sum(self.shared_xattrs, product(id, 4)?)?;
            let (name, value) = self.shared(place)?;
            room = room
                .checked_sub(name.len() + value.len())
                .ok_or(Errno::IO)?;
            found.push((name, value));
        }
        while area.0.len() >= FIELDS {
            let length = area.0.len();
            let head = Head::read(&mut area)?;
            found.push(head.read_rest(&mut area)?);
            let padding = (4 - (length - area.0.len()) % 4) % 4;
            area.take(padding.min(area.0.len()))?;
        }
        Ok(found)
    }

    fn shared(&self, place: u64) -> Result<Xattr, Errno> {
        let fields = blocks::array::<FIELDS>(&*self.source, place)?;
        let head = Head::read(&mut Bytes(&fields))?;
        let length = at_most((head.name + head.value) as u64, 1 << 17)?;
        let rest = blocks::read(&*self.source, sum(place, FIELDS as u64)?, length)?;
        head.read_rest(&mut Bytes(&rest))
    }
}

/// What precedes name and value.
struct Head {
    name: usize,
    prefix: &'static [u8],
    value: usize,
}

impl Head {
    fn read(bytes: &mut Bytes<'_>) -> Result<Self, Errno> {
        let name = bytes.u8()?.into();
        let prefix: &[u8] = match bytes.u8()? {
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            _ => return Err(Errno::IO),
        };
        let value = bytes.u16()?.into();
        Ok(Self {
            name,
            prefix,
            value,
        })
    }

    fn read_rest(&self, bytes: &mut Bytes<'_>) -> Result<Xattr, Errno> {
        let name = [self.prefix, bytes.take(self.name)?].concat();
        Ok((name, bytes.take(self.value)?.to_vec()))
    }
}
