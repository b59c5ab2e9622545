//! What a name means in a union: folding what the branches say about it.
//!
//! The topmost entry wins, directories merge, a whiteout ends the search. A branch that has
//! something else where branches above and below have a directory is skipped, as AUFS does.

use crate::stack::BranchIndex;

/// What one branch has under a name. A branch without it has no sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The branch.
    pub branch: BranchIndex,
    /// What is there.
    pub what: Seen,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A directory.
    Dir,
    /// Anything else that users see.
    File,
    /// A whiteout that counts.
    Whiteout,
    /// Something that is named like a whiteout and is none.
    Damaged,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The union has no such name.
    Absent,
    /// A branch is damaged here: nobody can say.
    Damaged,
    /// The object on this branch, which is no directory.
    File(BranchIndex),
    /// A directory, topmost on this branch; [`dirs`] tells all that may merge.
    Dir(BranchIndex),
}

impl Resolution {
    /// Returns the topmost branch that has the object.
    pub fn branch(self) -> Option<BranchIndex> {
        match self {
            Self::Absent | Self::Damaged => None,
            Self::File(branch) | Self::Dir(branch) => Some(branch),
        }
    }
}

/// Folds sightings, topmost branch first.
pub fn resolve(sightings: &[Sighting]) -> Resolution {
    match sightings.first() {
        None => Resolution::Absent,
        Some(first) => match first.what {
            Seen::Whiteout => Resolution::Absent,
            Seen::Damaged => Resolution::Damaged,
            Seen::File => Resolution::File(first.branch),
            Seen::Dir => Resolution::Dir(first.branch),
        },
    }
}

/// Returns the branches whose directories merge under a name, topmost first, as far as no opaque mark
/// inside one of them ends the list earlier.
pub fn dirs(sightings: &[Sighting]) -> impl Iterator<Item = BranchIndex> + '_ {
    sightings
        .iter()
        .take_while(|sighting| !matches!(sighting.what, Seen::Whiteout | Seen::Damaged))
        .filter(|sighting| sighting.what == Seen::Dir)
        .map(|sighting| sighting.branch)
}

/// Returns the part of the sightings that lies below a branch.
pub fn below(sightings: &[Sighting], branch: BranchIndex) -> &[Sighting] {
    let start = sightings.partition_point(|sighting| sighting.branch <= branch);
    &sightings[start..]
}

/// Returns whether a branch has a whiteout of the name.
pub fn has_whiteout(sightings: &[Sighting], branch: BranchIndex) -> bool {
    sightings
        .iter()
        .any(|s| s.branch == branch && s.what == Seen::Whiteout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sightings(text: &str) -> Vec<Sighting> {
        let seen = |letter| match letter {
            'd' => Some(Seen::Dir),
            'f' => Some(Seen::File),
            'w' => Some(Seen::Whiteout),
            'x' => Some(Seen::Damaged),
            _ => None,
        };
        let numbered = text.chars().enumerate();
        numbered
            .filter_map(|(i, c)| {
                Some(Sighting {
                    branch: BranchIndex(i as u16),
                    what: seen(c)?,
                })
            })
            .collect()
    }

    #[test]
    fn the_topmost_sighting_decides_what_a_name_is() {
        for (text, expected) in [
            ("", Resolution::Absent),
            ("--", Resolution::Absent),
            ("-f", Resolution::File(BranchIndex(1))),
            ("fd", Resolution::File(BranchIndex(0))),
            ("-dd", Resolution::Dir(BranchIndex(1))),
            ("wf", Resolution::Absent),
            ("-wd", Resolution::Absent),
            ("xf", Resolution::Damaged),
        ] {
            assert_eq!(resolve(&sightings(text)), expected, "{text}");
        }
    }

    #[test]
    fn directories_merge_past_files_and_up_to_a_whiteout() {
        for (text, expected) in [
            ("d", &[0][..]),
            ("dfd", &[0, 2]),
            ("d-d", &[0, 2]),
            ("dwd", &[0]),
        ] {
            let found: Vec<_> = dirs(&sightings(text)).map(|branch| branch.0).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn below_excludes_the_branch_itself() {
        let all = sightings("f-fw");
        assert_eq!(below(&all, BranchIndex(0)), &all[1..]);
        assert_eq!(below(&all, BranchIndex(1)), &all[1..]);
        assert_eq!(below(&all, BranchIndex(3)), &[]);
    }
}
