//! Choosing the branch that receives a new entry (`create=`).
//!
//! A policy is a file here and a line in [`choose`]. Whatever it prefers, what is new must be seen: the exception for
//! whiteouts and opaque directories comes before it, and one last check after it, for all of them.
//!
//! The facts come from the union: what the branches have at the place, and what they measured last of their free space.
//! What they remember from one entry to the next is in [`Rotation`] and [`Measured`].

mod exception;
mod most_free_space;
mod parent_most_free_space;
mod round_robin;
mod top_down;
mod top_down_most_free_space;

use crate::options::CreatePolicy;
use crate::options::policy::DEFAULT_MEASUREMENT_SECONDS;
use crate::placement::{self, CopyUpPolicy};
use crate::stack::BranchIndex;

pub use most_free_space::Measured;
pub use round_robin::{Rotation, Turn};

/// The place where something new is to be, as far as the branches are concerned.
pub struct Place<'a> {
    /// How many branches there are.
    pub branches: u16,
    /// The branches that have the directory, topmost first.
    pub members: &'a [BranchIndex],
    /// The topmost branch with a whiteout of the new name.
    pub whiteout: Option<BranchIndex>,
    /// The branch on which the directory is opaque.
    pub opaque: Option<BranchIndex>,
    /// The topmost branch on which a directory that holds this one is opaque.
    pub covered: Option<BranchIndex>,
    /// What is new is a directory.
    pub is_dir: bool,
}

/// What a policy may ask about branches.
pub trait Branches {
    /// Returns whether a branch takes changes.
    fn writable(&self, branch: BranchIndex) -> bool;
    /// Returns whether a branch can have the directory, and a new entry in it would be seen.
    fn shows(&self, branch: BranchIndex) -> bool;
    /// Returns the free space of the branches, measured less than so many seconds ago.
    fn measured(&self, seconds: u32) -> Measured;
    /// Returns whose turn it is, see [`Rotation::take`] and [`Rotation::peek`].
    fn turn(&self, turn: Turn) -> u32;
}

/// Chooses the branch for a new entry; `None`: no branch may receive it.
pub fn choose(
    policy: CreatePolicy,
    copy_up: CopyUpPolicy,
    place: &Place<'_>,
    branches: &impl Branches,
) -> Option<BranchIndex> {
    let chosen = match policy {
        CreatePolicy::TopDownParent => top_down::choose(place, branches),
        CreatePolicy::TopDownMostFreeSpace(low) => {
            top_down_most_free_space::choose(place, branches, low.bytes, seconds(low.seconds))
        }
        _ if let Some(exception) = exception::branch(place, branches) => Some(exception),
        CreatePolicy::RoundRobin => round_robin::choose(place, branches),
        CreatePolicy::MostFreeSpace { seconds: asked } => {
            most_free_space::choose(branches, seconds(asked))
        }
        CreatePolicy::MostFreeSpaceRoundRobin(low) => {
            most_free_space::or_in_turn(place, branches, low.bytes, seconds(low.seconds))
        }
        CreatePolicy::ParentMostFreeSpace { seconds: asked } => {
            parent_most_free_space::choose(place, branches, seconds(asked))
        }
        CreatePolicy::ParentMostFreeSpaceRoundRobin(low) => {
            parent_most_free_space::or_in_turn(place, branches, low.bytes, seconds(low.seconds))
        }
    };
    checked(chosen, copy_up, place, branches)
}

/// Chooses another branch for a new entry when those in `full` had no space: the one with the most.
pub fn choose_other(
    full: &[BranchIndex],
    place: &Place<'_>,
    branches: &impl Branches,
) -> Option<BranchIndex> {
    let measured = branches.measured(0);
    let fits = |branch: BranchIndex| !full.contains(&branch) && branches.shows(branch);
    most_free_space::most(all(place).filter(|branch| fits(*branch)), &measured)
}

/// The last word on every choice: never below an opaque directory, and never where it would not be seen or written. What the
/// policy cannot have, the copy-up policy finds a branch for.
fn checked(
    chosen: Option<BranchIndex>,
    copy_up: CopyUpPolicy,
    place: &Place<'_>,
    branches: &impl Branches,
) -> Option<BranchIndex> {
    let usable = |branch: &BranchIndex| branches.writable(*branch) && branches.shows(*branch);
    let uncovered = chosen.map(|branch| not_covered(place, branch));
    uncovered.filter(usable).or_else(|| {
        let top = *place.members.first()?;
        placement::copy_up(copy_up, top, place.members, |branch| usable(&branch))
    })
}

/// Returns a branch, or the one above it on which a directory that holds the place is opaque: below that, nothing is seen.
fn not_covered(place: &Place<'_>, branch: BranchIndex) -> BranchIndex {
    place.covered.map_or(branch, |covered| covered.min(branch))
}

fn all(place: &Place<'_>) -> impl DoubleEndedIterator<Item = BranchIndex> + use<> {
    (0..place.branches).map(BranchIndex)
}

fn seconds(asked: Option<u32>) -> u32 {
    asked.unwrap_or(DEFAULT_MEASUREMENT_SECONDS)
}

#[cfg(test)]
mod tests;
