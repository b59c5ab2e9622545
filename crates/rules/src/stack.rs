//! Branches as the rules see them: their order and what each is allowed.

/// A position in the stack; 0 is topmost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchIndex(pub u16);

impl BranchIndex {
    /// Returns the position as an index into a slice.
    pub fn get(self) -> usize {
        usize::from(self.0)
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
}

impl Powers {
    /// Returns the same as bits, which can be kept where a lock would cost too much.
    pub fn bits(self) -> u32 {
        let flags = [self.writable, self.whiteouts, self.linked_whiteouts];
        let numbered = flags.iter().zip(0..);
        numbered.fold(0, |bits, (flag, at)| bits | u32::from(*flag) << at)
    }

    /// Returns what [`Powers::bits`] was made of.
    pub fn from_bits(bits: u32) -> Self {
        let flag = |at: u32| bits & 1 << at != 0;
        Self {
            writable: flag(0),
            whiteouts: flag(1),
            linked_whiteouts: flag(2),
        }
    }

    /// A writable branch (`rw`).
    pub const WRITABLE: Self = Self {
        writable: true,
        whiteouts: true,
        linked_whiteouts: true,
    };
    /// A read-only branch whose whiteouts count (`ro+wh`).
    pub const LAYER: Self = Self {
        writable: false,
        whiteouts: true,
        linked_whiteouts: false,
    };
    /// A read-only branch whose whiteouts do not count (`ro`).
    pub const PLAIN: Self = Self {
        writable: false,
        whiteouts: false,
        linked_whiteouts: false,
    };
}
