//! Choosing the branch that receives a copy of what is to change. New entries: see [`crate::policy`].
//!
//! A change never goes below what it changes: it would not be seen.

use crate::stack::BranchIndex;

/// How the branch for a copy-up is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CopyUpPolicy {
    /// The topmost writable branch that has the parent directory (`tdp`).
    #[default]
    TopDownParent,
    /// The nearest writable branch above that has the parent directory (`bup`).
    BottomUpParent,
    /// The nearest writable branch above (`bu`).
    BottomUp,
}

/// Chooses the branch that receives a copy of an object on branch `source`, whose parent directory has
/// these members. `source` itself is the answer when it is writable.
pub fn copy_up(
    policy: CopyUpPolicy,
    source: BranchIndex,
    members: &[BranchIndex],
    writable: impl Fn(BranchIndex) -> bool,
) -> Option<BranchIndex> {
    if writable(source) {
        return Some(source);
    }
    let mut with_parent = members
        .iter()
        .copied()
        .filter(|m| *m < source && writable(*m));
    let found = match policy {
        CopyUpPolicy::TopDownParent => with_parent.next(),
        CopyUpPolicy::BottomUpParent => with_parent.next_back(),
        CopyUpPolicy::BottomUp => None,
    };
    found.or_else(|| {
        let start = match policy {
            CopyUpPolicy::BottomUpParent => *members.first().unwrap_or(&source),
            CopyUpPolicy::TopDownParent | CopyUpPolicy::BottomUp => source,
        };
        nearest_writable(start.min(source), writable)
    })
}

/// Chooses the branch that receives a copy of what is opened on branch `source`, whose attributes ask for one (`coo_reg`,
/// `coo_all`, `moo`): the nearest writable one above. `None`: it is opened where it is.
pub fn on_open(source: BranchIndex, writable: impl Fn(BranchIndex) -> bool) -> Option<BranchIndex> {
    let above = source.0.checked_sub(1)?;
    nearest_writable(BranchIndex(above), writable)
}

/// Returns the nearest branch at or above `start` that can be written.
pub(crate) fn nearest_writable(
    start: BranchIndex,
    writable: impl Fn(BranchIndex) -> bool,
) -> Option<BranchIndex> {
    (0..=start.0)
        .rev()
        .map(BranchIndex)
        .find(|branch| writable(*branch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches(list: &[u16]) -> Vec<BranchIndex> {
        list.iter().copied().map(BranchIndex).collect()
    }

    fn writable(modes: &str) -> impl Fn(BranchIndex) -> bool + '_ {
        |branch| modes.as_bytes()[branch.get()] == b'w'
    }

    #[test]
    fn what_is_opened_goes_to_the_nearest_writable_branch_above_even_from_a_writable_one() {
        for (modes, source, expected) in [
            ("wwr", 2, Some(1)),
            ("wrr", 2, Some(0)),
            ("wwr", 1, Some(0)),
            ("wr", 0, None),
            ("rr", 1, None),
            ("rrw", 2, None),
        ] {
            let found = on_open(BranchIndex(source), writable(modes));
            assert_eq!(found, expected.map(BranchIndex), "{modes} {source}");
        }
    }

    #[test]
    fn copy_up_policies_differ_where_several_branches_could_take_it() {
        use CopyUpPolicy::{BottomUp, BottomUpParent, TopDownParent};
        for (modes, source, parent, expected) in [
            ("wwr", 2, &[0, 1, 2][..], [Some(0), Some(1), Some(1)]),
            ("wwr", 2, &[2], [Some(1), Some(1), Some(1)]),
            ("wwr", 2, &[0, 2], [Some(0), Some(0), Some(1)]),
            ("wr", 1, &[1], [Some(0), Some(0), Some(0)]),
            ("rw", 0, &[0, 1], [None, None, None]),
            ("ww", 1, &[0, 1], [Some(1), Some(1), Some(1)]),
        ] {
            for (policy, expected) in [TopDownParent, BottomUpParent, BottomUp]
                .into_iter()
                .zip(expected)
            {
                let found = copy_up(
                    policy,
                    BranchIndex(source),
                    &branches(parent),
                    writable(modes),
                );
                assert_eq!(
                    found,
                    expected.map(BranchIndex),
                    "{policy:?} {modes} {source} {parent:?}"
                );
            }
        }
    }
}
