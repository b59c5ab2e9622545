//! Access control lists in the form that extended attributes have them.
//!
//! Only what shapes modes is here: permissions are not checked, as root's are not.

use rules::Errno;

/// The list that decides who may do what.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The list that a directory hands down to what is made in it.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: [u8; 4] = [2, 0, 0, 0];
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// A list of who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

impl Acl {
    /// Reads a value. `None` is the empty list, which stands for none at all.
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>, Errno> {
        if value.is_empty() {
            return Ok(None);
        }
        let Some((version, body)) = value.split_at_checked(4) else {
            return Err(Errno::INVAL);
        };
        if version != VERSION {
            return Err(Errno::OPNOTSUPP);
        }
        if body.len() % 8 != 0 {
            return Err(Errno::INVAL);
        }
        let entries: Vec<Entry> = body
            .chunks_exact(8)
            .map(|raw| Entry {
                tag: u16::from_le_bytes([raw[0], raw[1]]),
                perm: u16::from_le_bytes([raw[2], raw[3]]),
                id: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
            })
            .collect();
        Ok((!entries.is_empty()).then_some(Self(entries)))
    }

    /// Returns the value that an extended attribute has for the list.
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = VERSION.to_vec();
        for entry in &self.0 {
            value.extend(entry.tag.to_le_bytes());
            value.extend(entry.perm.to_le_bytes());
            value.extend(entry.id.to_le_bytes());
        }
        value
    }

    /// Makes sure that owner, group and others are there once each, in order, and a mask where
    /// users or groups are named.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP);
        let valid = self.0.iter().all(|entry| entry.perm <= 7)
            && self.0.is_sorted_by_key(|entry| entry.tag)
            && [USER_OBJ, GROUP_OBJ, OTHER]
                .into_iter()
                .all(|tag| count(tag) == 1)
            && count(MASK) <= 1
            && (named == 0 || count(MASK) == 1)
            && self.0.len() == 3 + named + count(MASK);
        if valid { Ok(()) } else { Err(Errno::INVAL) }
    }

    /// Returns whether permission bits say the same.
    pub(crate) fn is_plain(&self) -> bool {
        self.0
            .iter()
            .all(|entry| matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// Returns how far to shift a mode to get an entry's bits; nothing for named ones.
    fn shift(&self, tag: u16) -> Option<u32> {
        match tag {
            USER_OBJ => Some(6),
            MASK => Some(3),
            GROUP_OBJ if !self.0.iter().any(|entry| entry.tag == MASK) => Some(3),
            OTHER => Some(0),
            _ => None,
        }
    }

    /// Returns the permission bits with those replaced that the list decides.
    pub(crate) fn decide(&self, perm: u32) -> u32 {
        let bits = self.0.iter().filter_map(|entry| {
            self.shift(entry.tag)
                .map(|shift| u32::from(entry.perm) << shift)
        });
        bits.fold(perm & !0o777, |all, bits| all | bits)
    }

    /// Returns the list as `chmod` leaves it.
    pub(crate) fn changed_to(&self, perm: u32) -> Self {
        let change = |entry: &Entry| match self.shift(entry.tag) {
            Some(shift) => Entry {
                perm: (perm >> shift) as u16 & 7,
                ..*entry
            },
            None => *entry,
        };
        Self(self.0.iter().map(change).collect())
    }

    /// Returns the list that a new object of these permissions gets from a directory's default.
    pub(crate) fn handed_down(&self, perm: u32) -> Self {
        let narrow = |entry: &Entry| match self.shift(entry.tag) {
            Some(shift) => Entry {
                perm: entry.perm & (perm >> shift) as u16 & 7,
                ..*entry
            },
            None => *entry,
        };
        Self(self.0.iter().map(narrow).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .map(|&(tag, perm, id)| Entry { tag, perm, id });
        Acl(entries.collect()).value()
    }

    #[test]
    fn malformed_lists_are_refused() {
        let good = value(&[(1, 6, 0), (2, 7, 5), (4, 4, 0), (0x10, 5, 0), (0x20, 0, 0)]);
        assert_eq!(
            Acl::parse(&good).map(|acl| acl.map(|acl| acl.value())),
            Ok(Some(good.clone()))
        );
        assert_eq!(Acl::parse(&VERSION), Ok(None));
        let no_mask = value(&[(1, 6, 0), (2, 7, 5), (4, 4, 0), (0x20, 0, 0)]);
        let no_other = value(&[(1, 6, 0), (4, 4, 0)]);
        for bad in [&good[..7], &good[..2], &no_mask, &no_other] {
            let checked = Acl::parse(bad).and_then(|acl| acl.map_or(Ok(()), |acl| acl.check()));
            assert_eq!(checked, Err(Errno::INVAL), "{bad:?}");
        }
        assert_eq!(Acl::parse(&[1, 0, 0, 0]), Err(Errno::OPNOTSUPP));
    }

    #[test]
    fn the_mask_stands_for_the_group_bits() {
        let bytes = value(&[(1, 7, 0), (2, 7, 5), (4, 5, 0), (0x10, 6, 0), (0x20, 1, 0)]);
        let acl = Acl::parse(&bytes).unwrap().unwrap();
        assert_eq!(acl.decide(0o2000), 0o2761);
        assert_eq!(acl.changed_to(0o640).decide(0), 0o640);
        assert_eq!(acl.handed_down(0o626).decide(0), 0o620);
    }
}
