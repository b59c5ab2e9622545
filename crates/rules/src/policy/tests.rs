//! The policies as tables: what the branches have, and which of them receives the new entry.

use std::cell::RefCell;

use super::*;
use crate::options::Watermark;

/// Branches drawn by hand: `w` writable, `r` read-only, `h` writable and unable to show anything; and their free bytes.
struct Drawn<'a> {
    modes: &'a str,
    free: &'a [u64],
    turns: RefCell<Rotation>,
}

fn drawn<'a>(modes: &'a str, free: &'a [u64]) -> Drawn<'a> {
    Drawn {
        modes,
        free,
        turns: RefCell::default(),
    }
}

impl Drawn<'_> {
    fn is(&self, branch: BranchIndex, modes: &[u8]) -> bool {
        modes.contains(&self.modes.as_bytes()[branch.get()])
    }
}

impl Branches for Drawn<'_> {
    fn writable(&self, branch: BranchIndex) -> bool {
        self.is(branch, b"wh")
    }

    fn shows(&self, branch: BranchIndex) -> bool {
        self.is(branch, b"w")
    }

    fn measured(&self, _: u32) -> Measured {
        let numbered = self
            .free
            .iter()
            .zip(0..)
            .map(|(free, at)| (BranchIndex(at), *free));
        Measured::new(numbered.map(|(branch, free)| self.writable(branch).then_some(free)))
    }

    fn turn(&self, turn: Turn) -> u32 {
        match turn {
            Turn::Take => self.turns.borrow_mut().take(),
            Turn::Peek => self.turns.borrow().peek(),
        }
    }
}

const RR: CreatePolicy = CreatePolicy::RoundRobin;
const MFS: CreatePolicy = CreatePolicy::MostFreeSpace { seconds: None };
const PMFS: CreatePolicy = CreatePolicy::ParentMostFreeSpace { seconds: None };
const LOW: Watermark = Watermark {
    bytes: 100,
    seconds: None,
};
const MFSRR: CreatePolicy = CreatePolicy::MostFreeSpaceRoundRobin(LOW);
const TDMFS: CreatePolicy = CreatePolicy::TopDownMostFreeSpace(LOW);
const PMFSRR: CreatePolicy = CreatePolicy::ParentMostFreeSpaceRoundRobin(LOW);
const TDP: CreatePolicy = CreatePolicy::TopDownParent;

fn members(list: &[u16]) -> Vec<BranchIndex> {
    list.iter().copied().map(BranchIndex).collect()
}

fn place<'a>(modes: &str, members: &'a [BranchIndex]) -> Place<'a> {
    Place {
        branches: u16::try_from(modes.len()).unwrap(),
        members,
        whiteout: None,
        opaque: None,
        covered: None,
        is_dir: false,
    }
}

fn chosen(policy: CreatePolicy, drawn: &Drawn<'_>, place: &Place<'_>) -> Option<u16> {
    choose(policy, CopyUpPolicy::default(), place, drawn).map(|branch| branch.0)
}

#[test]
fn the_default_goes_to_the_parents_topmost_branch_or_above_and_never_below() {
    for (modes, parent, expected) in [
        ("wr", &[0, 1][..], Some(0)),
        ("wr", &[1], Some(0)),
        ("wwr", &[1, 2], Some(1)),
        ("wwr", &[2], Some(1)),
        ("rw", &[0, 1], None),
        ("rw", &[1], Some(1)),
        ("rr", &[0], None),
    ] {
        let (drawn, members) = (drawn(modes, &[]), members(parent));
        let found = chosen(TDP, &drawn, &place(modes, &members));
        assert_eq!(found, expected, "{modes} {parent:?}");
    }
}

#[test]
fn free_space_decides_among_the_branches_that_a_policy_looks_at() {
    for (policy, modes, free, parent, expected) in [
        (MFS, "www", &[5, 9, 7][..], &[0, 1, 2][..], 1),
        (MFS, "www", &[5, 9, 9], &[0], 2),
        (MFS, "wrw", &[5, 9, 7], &[0, 1, 2], 2),
        (MFS, "ww", &[0, 0], &[0, 1], 1),
        (PMFS, "www", &[5, 6, 9], &[0, 1], 1),
        (PMFS, "www", &[5, 5, 9], &[0, 1], 0),
        (PMFS, "www", &[5, 7, 7], &[0, 1, 2], 1),
        (PMFS, "www", &[5, 6, 9], &[0], 0),
        (PMFS, "wrw", &[5, 6, 9], &[1], 0),
        (TDMFS, "www", &[101, 900, 900], &[0, 1, 2], 0),
        (TDMFS, "www", &[100, 101, 900], &[0, 1, 2], 1),
        (TDMFS, "www", &[1, 2, 3], &[0, 1, 2], 2),
        (TDMFS, "www", &[1, 900, 950], &[0], 2),
        (MFSRR, "www", &[1, 100, 2], &[0], 1),
        (PMFSRR, "www", &[100, 1, 900], &[0, 1], 0),
    ] {
        let (drawn, members) = (drawn(modes, free), members(parent));
        let found = chosen(policy, &drawn, &place(modes, &members));
        assert_eq!(
            found,
            Some(expected),
            "{policy} {modes} {free:?} {parent:?}"
        );
    }
}

