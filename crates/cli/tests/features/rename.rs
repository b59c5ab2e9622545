//! Renaming files, and the ways of `renameat2`.

use std::fs;

use tree::RenameHow;

use crate::stack::{EXISTS, NO_ENTRY, NOT_EMPTY, Stack, refused};

/// Row 44.
#[test]
fn a_renamed_lower_file_is_copied_up_and_hidden_below() {
    let Some(stack) = Stack::over("", "f \"l\" 0640 3:4 user.a=v") else {
        return;
    };
    stack.rename("f", "g").unwrap();
    refused(fs::metadata(stack.at("f")), NO_ENTRY);
    assert_eq!(stack.read("g"), "l");
    stack.left(0, &[".wh.f 0444", "g \"l\" 0640 3:4 user.a=v"]);
    stack.unchanged(1);
}

/// Row 45.
#[test]
fn a_file_renamed_over_a_lower_one_hides_it() {
    let Some(stack) = Stack::over("a \"u\"", "b \"l\"") else {
        return;
    };
    stack.rename("a", "b").unwrap();
    assert_eq!(stack.read("b"), "u");
    stack.left(0, &["b \"u\""]);
    fs::remove_file(stack.at("b")).unwrap();
    stack.left(0, &[".wh.b 0444"]);
    stack.unchanged(1);
}

/// Row 54.
#[test]
fn exchanging_an_upper_and_a_lower_file_leaves_no_whiteouts() {
    let Some(stack) = Stack::over("a \"u\"", "b \"l\"") else {
        return;
    };
    assert_eq!(stack.rename_as(RenameHow::Exchange, "a", "b"), Ok(()));
    assert_eq!((stack.read("a"), stack.read("b")), ("l".into(), "u".into()));
    stack.left(0, &["a \"l\"", "b \"u\""]);
    stack.unchanged(1);
}

/// Row 55.
#[test]
fn a_rename_that_must_not_replace_refuses_a_lower_name() {
    let Some(stack) = Stack::over("a \"u\"\n.wh.c", "b \"l\"\nc") else {
        return;
    };
    let rename = |to| stack.rename_as(RenameHow::NoReplace, "a", to);
    assert_eq!(rename("b"), Err(EXISTS));
    stack.unchanged(0);
    assert_eq!(rename("c"), Ok(()));
    stack.left(0, &["c \"u\""]);
    stack.unchanged(1);
}

/// Row 56.
#[test]
fn a_directory_does_not_replace_one_with_something_below() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", "a/"), ("ro", "b/x")]) else {
            return;
        };
        refused(stack.rename("a", "b"), NOT_EMPTY);
        stack.unchanged(0);
        stack.unchanged(1);
    }
}
