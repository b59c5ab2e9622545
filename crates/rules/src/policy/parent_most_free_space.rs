//! `pmfs`, of the branches that have the directory the one with the most free space, and `pmfsrr`.

use super::{Branches, Place, most_free_space, top_down};
use crate::stack::BranchIndex;

pub(super) fn choose(
    place: &Place<'_>,
    branches: &impl Branches,
    seconds: u32,
) -> Option<BranchIndex> {
    let first = top_down::choose(place, branches)?;
    if place.members.len() == 1 {
        return Some(first);
    }
    let measured = branches.measured(seconds);
    // Going up, an equal one does not win: of several, the topmost.
    let holders = place.members.iter().rev().copied();
    let best = most_free_space::most(
        holders.filter(|branch| branches.writable(*branch)),
        &measured,
    );
    let more = |branch: &BranchIndex| measured.free(*branch) > measured.free(first);
    Some(best.filter(more).unwrap_or(first))
}

/// The same, and as `mfsrr` among all branches once the chosen one has less than `low` bytes.
pub(super) fn or_in_turn(
    place: &Place<'_>,
    branches: &impl Branches,
    low: u64,
    seconds: u32,
) -> Option<BranchIndex> {
    let best = choose(place, branches, seconds)?;
    match branches.measured(seconds).free(best) {
        Some(free) if free >= low => Some(best),
        _ => most_free_space::or_in_turn(place, branches, low, seconds),
    }
}
