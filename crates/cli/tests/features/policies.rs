//! Create policies and copy-up policies, on filesystems of different sizes.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::stack::{NO_SPACE, Stack, refused};
use crate::support::wait_until;

const RW: (&str, &str) = ("rw", "");

/// Writes an empty file through the union and returns the branch that got it.
#[track_caller]
fn goes_to(stack: &Stack, name: &str) -> usize {
    stack.write(name, "");
    home(stack, name)
}

#[track_caller]
fn home(stack: &Stack, name: &str) -> usize {
    let homes: Vec<_> = (0..3).filter(|at| stack.on(*at, name).exists()).collect();
    assert_eq!(homes.len(), 1, "{name} is on {homes:?}");
    homes[0]
}

/// Leaves a branch without so many mebibytes that it had.
fn fill(stack: &Stack, branch: usize, mebibytes: usize) {
    fs::write(stack.on(branch, "filling"), vec![b'x'; mebibytes << 20]).unwrap();
}

/// Row 81.
#[test]
fn round_robin_takes_turns_and_directories_take_none() {
    let Some(stack) = Stack::with("create=rr", &[RW, RW, RW]) else {
        return;
    };
    let mut homes = Vec::new();
    for number in 0..6 {
        homes.push(goes_to(&stack, &format!("f{number}")));
        stack.make_dir(&format!("d{number}"));
    }
    assert_eq!(homes[..3], homes[3..]);
    let mut once = homes[..3].to_vec();
    once.sort_unstable();
    assert_eq!(once, [0, 1, 2]);
    // From the last branch to the first.
    assert_eq!((homes[0] + 2) % 3, homes[1]);
}

/// Row 82.
#[test]
fn the_branch_with_the_most_space_is_kept_for_some_time() {
    let branches = [RW, RW];
    let Some(stack) = Stack::on_disks(&[8, 16], &branches) else {
        return;
    };
    stack.mount("create=mfs:3600");
    assert_eq!(goes_to(&stack, "first"), 1);
    fill(&stack, 1, 12);
    assert_eq!(goes_to(&stack, "later"), 1);
    stack.unmount();
    fs::remove_file(stack.on(1, "filling")).unwrap();
    stack.mount("create=mfs:1");
    assert_eq!(goes_to(&stack, "again"), 1);
    fill(&stack, 1, 12);
    let mut number = 0;
    wait_until("the other branch has more", || {
        number += 1;
        goes_to(&stack, &format!("f{number}")) == 0
    });
    stack.unmount();
}

/// Row 83.
#[test]
fn of_branches_with_equal_space_the_lowest_is_taken() {
    let Some(stack) = Stack::on_disks(&[8, 8, 8], &[RW, RW, RW]) else {
        return;
    };
    stack.mount("create=mfs");
    assert_eq!(goes_to(&stack, "f"), 2);
    stack.unmount();
}

/// Row 84.
#[test]
fn branches_take_turns_when_the_most_space_is_little() {
    let Some(stack) = Stack::on_disks(&[8, 16, 12], &[RW, RW, RW]) else {
        return;
    };
    for (low, turns) in [(1 << 20, false), (1 << 30, true)] {
        stack.mount(&format!("create=mfsrr:{low}"));
        let mut homes: Vec<_> = (0..6)
            .map(|number| goes_to(&stack, &format!("{low}-{number}")))
            .collect();
        homes.sort_unstable();
        let expected = if turns { [0, 0, 1, 1, 2, 2] } else { [1; 6] };
        assert_eq!(homes, expected, "{low}");
        stack.unmount();
    }
}

/// Row 85.
#[test]
fn the_topmost_branch_with_enough_space_is_taken() {
    let Some(stack) = Stack::on_disks(&[8, 16, 32], &[RW, RW, RW]) else {
        return;
    };
    for (mebibytes, expected) in [(4, 0), (12, 1), (24, 2), (64, 2)] {
        stack.mount(&format!("create=tdmfs:{}", mebibytes << 20));
        assert_eq!(goes_to(&stack, &format!("f{mebibytes}")), expected);
        stack.unmount();
    }
}

/// Row 86.
#[test]
fn among_the_branches_of_the_directory_the_one_with_the_most_space_is_taken() {
    let branches = [("rw", "p/"), ("rw", "p/"), RW];
    let Some(stack) = Stack::on_disks(&[8, 16, 32], &branches) else {
        return;
    };
    stack.mount("create=pmfs");
    assert_eq!(goes_to(&stack, "p/f"), 1);
    assert_eq!(goes_to(&stack, "f"), 2);
    stack.unchanged(0);
    stack.unmount();
}

