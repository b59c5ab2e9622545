//! Changes made in the branches, behind the mount.

use std::fs;

use crate::stack::Stack;
use crate::support::wait_until;

const BRANCHES: [(&str, &str); 2] = [("rw", "f \"f\"\nd/u"), ("ro", "d/l")];

/// Row 110.
#[test]
fn a_file_renamed_on_its_branch_has_its_new_name() {
    let Some(stack) = Stack::with("compat=aufs", &BRANCHES) else {
        return;
    };
    assert_eq!(stack.read("f"), "f");
    stack.run("mv b0/f b0/g");
    assert!(!stack.at("f").exists());
    assert_eq!(stack.read("g"), "f");
}

/// Row 76.
#[test]
fn a_file_made_on_a_branch_shows() {
    for options in ["", "udba=notify", "compat=aufs", "compat=aufs,udba=notify"] {
        let Some(stack) = Stack::with(options, &BRANCHES) else {
            return;
        };
        assert_eq!(stack.list("d"), ["l", "u"]);
        assert!(!stack.at("d/new").exists());
        fs::write(stack.on(1, "d/new"), "n").unwrap();
        wait_until("it shows", || stack.at("d/new").exists());
        wait_until("it is listed", || stack.list("d") == ["l", "new", "u"]);
        assert_eq!(stack.read("d/new"), "n");
    }
}

/// Row 77, without waiting for a remount.
#[test]
fn a_whiteout_made_by_hand_hides() {
    for options in ["", "udba=notify", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &BRANCHES) else {
            return;
        };
        assert!(stack.at("d/l").exists());
        fs::write(stack.on(0, "d/.wh.l"), "").unwrap();
        wait_until("it hides", || !stack.at("d/l").exists());
        wait_until("it is not listed", || stack.list("d") == ["u"]);
        fs::remove_file(stack.on(0, "d/.wh.l")).unwrap();
        wait_until("it hides no more", || stack.at("d/l").exists());
    }
}
