//! Renaming directories. Those that show something from below are `EXDEV` in AUFS without `dirren`.

use std::fs;

use crate::stack::{CROSS_DEVICE, NO_ENTRY, Stack, refused};

/// Row 46.
#[test]
fn a_directory_of_the_upper_branch_alone_moves_without_a_trace() {
    let Some(stack) = Stack::over("d/x \"x\"", "") else {
        return;
    };
    stack.rename("d", "e").unwrap();
    assert_eq!(stack.read("e/x"), "x");
    stack.left(0, &["e/", "e/x \"x\""]);
}

/// Row 47.
#[test]
fn a_directory_that_takes_the_place_of_a_whiteout_becomes_opaque() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", "d/x\n.wh.e"), ("ro", "e/old")]) else {
            return;
        };
        stack.rename("d", "e").unwrap();
        assert_eq!(stack.list("e"), ["x"]);
        stack.left(0, &["e/", "e/.wh..wh..opq 0444", "e/x"]);
        stack.unchanged(1);
    }
}

/// Row 48.
#[test]
fn a_lower_directory_with_something_in_it_is_moved_by_copying() {
    let Some(stack) = Stack::with("nodirren", &[("rw", ""), ("ro", "d/x \"x\"")]) else {
        return;
    };
    refused(stack.rename("d", "e"), CROSS_DEVICE);
    stack.unchanged(0);
    stack.run("mv m/d m/e");
    refused(fs::metadata(stack.at("d")), NO_ENTRY);
    assert_eq!(stack.read("e/x"), "x");
    stack.left(0, &[".wh.d 0444", "e/", "e/x \"x\""]);
    stack.unchanged(1);
}

/// Row 49. With `dirren` there are records besides, which tell where it was.
#[test]
fn an_empty_lower_directory_moves() {
    for options in ["", "nodirren", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", ""), ("ro", "d/ 0711 3:4")]) else {
            return;
        };
        stack.rename("d", "e").unwrap();
        refused(fs::metadata(stack.at("d")), NO_ENTRY);
        assert_eq!(stack.list("e"), [""; 0]);
        if !options.is_empty() {
            stack.left(0, &[".wh.d 0444", "e/ 0711 3:4"]);
        }
        stack.unchanged(1);
    }
}

/// Rows 50 and 51.
#[test]
fn without_dirren_a_directory_that_shows_names_from_below_does_not_move() {
    // What is above may hide all of it.
    for (upper, lower) in [("d/x", "d/y"), ("d/y \"u\"", "d/y \"l\"")] {
        for options in ["nodirren", "compat=aufs"] {
            let Some(stack) = Stack::with(options, &[("rw", upper), ("ro", lower)]) else {
                return;
            };
            refused(stack.rename("d", "e"), CROSS_DEVICE);
            stack.unchanged(0);
            stack.unchanged(1);
        }
    }
}

/// Row 52.
#[test]
fn a_merged_directory_of_which_all_below_is_removed_moves_with_its_whiteouts() {
    for options in ["nodirren", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", "d/.wh.y\nd/x"), ("ro", "d/y")]) else {
            return;
        };
        stack.rename("d", "e").unwrap();
        refused(fs::metadata(stack.at("d")), NO_ENTRY);
        assert_eq!(stack.list("e"), ["x"]);
        stack.left(0, &[".wh.d 0444", "e/", "e/.wh.y", "e/x"]);
        stack.unchanged(1);
    }
}
