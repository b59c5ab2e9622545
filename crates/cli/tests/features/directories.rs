//! Making and removing directories: opaque marks, and directories that hold nothing but whiteouts.

use std::fs;

use crate::stack::{NO_ENTRY, NOT_EMPTY, Stack, refused};
use crate::support::wait_until;

/// Row 12.
#[test]
fn a_directory_made_over_a_whiteout_is_opaque() {
    let Some(stack) = Stack::over(".wh.d", "d/old") else {
        return;
    };
    stack.make_dir("d");
    assert_eq!(stack.list("d"), [""; 0]);
    stack.left(0, &["d/", "d/.wh..wh..opq 0444"]);
    stack.unchanged(1);
}

/// Rows 13 and 14.
#[test]
fn a_directory_over_nothing_is_opaque_with_diropq_a_alone() {
    for (options, expected) in [
        ("", &["d/"][..]),
        ("diropq=w", &["d/"]),
        ("diropq=a", &["d/", "d/.wh..wh..opq 0444"]),
        ("diropq=always", &["d/", "d/.wh..wh..opq 0444"]),
    ] {
        let Some(stack) = Stack::with(options, &[("rw", ""), ("ro", "x")]) else {
            return;
        };
        stack.make_dir("d");
        stack.left(0, expected);
    }
}

/// Row 15.
#[test]
fn an_opaque_directory_hides_what_is_below_it() {
    let Some(stack) = Stack::over("d/.wh..wh..opq\nd/s/", "d/x\nd/s/y") else {
        return;
    };
    assert_eq!(stack.list("d"), ["s"]);
    assert_eq!(stack.list("d/s"), [""; 0]);
    refused(fs::metadata(stack.at("d/x")), NO_ENTRY);
}

/// Row 16.
#[test]
fn a_directory_of_whiteouts_is_removed_and_nothing_of_it_is_left() {
    let Some(stack) = Stack::over("d/.wh.x", "d/x") else {
        return;
    };
    assert_eq!(stack.list("d"), [""; 0]);
    fs::remove_dir(stack.at("d")).unwrap();
    refused(fs::metadata(stack.at("d")), NO_ENTRY);
    wait_until("nothing but the whiteout is left", || {
        stack.holds(0) == ".wh.d 0444"
    });
    stack.unchanged(1);
}

/// Row 17.
#[test]
fn a_directory_with_something_below_is_not_removed() {
    let Some(stack) = Stack::over("d/\ne/.wh.y", "d/x\ne/y\ne/z") else {
        return;
    };
    for name in ["d", "e"] {
        refused(fs::remove_dir(stack.at(name)), NOT_EMPTY);
    }
    stack.unchanged(0);
    stack.unchanged(1);
}

/// Row 18.
#[test]
fn few_or_many_whiteouts_go_with_their_directory() {
    for options in ["dirwh=3", "dirwh=1", "compat=aufs,dirwh=0"] {
        let upper = "few/.wh.1\nfew/.wh.2\nmany/.wh.1\nmany/.wh.2\nmany/.wh.3\nmany/.wh.4";
        let lower = upper.replace(".wh.", "");
        let Some(stack) = Stack::with(options, &[("rw", upper), ("ro", &lower)]) else {
            return;
        };
        for name in ["few", "many"] {
            fs::remove_dir(stack.at(name)).unwrap();
            refused(fs::metadata(stack.at(name)), NO_ENTRY);
        }
        wait_until("the whiteouts are gone", || {
            stack.holds(0) == ".wh.few 0444\n.wh.many 0444"
        });
        stack.make_dir("few");
        assert_eq!(stack.list("few"), [""; 0]);
    }
}
