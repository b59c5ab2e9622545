//! Branches as the rules see them: their order and what each is allowed.

use crate::Errno;
use crate::attr::Kind;

/// Where [`Powers::bits`] keeps what is no flag.
const ON_OPEN_AT: u32 = 8;
const XATTRS_AT: u32 = 16;

/// A position in the stack; 0 is topmost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchIndex(pub u16);

impl BranchIndex {
    /// Returns the position as an index into a slice.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// What opening an entry of a branch does before the open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CopyUpOnOpen {
    /// Nothing.
    #[default]
    Never,
    /// `coo_reg`: a regular file is copied up.
    Regular,
    /// `coo_all`: whatever is not a directory is copied up.
    All,
    /// `moo`: a regular file is copied up and removed here.
    Move,
}

impl CopyUpOnOpen {
    /// Tells whether opening something of this kind copies it up.
    pub fn concerns(self, kind: Kind) -> bool {
        match self {
            Self::Never => false,
            Self::Regular | Self::Move => kind == Kind::File,
            Self::All => true,
        }
    }
}

/// A set of extended attribute classes (`icex`, `icexsec`, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct XattrClasses(u8);

impl XattrClasses {
    /// No class.
    pub const NONE: Self = Self(0);
    /// `security.`
    pub const SECURITY: Self = Self(1);
    /// `system.`
    pub const SYSTEM: Self = Self(2);
    /// `trusted.`
    pub const TRUSTED: Self = Self(4);
    /// `user.`
    pub const USER: Self = Self(8);
    /// Any other prefix.
    pub const OTHER: Self = Self(16);
    /// All classes.
    pub const ALL: Self = Self(31);

    /// Returns the class that an attribute's name belongs to.
    pub fn of(name: &[u8]) -> Self {
        let prefixes: [(&[u8], Self); 4] = [
            (b"security.", Self::SECURITY),
            (b"system.", Self::SYSTEM),
            (b"trusted.", Self::TRUSTED),
            (b"user.", Self::USER),
        ];
        let found = prefixes.iter().find(|(prefix, _)| name.starts_with(prefix));
        found.map_or(Self::OTHER, |(_, class)| *class)
    }

    /// Tells whether every class of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Tells whether an error of copying an attribute may be passed over for a branch that names these classes.
    ///
    /// Where memory or a quota runs out the copy fails in any case: it would not be for want of support.
    pub fn excuses(self, name: &[u8], errno: Errno) -> bool {
        self.contains(Self::of(name)) && !matches!(errno, Errno::NOMEM | Errno::DQUOT)
    }

    /// Returns the classes of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a branch may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Powers {
    /// Changes may go here.
    pub writable: bool,
    /// Whiteouts and opaque marks here count.
    pub whiteouts: bool,
    /// Whiteouts are hard links to one base file, which saves inodes.
    pub linked_whiteouts: bool,
    /// What opening something here does first.
    pub copy_up_on_open: CopyUpOnOpen,
    /// Attributes whose failing copy onto this branch is no error.
    pub ignored_xattrs: XattrClasses,
}

impl Powers {
    /// Returns the same as bits, which can be kept where a lock would cost too much.
    pub fn bits(self) -> u32 {
        let flags = [self.writable, self.whiteouts, self.linked_whiteouts];
        let numbered = flags.iter().zip(0..);
        let flags = numbered.fold(0, |bits, (flag, at)| bits | u32::from(*flag) << at);
        let on_open = match self.copy_up_on_open {
            CopyUpOnOpen::Never => 0,
            CopyUpOnOpen::Regular => 1,
            CopyUpOnOpen::All => 2,
            CopyUpOnOpen::Move => 3,
        };
        flags | on_open << ON_OPEN_AT | u32::from(self.ignored_xattrs.0) << XATTRS_AT
    }

    /// Returns what [`Powers::bits`] was made of.
    pub fn from_bits(bits: u32) -> Self {
        let flag = |at: u32| bits & 1 << at != 0;
        let classes = bits >> XATTRS_AT & u32::from(XattrClasses::ALL.0);
        Self {
            writable: flag(0),
            whiteouts: flag(1),
            linked_whiteouts: flag(2),
            copy_up_on_open: match bits >> ON_OPEN_AT & 3 {
                0 => CopyUpOnOpen::Never,
                1 => CopyUpOnOpen::Regular,
                2 => CopyUpOnOpen::All,
                _ => CopyUpOnOpen::Move,
            },
            ignored_xattrs: XattrClasses(classes as u8),
        }
    }

    /// A writable branch (`rw`).
    pub const WRITABLE: Self = Self {
        writable: true,
        whiteouts: true,
        linked_whiteouts: true,
        copy_up_on_open: CopyUpOnOpen::Never,
        ignored_xattrs: XattrClasses::NONE,
    };
    /// A read-only branch whose whiteouts count (`ro+wh`).
    pub const LAYER: Self = Self {
        writable: false,
        whiteouts: true,
        linked_whiteouts: false,
        copy_up_on_open: CopyUpOnOpen::Never,
        ignored_xattrs: XattrClasses::NONE,
    };
    /// A read-only branch whose whiteouts do not count (`ro`).
    pub const PLAIN: Self = Self {
        writable: false,
        whiteouts: false,
        linked_whiteouts: false,
        copy_up_on_open: CopyUpOnOpen::Never,
        ignored_xattrs: XattrClasses::NONE,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_survive_as_bits() {
        let on_open = [
            CopyUpOnOpen::Never,
            CopyUpOnOpen::Regular,
            CopyUpOnOpen::All,
            CopyUpOnOpen::Move,
        ];
        for powers in [Powers::WRITABLE, Powers::LAYER, Powers::PLAIN] {
            for copy_up_on_open in on_open {
                for classes in 0..=XattrClasses::ALL.0 {
                    let powers = Powers {
                        copy_up_on_open,
                        ignored_xattrs: XattrClasses(classes),
                        ..powers
                    };
                    assert_eq!(Powers::from_bits(powers.bits()), powers);
                }
            }
        }
    }

    #[test]
    fn an_attribute_name_has_one_class() {
        assert_eq!(
            XattrClasses::of(b"security.capability"),
            XattrClasses::SECURITY
        );
        assert_eq!(XattrClasses::of(b"user.a"), XattrClasses::USER);
        assert_eq!(XattrClasses::of(b"username"), XattrClasses::OTHER);
        assert!(XattrClasses::ALL.contains(XattrClasses::of(b"btrfs.x")));
    }

    #[test]
    fn only_the_named_classes_are_excused_and_never_a_lack_of_memory_or_quota() {
        let user = XattrClasses::USER;
        assert!(user.excuses(b"user.a", Errno::OPNOTSUPP));
        assert!(!user.excuses(b"trusted.a", Errno::OPNOTSUPP));
        assert!(!user.excuses(b"user.a", Errno::NOMEM));
        assert!(!XattrClasses::ALL.excuses(b"user.a", Errno::DQUOT));
        assert!(!XattrClasses::NONE.excuses(b"user.a", Errno::PERM));
    }
}