#[test]
fn round_robin_goes_down_the_list_from_the_first_and_directories_take_no_turn() {
    let (drawn, members) = (drawn("www", &[]), members(&[0, 1, 2]));
    let file = place("www", &members);
    let dir = Place {
        is_dir: true,
        ..place("www", &members)
    };
    let next = |place: &Place<'_>| chosen(RR, &drawn, place).unwrap();
    assert_eq!([next(&file), next(&file), next(&file)], [0, 2, 1]);
    assert_eq!(
        [next(&dir), next(&dir), next(&file), next(&dir)],
        [0, 0, 0, 2]
    );
}

#[test]
fn round_robin_passes_over_read_only_branches_and_starts_at_the_last_after_a_remount() {
    let drawn = drawn("wrw", &[]);
    let members = members(&[0]);
    let next = || chosen(RR, &drawn, &place("wrw", &members)).unwrap();
    assert_eq!([next(), next(), next(), next()], [0, 2, 0, 2]);
    // 0 has no turn of its own: counting goes on from the greatest number.
    assert_eq!(Rotation::from(BranchIndex(0)).take(), u32::MAX);
    assert_eq!(Rotation::from(BranchIndex(2)).take(), u32::MAX - 1);
}

#[test]
fn little_space_makes_the_watermark_policies_take_turns() {
    let members = members(&[0, 1]);
    for policy in [MFSRR, PMFSRR] {
        let drawn = drawn("www", &[5, 99, 7]);
        let next = || chosen(policy, &drawn, &place("www", &members)).unwrap();
        assert_eq!([next(), next(), next()], [0, 2, 1], "{policy}");
    }
    // The parent's branches are low, another is not: it receives the entry, and the parent.
    let drawn = drawn("www", &[5, 6, 900]);
    let found = chosen(PMFSRR, &drawn, &place("www", &members));
    assert_eq!(found, Some(2));
}

#[test]
fn whiteouts_and_opaque_directories_come_before_the_policies() {
    let members = members(&[0, 1]);
    let at = |whiteout: Option<u16>, opaque: Option<u16>, covered: Option<u16>| Place {
        whiteout: whiteout.map(BranchIndex),
        opaque: opaque.map(BranchIndex),
        covered: covered.map(BranchIndex),
        ..place("www", &members)
    };
    let free = &[1, 2, 900][..];
    for (policy, modes, place, expected) in [
        (MFS, "www", at(Some(0), None, None), 0),
        (MFS, "www", at(None, Some(1), None), 1),
        (MFS, "www", at(Some(0), Some(1), None), 0),
        (RR, "www", at(Some(1), None, None), 1),
        (PMFS, "www", at(Some(0), None, None), 0),
        (MFS, "www", at(None, None, Some(0)), 0),
        (MFS, "www", at(Some(1), None, Some(0)), 0),
        // A read-only branch is no exception.
        (MFS, "wrw", at(Some(1), None, None), 2),
    ] {
        let found = chosen(policy, &drawn(modes, free), &place);
        assert_eq!(found, Some(expected), "{policy} {modes}");
    }
}

#[test]
fn a_choice_that_would_not_be_seen_gives_way_to_the_copy_up_policy() {
    let members = members(&[1, 2]);
    for (policy, modes, free, expected) in [
        (MFS, "wwh", &[1, 2, 900][..], Some(1)),
        (RR, "hww", &[1, 2, 3], Some(1)),
        (MFS, "wrh", &[1, 2, 900], Some(0)),
        (MFS, "rrh", &[1, 2, 900], None),
    ] {
        let found = chosen(policy, &drawn(modes, free), &place(modes, &members));
        assert_eq!(found, expected, "{policy} {modes}");
    }
}

#[test]
fn when_a_branch_is_full_the_emptiest_of_the_others_is_next() {
    let members = members(&[0]);
    let (drawn, place) = (drawn("whww", &[0, 900, 8, 9]), place("whww", &members));
    let next = |full: &[u16]| {
        let full: Vec<_> = full.iter().copied().map(BranchIndex).collect();
        choose_other(&full, &place, &drawn).map(|branch| branch.0)
    };
    assert_eq!(next(&[0]), Some(3));
    assert_eq!(next(&[0, 3]), Some(2));
    assert_eq!(next(&[0, 2, 3]), None);
}
