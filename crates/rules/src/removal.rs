//! What makes a name disappear from the union.

use crate::lookup::{self, Resolution, Sighting};
use crate::stack::BranchIndex;

/// What to do on the branch that takes the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Nothing shows through: delete the entry.
    Delete,
    /// The branch has the entry, and one below would show through: leave a whiteout, then delete.
    HideAndDelete,
    /// The branch does not have the entry: leave a whiteout.
    Hide,
}

/// Decides how the name that these sightings describe disappears when `target` takes the change.
pub fn removal(sightings: &[Sighting], target: BranchIndex) -> Removal {
    let here = sightings.iter().any(|s| s.branch == target);
    let shows_through = lookup::resolve(lookup::below(sightings, target)) != Resolution::Absent;
    match (here, shows_through) {
        (true, false) => Removal::Delete,
        (true, true) => Removal::HideAndDelete,
        (false, _) => Removal::Hide,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::Seen;

    #[test]
    fn a_whiteout_is_left_only_where_something_shows_through() {
        let at = |branch, what| Sighting {
            branch: BranchIndex(branch),
            what,
        };
        let top = BranchIndex(0);
        for (sightings, expected) in [
            (vec![at(0, Seen::File)], Removal::Delete),
            (
                vec![at(0, Seen::File), at(1, Seen::File)],
                Removal::HideAndDelete,
            ),
            (
                vec![at(0, Seen::File), at(1, Seen::Whiteout), at(2, Seen::File)],
                Removal::Delete,
            ),
            (vec![at(1, Seen::Dir)], Removal::Hide),
        ] {
            assert_eq!(removal(&sightings, top), expected, "{sightings:?}");
        }
    }
}
