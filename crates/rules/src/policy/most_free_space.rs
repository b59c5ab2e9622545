//! `mfs`, most free space, and `mfsrr`, which takes turns once little is left.

use super::{Branches, Place, round_robin};
use crate::stack::BranchIndex;

/// The free bytes of the branches, as they were measured: those for others than the superuser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured(Vec<Option<u64>>);

impl Measured {
    /// Notes what each branch has, topmost first; `None` for one that is read-only or did not answer.
    pub fn new(free: impl IntoIterator<Item = Option<u64>>) -> Self {
        Self(free.into_iter().collect())
    }

    /// Returns the free bytes of a branch; `None`: nothing can be put there.
    pub fn free(&self, branch: BranchIndex) -> Option<u64> {
        self.0.get(branch.get()).copied().flatten()
    }

    /// Returns the branch with the most free space; of several, the lowest.
    pub(super) fn most_free(&self, branches: &impl Branches) -> Option<BranchIndex> {
        let indexes = (0..).map(BranchIndex).take(self.0.len());
        most(indexes.filter(|branch| branches.writable(*branch)), self)
    }
}

/// Returns the one with the most free space; of several, the last.
pub(super) fn most(
    branches: impl Iterator<Item = BranchIndex>,
    measured: &Measured,
) -> Option<BranchIndex> {
    let answered = branches.filter_map(|branch| Some((measured.free(branch)?, branch)));
    answered
        .max_by_key(|(free, _)| *free)
        .map(|(_, branch)| branch)
}

pub(super) fn choose(branches: &impl Branches, seconds: u32) -> Option<BranchIndex> {
    branches.measured(seconds).most_free(branches)
}

/// The same, and in turn once the best has less than `low` bytes.
pub(super) fn or_in_turn(
    place: &Place<'_>,
    branches: &impl Branches,
    low: u64,
    seconds: u32,
) -> Option<BranchIndex> {
    let measured = branches.measured(seconds);
    let best = measured.most_free(branches)?;
    match measured.free(best) {
        Some(free) if free >= low => Some(best),
        _ => round_robin::choose(place, branches),
    }
}