/// Row 87.
#[test]
fn a_directory_spreads_to_another_branch_when_its_own_have_little_space() {
    let branches = [("rw", "p/ 0750 3:4"), ("rw", "p/ 0750 3:4"), RW];
    let Some(stack) = Stack::on_disks(&[8, 16, 32], &branches) else {
        return;
    };
    for (mebibytes, expected) in [(12, 1), (24, 2)] {
        stack.mount(&format!("create=pmfsrr:{}", mebibytes << 20));
        assert_eq!(goes_to(&stack, &format!("p/f{mebibytes}")), expected);
        stack.unmount();
    }
    stack.left(2, &["p/ 0750 3:4", "p/f24"]);
}

/// Row 88.
#[test]
fn a_whiteout_decides_before_the_policy() {
    let branches = [("rw", ".wh.f"), RW, ("ro", "f \"l\"")];
    let Some(stack) = Stack::on_disks(&[8, 16], &branches) else {
        return;
    };
    stack.mount("create=mfs");
    stack.write("f", "new");
    assert_eq!(stack.read("f"), "new");
    stack.left(0, &["f \"new\""]);
    stack.unchanged(1);
    stack.unmount();
}

/// Row 89.
#[test]
fn nothing_is_made_where_an_opaque_directory_hides_it() {
    let branches = [
        ("rw", "a/.wh..wh..opq\na/b/"),
        ("rw", "a/b/"),
        ("ro", "a/b/old"),
    ];
    let Some(stack) = Stack::on_disks(&[8, 16], &branches) else {
        return;
    };
    for policy in ["mfs", "rr", "pmfs"] {
        stack.mount(&format!("create={policy}"));
        assert_eq!(goes_to(&stack, &format!("a/b/{policy}")), 0, "{policy}");
        stack.unmount();
    }
    stack.unchanged(1);
}

/// Row 90.
#[test]
fn a_directory_made_below_its_original_has_owner_and_mode_and_no_attributes() {
    let branches = [("rw", "p/ 0750 3:4 trusted.a=v"), RW];
    let Some(stack) = Stack::on_disks(&[8, 16], &branches) else {
        return;
    };
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(stack.on(0, "p"))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    stack.mount("create=mfs");
    assert_eq!(goes_to(&stack, "p/f"), 1);
    stack.left(1, &["p/ 0750 3:4", "p/f"]);
    let fresh = fs::metadata(stack.on(1, "p")).unwrap().modified().unwrap();
    assert!(fresh > long_ago);
    stack.unmount();
}

/// Row 91.
#[test]
fn a_copy_goes_to_the_branch_of_its_policy() {
    for (policy, expected) in [
        ("tdp", 0),
        ("top-down-parent", 0),
        ("bup", 0),
        ("bottom-up-parent", 0),
        ("bu", 1),
        ("bottom-up", 1),
    ] {
        let branches = [("rw", "d/"), RW, ("ro", "d/f \"l\"")];
        let Some(stack) = Stack::with(&format!("cpup={policy}"), &branches) else {
            return;
        };
        stack.write("d/f", "new");
        assert_eq!(
            fs::read(stack.on(expected, "d/f")).unwrap(),
            b"new",
            "{policy}"
        );
        stack.unchanged(1 - expected);
        stack.unchanged(2);
    }
    // With the directory on both branches, only the topmost of them is `tdp`'s.
    for (policy, expected) in [("tdp", 0), ("bup", 1), ("bu", 1)] {
        let branches = [("rw", "d/"), ("rw", "d/"), ("ro", "d/f \"l\"")];
        let Some(stack) = Stack::with(&format!("copyup_policy={policy}"), &branches) else {
            return;
        };
        stack.write("d/f", "new");
        stack.unchanged(1 - expected);
    }
}

/// Row 92.
#[test]
fn a_full_branch_is_not_left_for_another_one() {
    let Some(stack) = Stack::on_disks(&[1, 8], &[RW, RW]) else {
        return;
    };
    stack.mount("");
    refused(fs::write(stack.at("big"), vec![b'x'; 4 << 20]), NO_SPACE);
    assert_eq!(home(&stack, "big"), 0);
    stack.unchanged(1);
    stack.unmount();
}
