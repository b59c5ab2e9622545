//! `tdp`, top down, parent: the topmost branch of the directory, or the nearest writable one above it.
//!
//! It never looks below: what is written under a read-only branch would be seen today and hidden tomorrow.

use super::{Branches, Place};
use crate::placement::nearest_writable;
use crate::stack::BranchIndex;

pub(super) fn choose(place: &Place<'_>, branches: &impl Branches) -> Option<BranchIndex> {
    nearest_writable(*place.members.first()?, |branch| branches.shows(branch))
}
