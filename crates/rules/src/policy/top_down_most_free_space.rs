//! `tdmfs`: the topmost branch with more than so many bytes, else the one with the most.
//!
//! It looks down to the bottommost branch that has the directory, and no further than to a whiteout of the name.

use super::{Branches, Place, all, not_covered};
use crate::stack::BranchIndex;

pub(super) fn choose(
    place: &Place<'_>,
    branches: &impl Branches,
    low: u64,
    seconds: u32,
) -> Option<BranchIndex> {
    let bottommost = *place.members.last()?;
    let tail = place
        .whiteout
        .map_or(bottommost, |whiteout| whiteout.min(bottommost));
    let tail = not_covered(place, tail);
    let measured = branches.measured(seconds);
    let roomy = |branch: &BranchIndex| {
        branches.writable(*branch) && measured.free(*branch).is_some_and(|free| free > low)
    };
    let found = all(place).take_while(|branch| *branch <= tail).find(roomy);
    found.or_else(|| measured.most_free(branches))
}
