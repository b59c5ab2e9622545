//! `rr`, round robin: the branches in turn, from the last to the first.
//!
//! Whether a branch has the directory does not matter: it is made there.

use super::{Branches, Place};
use crate::stack::BranchIndex;

/// Whose turn it is. Directories look and do not take a turn, as in AUFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation(u32);

impl Default for Rotation {
    /// Returns the rotation of a new mount.
    fn default() -> Self {
        // AUFS counts down from here.
        Self(30)
    }
}

impl Rotation {
    /// Returns the rotation as it is after a remount that asked for one: it begins at the bottommost writable branch.
    pub fn from(bottommost_writable: BranchIndex) -> Self {
        Self(u32::from(bottommost_writable.0).wrapping_neg())
    }

    /// Returns whose turn it is, and lets the next one have it.
    pub fn take(&mut self) -> u32 {
        if self.0 == 0 {
            self.0 = u32::MAX;
        }
        let turn = self.0;
        self.0 = turn.wrapping_sub(1);
        turn
    }

    /// Returns whose turn it is.
    pub fn peek(self) -> u32 {
        self.0
    }
}

/// What is done with a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is used.
    Take,
    /// It is looked at.
    Peek,
}

pub(super) fn choose(place: &Place<'_>, branches: &impl Branches) -> Option<BranchIndex> {
    let count = u32::from(place.branches).max(1);
    let at = |turn: u32| u16::try_from(turn % count).ok().map(BranchIndex);
    let writable = |branch: &BranchIndex| branches.writable(*branch);
    if place.is_dir {
        return at(branches.turn(Turn::Peek)).filter(writable);
    }
    (0..count).find_map(|_| at(branches.turn(Turn::Take)).filter(writable))
}
