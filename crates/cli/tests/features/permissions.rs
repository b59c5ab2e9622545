//! Who may do what.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::stack::Stack;
use crate::support::NOBODY;

fn open_to_all(stack: &Stack) {
    stack.run("chmod 0755 . b0 b1");
}

/// Row 105.
#[test]
fn the_permissions_of_the_topmost_directory_decide() {
    let Some(stack) = Stack::planted(&[("rw", "d/u"), ("ro", "d/ 0700 77:77\nd/l \"l\"")]) else {
        return;
    };
    open_to_all(&stack);
    stack.mount("");
    let told = stack.as_nobody("ls m/d && cat m/d/l");
    assert_eq!(told.silently(), "l\nu\nl");
}

/// Row 106.
#[test]
fn without_dirperm1_a_strict_directory_below_refuses() {
    for options in ["nodirperm1", "compat=aufs"] {
        let branches = [("rw", "d/u"), ("ro", "d/ 0700 77:77\nd/l")];
        let Some(stack) = Stack::planted(&branches) else {
            return;
        };
        open_to_all(&stack);
        stack.mount(options);
        for line in ["ls m/d", "cat m/d/u", "cat m/d/l"] {
            let told = stack.as_nobody(line);
            assert!(
                told.err.contains("Permission denied"),
                "{options} {line}: {told:?}"
            );
        }
        assert_eq!(stack.list("d"), ["l", "u"], "root may");
    }
}

/// Row 107.
#[test]
fn a_user_removes_lower_files_of_a_directory_that_he_owns() {
    let own = format!(
        "own/ 0755 {NOBODY}:{NOBODY}\nown/f\nsticky/ 1777\nsticky/f\nsticky/mine 0644 {NOBODY}:{NOBODY}\nother/f 0666"
    );
    let Some(stack) = Stack::planted(&[("rw", ""), ("ro", &own)]) else {
        return;
    };
    open_to_all(&stack);
    stack.mount("");
    stack
        .as_nobody("rm -f m/own/f m/sticky/mine && echo n > m/own/n && echo w > m/other/f")
        .silently();
    let told = stack.as_nobody("rm -f m/sticky/f");
    assert!(told.err.contains("not permitted"), "{told:?}");
    let told = stack.as_nobody("rm -f m/other/f; touch m/other/n");
    assert_eq!(told.err.matches("Permission denied").count(), 2, "{told:?}");
    for name in ["own/.wh.f", "sticky/.wh.mine"] {
        assert_eq!(fs::metadata(stack.on(0, name)).unwrap().uid(), 0, "{name}");
    }
    for (name, owner) in [("own", NOBODY), ("own/n", NOBODY), ("other/f", 0)] {
        assert_eq!(
            fs::metadata(stack.on(0, name)).unwrap().uid(),
            owner,
            "{name}"
        );
    }
    assert!(!stack.on(0, "sticky/.wh.f").exists() && !stack.on(0, "other/.wh.f").exists());
    stack.unchanged(1);
}
