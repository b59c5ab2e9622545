//! Permission bits: who may read or search a directory.

use crate::attr::{Attr, Identity};

/// What somebody wants to do with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Reading its names.
    Read,
    /// Going through it to a name.
    Search,
}

/// Who wants to, and whom permission bits bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// User and group.
    pub identity: Identity,
    /// Further groups.
    pub groups: Vec<u32>,
}

impl Wish {
    fn bit(self) -> u32 {
        match self {
            Self::Read => 4,
            Self::Search => 1,
        }
    }

    /// Tells whether permission bits grant it to everybody.
    pub fn is_granted_to_all(self, perm: u32) -> bool {
        let all = self.bit() * 0o111;
        perm & all == all
    }

    /// Tells whether the permission bits of a directory grant it. The first class that fits decides, as in the kernel.
    pub fn is_granted(self, attr: &Attr, who: &Subject) -> bool {
        let shift = if who.identity.uid == attr.uid {
            6
        } else if who.identity.gid == attr.gid || who.groups.contains(&attr.gid) {
            3
        } else {
            0
        };
        attr.perm >> shift & self.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Time};

    fn directory(perm: u32) -> Attr {
        Attr {
            dev: 1,
            ino: 1,
            kind: Kind::Dir,
            perm,
            nlink: 2,
            uid: 10,
            gid: 20,
            rdev: 0,
            size: 0,
            blocks: 0,
            block_size: 4096,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            btime: None,
            immutable: false,
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        for (perm, uid, gid, more, search, read) in [
            (0o700, 10, 1, &[][..], true, true),
            (0o077, 10, 20, &[20], false, false),
            (0o750, 11, 20, &[], true, true),
            (0o710, 11, 1, &[7, 20], true, false),
            (0o705, 11, 20, &[], false, false),
            (0o705, 11, 1, &[], true, true),
            (0o771, 11, 1, &[], true, false),
            (0o744, 11, 1, &[], false, true),
        ] {
            let who = Subject {
                identity: Identity { uid, gid },
                groups: more.to_vec(),
            };
            let attr = directory(perm);
            let granted = (
                Wish::Search.is_granted(&attr, &who),
                Wish::Read.is_granted(&attr, &who),
            );
            assert_eq!(granted, (search, read), "{perm:o} {who:?}");
        }
    }

    #[test]
    fn what_all_three_classes_have_is_granted_to_all() {
        for (perm, search, read) in [
            (0o755, true, true),
            (0o711, true, false),
            (0o744, false, true),
            (0o705, false, false),
        ] {
            assert_eq!(Wish::Search.is_granted_to_all(perm), search, "{perm:o}");
            assert_eq!(Wish::Read.is_granted_to_all(perm), read, "{perm:o}");
        }
    }
}
