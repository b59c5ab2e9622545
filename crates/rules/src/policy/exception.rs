//! The exception that comes before the policies: a new entry takes its whiteout's place.
//!
//! Where the name has a whiteout, or its directory is opaque, the branch of that is the one for the entry: below it would
//! not be seen, and above it the whiteout would stay for nothing. A read-only branch is no exception.

use super::{Branches, Place, not_covered};
use crate::stack::BranchIndex;

/// Returns the branch that the exception names.
pub(super) fn branch(place: &Place<'_>, branches: &impl Branches) -> Option<BranchIndex> {
    let topmost = place.whiteout.into_iter().chain(place.opaque).min()?;
    let branch = not_covered(place, topmost);
    branches.writable(branch).then_some(branch)
}
