//! What a rename has to leave behind and to cut off, besides moving the entry.

use crate::lookup::{self, Resolution, Seen, Sighting};
use crate::stack::BranchIndex;

/// What the target branch needs besides the rename itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The old name shows something below: leave a whiteout there, before the rename.
    pub hide_source: bool,
    /// The moved directory must not merge with what lies below its new name: mark it, before the rename.
    pub mark_opaque: bool,
    /// The target branch has a whiteout of the new name: take it away, after the rename.
    pub reveal: bool,
}

/// Decides what a rename on branch `target` takes. `always_opaque` is `diropq=always`.
pub fn plan(
    source: &[Sighting],
    destination: &[Sighting],
    target: BranchIndex,
    is_dir: bool,
    always_opaque: bool,
) -> Plan {
    let reveal = lookup::has_whiteout(destination, target);
    Plan {
        hide_source: shows_below(source, target),
        mark_opaque: is_dir && (reveal || shows_below(destination, target) || always_opaque),
        reveal,
    }
}

/// Returns the branch where a rename of these ends happens without copying, if there is one: where the
/// source is, or above it where the destination is, unless something above would hide it there.
pub fn preferred_target(
    source: &[Sighting],
    destination: &[Sighting],
    writable: impl Fn(BranchIndex) -> bool,
) -> Option<BranchIndex> {
    let source_top = lookup::resolve(source).branch()?;
    let top = match lookup::resolve(destination).branch() {
        Some(destination_top) => source_top.min(destination_top),
        None => source_top,
    };
    let whited_out = destination
        .iter()
        .any(|sighting| sighting.what == Seen::Whiteout && sighting.branch < top);
    (writable(top) && !whited_out).then_some(top)
}

/// Returns whether a directory whose entries are seen like this can move on branch `target` as a whole: nothing
/// in it comes from below that branch, except what is hidden by whiteouts.
pub fn can_move<'a>(
    mut children: impl Iterator<Item = &'a [Sighting]>,
    target: BranchIndex,
) -> bool {
    children.all(|sightings| {
        let mut visible = sightings.iter().take_while(|s| s.what != Seen::Whiteout);
        visible.all(|sighting| sighting.branch <= target)
    })
}

fn shows_below(sightings: &[Sighting], target: BranchIndex) -> bool {
    lookup::resolve(lookup::below(sightings, target)) != Resolution::Absent
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: BranchIndex = BranchIndex(0);

    fn at(branch: u16, what: Seen) -> Sighting {
        Sighting {
            branch: BranchIndex(branch),
            what,
        }
    }

    #[test]
    fn the_old_name_is_hidden_only_where_it_would_show_again() {
        let upper = [at(0, Seen::File)];
        let both = [at(0, Seen::File), at(1, Seen::File)];
        assert!(!plan(&upper, &[], TOP, false, false).hide_source);
        assert!(plan(&both, &[], TOP, false, false).hide_source);
    }

    #[test]
    fn a_moved_directory_is_cut_off_from_what_lies_below_its_new_name() {
        let dir = [at(0, Seen::Dir)];
        for (destination, expected) in [
            (&[][..], false),
            (&[at(0, Seen::Whiteout)], true),
            (&[at(1, Seen::Dir)], true),
            (&[at(1, Seen::Whiteout)], false),
            (&[at(1, Seen::Whiteout), at(2, Seen::Dir)], false),
        ] {
            assert_eq!(
                plan(&dir, destination, TOP, true, false).mark_opaque,
                expected
            );
        }
        assert!(plan(&dir, &[], TOP, true, true).mark_opaque);
    }

    #[test]
    fn a_directory_moves_when_all_that_is_below_is_hidden() {
        let upper = [at(0, Seen::File)];
        let hidden = [at(0, Seen::Whiteout), at(1, Seen::File)];
        let covered = [at(0, Seen::File), at(1, Seen::File)];
        assert!(can_move([&upper[..], &hidden].into_iter(), TOP));
        assert!(!can_move([&upper[..], &covered].into_iter(), TOP));
    }
}
