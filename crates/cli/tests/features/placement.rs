//! Where new entries go among several writable branches, and mounts that cannot be written.

use std::fs::{self, File};

use crate::stack::{NO_SPACE, READ_ONLY, Stack, refused};

/// Row 78.
#[test]
fn nothing_is_made_below_the_topmost_branch_of_its_directory() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("ro", "p/"), ("rw", "p/")]) else {
            return;
        };
        refused(File::create(stack.at("p/f")), READ_ONLY);
        refused(fs::create_dir(stack.at("d")), READ_ONLY);
        stack.unmount();
        stack.unchanged(0);
        stack.unchanged(1);
        let Some(stack) = Stack::with(options, &[("rw", "p/"), ("rw", "p/")]) else {
            return;
        };
        stack.write("p/f", "x");
        stack.left(0, &["p/", "p/f \"x\""]);
        stack.unchanged(1);
    }
}

/// Row 79.
#[test]
fn a_new_entry_goes_where_its_directory_is() {
    let Some(stack) = Stack::of(&[("rw", ""), ("rw", "p/"), ("ro", "p/x")]) else {
        return;
    };
    stack.write("p/f", "x");
    stack.unchanged(0);
    stack.left(1, &["p/", "p/f \"x\""]);
}

/// Row 80.
#[test]
fn a_new_entry_of_a_read_only_directory_goes_to_the_nearest_branch_above() {
    let Some(stack) = Stack::of(&[("rw", ""), ("rw", ""), ("ro", "p/ 0750 3:4")]) else {
        return;
    };
    stack.write("p/f", "x");
    stack.unchanged(0);
    stack.left(1, &["p/ 0750 3:4", "p/f \"x\""]);
    stack.unchanged(2);
}

/// Row 93.
#[test]
fn a_copy_up_without_space_leaves_nothing_behind() {
    let branches = [("rw", ""), ("ro", "d/small \"s\"")];
    let Some(stack) = Stack::on_disks(&[1], &branches) else {
        return;
    };
    fs::write(stack.on(1, "d/big"), "lower file".repeat(1 << 20)).unwrap();
    stack.mount("");
    let file = File::options()
        .append(true)
        .open(stack.at("d/big"))
        .unwrap();
    refused(std::io::Write::write_all(&mut &file, b"x"), NO_SPACE);
    drop(file);
    refused(stack.rename("d/big", "d/new"), NO_SPACE);
    let left = stack.holds(0);
    assert!(left.is_empty() || left == "d/", "{left}");
    assert_eq!(fs::metadata(stack.at("d/big")).unwrap().len(), 10 << 20);
    stack.write("d/small", "fits");
    fs::remove_file(stack.at("d/big")).unwrap();
    stack.left(0, &["d/", "d/.wh.big 0444", "d/small \"fits\""]);
    stack.unmount();
}

/// Row 104; a remount is tried where mounts are remounted.
#[test]
fn a_read_only_mount_changes_no_branch() {
    let Some(stack) = Stack::planted(&[("rw", "u \"u\""), ("ro", "l \"l\"")]) else {
        return;
    };
    stack.mount("ro");
    refused(File::create(stack.at("n")), READ_ONLY);
    refused(fs::remove_file(stack.at("u")), READ_ONLY);
    refused(stack.rename("l", "n"), READ_ONLY);
    refused(File::options().write(true).open(stack.at("u")), READ_ONLY);
    assert_eq!((stack.read("u"), stack.read("l")), ("u".into(), "l".into()));
    stack.unmount();
    stack.unchanged(0);
    stack.unchanged(1);
}
