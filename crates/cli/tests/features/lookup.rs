//! Finding and listing names.

use std::fs::{self, File};

use crate::stack::{IO, NAME_TOO_LONG, NO_ENTRY, PERM, Stack, refused};

/// Row 1.
#[test]
fn the_topmost_file_of_a_name_is_read() {
    let Some(stack) = Stack::over("f \"u\"", "f \"l\"") else {
        return;
    };
    assert_eq!(stack.read("f"), "u");
    stack.unmount();
    stack.unchanged(0);
    stack.unchanged(1);
}

/// Row 2.
#[test]
fn a_directory_of_two_branches_lists_the_names_of_both() {
    let Some(stack) = Stack::over("d/a", "d/b \"b\"") else {
        return;
    };
    assert_eq!(stack.list("d"), ["a", "b"]);
    assert_eq!(stack.read("d/b"), "b");
    stack.unchanged(0);
}

/// Row 25.
#[test]
fn a_file_between_two_directories_is_skipped() {
    let branches = [("rw", ""), ("ro", "d/1"), ("ro", "d"), ("ro", "d/3")];
    let Some(stack) = Stack::of(&branches) else {
        return;
    };
    assert_eq!(stack.list("d"), ["1", "3"]);
    File::open(stack.at("d/3")).unwrap();
}

/// Row 75.
#[test]
fn names_come_branch_by_branch_and_each_once() {
    let Some(stack) = Stack::over("c", "a\nb\nc\nd\ne") else {
        return;
    };
    let order = |path: std::path::PathBuf| -> Vec<_> {
        let entries = fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    };
    let mut expected = vec!["c".to_owned()];
    expected.extend(
        order(stack.on(1, ""))
            .into_iter()
            .filter(|name| name != "c"),
    );
    assert_eq!(order(stack.at("")), expected);
}

/// Row 24.
#[test]
fn a_name_has_at_most_242_bytes() {
    let lower = format!("{}\n{}", "l".repeat(242), "m".repeat(243));
    let Some(stack) = Stack::over("", &lower) else {
        return;
    };
    stack.write(&"a".repeat(242), "x");
    refused(File::create(stack.at(&"b".repeat(243))), NAME_TOO_LONG);
    refused(fs::create_dir(stack.at(&"b".repeat(243))), NAME_TOO_LONG);
    refused(
        stack.rename(&"a".repeat(242), &"b".repeat(243)),
        NAME_TOO_LONG,
    );
    fs::metadata(stack.at(&"l".repeat(242))).unwrap();
    refused(fs::metadata(stack.at(&"m".repeat(243))), NAME_TOO_LONG);
    assert_eq!(stack.run("stat -f -c %l m"), "242\n");
}

/// Row 21.
#[test]
fn names_of_the_format_are_refused_by_every_operation() {
    let Some(stack) = Stack::over("g", ".wh.f\nh") else {
        return;
    };
    refused(File::create(stack.at(".wh.z")), PERM);
    refused(fs::create_dir(stack.at(".wh.z")), PERM);
    refused(File::open(stack.at(".wh.z")), PERM);
    refused(stack.rename("g", ".wh.z"), PERM);
    refused(stack.rename(".wh.f", "z"), PERM);
    refused(fs::hard_link(stack.at("g"), stack.at(".wh.z")), PERM);
    refused(fs::metadata(stack.at(".wh.f")), PERM);
    refused(fs::metadata(stack.at(".wh..wh.aufs")), PERM);
    stack.unmount();
    stack.unchanged(0);
}

/// Row 22.
#[test]
fn names_of_the_format_are_not_listed() {
    let Some(stack) = Stack::over(".wh.a\nd/.wh..wh..opq\nd/x", "a\n.wh.b\nb") else {
        return;
    };
    assert!(stack.on(0, ".wh..wh.plnk").exists());
    assert_eq!(stack.list(""), ["b", "d"]);
    assert_eq!(stack.list("d"), ["x"]);
}

/// Row 19.
#[test]
fn whiteouts_of_a_read_only_branch_count_with_wh_alone() {
    for (mode, hidden) in [
        ("ro+wh", true),
        ("rr+wh", true),
        ("ro", false),
        ("rr", false),
    ] {
        let branches = [("rw", ""), (mode, ".wh.f"), ("ro", "f \"2\"")];
        let Some(stack) = Stack::of(&branches) else {
            return;
        };
        if hidden {
            refused(fs::metadata(stack.at("f")), NO_ENTRY);
            assert_eq!(stack.list(""), [""; 0], "{mode}");
        } else {
            assert_eq!(stack.read("f"), "2");
            assert_eq!(stack.list(""), ["f"], "{mode}");
        }
    }
}

/// Row 20.
#[test]
fn opaque_marks_of_a_read_only_branch_count_with_wh_alone() {
    for (mode, expected) in [("ro+wh", &["own"][..]), ("ro", &["own", "x"])] {
        let branches = [("rw", ""), (mode, "d/.wh..wh..opq\nd/own"), ("ro", "d/x")];
        let Some(stack) = Stack::of(&branches) else {
            return;
        };
        assert_eq!(stack.list("d"), expected, "{mode}");
        assert_eq!(fs::metadata(stack.at("d/x")).is_ok(), mode == "ro");
    }
}

/// Row 26. AUFS gives `EIO` for the pair on its first branch; a crash leaves such pairs, so that here the entry counts.
#[test]
fn an_entry_beside_its_own_whiteout_counts() {
    for options in ["", "compat=aufs"] {
        let branches = [("rw", "f \"u\"\n.wh.f"), ("ro", "f \"l\"")];
        let Some(stack) = Stack::with(options, &branches) else {
            return;
        };
        assert_eq!(stack.read("f"), "u");
        fs::remove_file(stack.at("f")).unwrap();
        refused(fs::metadata(stack.at("f")), NO_ENTRY);
        stack.left(0, &[".wh.f 0444"]);
    }
}

/// Beside row 26: a whiteout that is no file says nothing certain about its name.
#[test]
fn a_whiteout_that_is_a_directory_is_an_error_of_its_name_alone() {
    let Some(stack) = Stack::over(".wh.f/", "f\ng \"g\"") else {
        return;
    };
    refused(fs::metadata(stack.at("f")), IO);
    assert_eq!(stack.read("g"), "g");
}
