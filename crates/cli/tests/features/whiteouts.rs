//! Removing names and making them again: whiteouts on the upper branch.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use testkit::MountGuard;

use crate::stack::{NO_ENTRY, Stack, refused};

/// Row 4.
#[test]
fn a_removed_lower_file_leaves_a_whiteout() {
    let Some(stack) = Stack::over("", "f \"l\" 0600 7:7") else {
        return;
    };
    fs::remove_file(stack.at("f")).unwrap();
    refused(fs::metadata(stack.at("f")), NO_ENTRY);
    stack.left(0, &[".wh.f 0444"]);
    let whiteout = fs::metadata(stack.on(0, ".wh.f")).unwrap();
    assert_eq!((whiteout.len(), whiteout.uid()), (0, 0));
    stack.unchanged(1);
}

/// Row 5.
#[test]
fn a_removed_upper_file_leaves_nothing() {
    let Some(stack) = Stack::over("f", "") else {
        return;
    };
    fs::remove_file(stack.at("f")).unwrap();
    stack.left(0, &[]);
}

/// Row 6.
#[test]
fn a_removed_file_that_hid_another_leaves_a_whiteout() {
    let Some(stack) = Stack::over("f \"u\"", "f \"l\"") else {
        return;
    };
    fs::remove_file(stack.at("f")).unwrap();
    refused(fs::metadata(stack.at("f")), NO_ENTRY);
    stack.left(0, &[".wh.f 0444"]);
    stack.unchanged(1);
}

/// Row 7.
#[test]
fn a_new_file_takes_the_place_of_its_whiteout() {
    let Some(stack) = Stack::over(".wh.f", "f \"l\"") else {
        return;
    };
    stack.write("f", "x");
    assert_eq!(stack.read("f"), "x");
    stack.left(0, &["f \"x\""]);
    stack.unchanged(1);
}

/// Row 8.
#[test]
fn whiteouts_are_links_to_one_file() {
    let Some(stack) = Stack::over("", "f\ng") else {
        return;
    };
    for name in ["f", "g"] {
        fs::remove_file(stack.at(name)).unwrap();
    }
    let base = fs::metadata(stack.on(0, ".wh..wh.aufs")).unwrap();
    assert_eq!(base.nlink(), 3);
    for name in [".wh.f", ".wh.g"] {
        assert_eq!(fs::metadata(stack.on(0, name)).unwrap().ino(), base.ino());
    }
}

/// Row 9.
#[test]
fn with_nolwh_each_whiteout_is_a_file_of_its_own() {
    let Some(stack) = Stack::of(&[("rw+nolwh", ""), ("ro", "f\ng")]) else {
        return;
    };
    for name in ["f", "g"] {
        fs::remove_file(stack.at(name)).unwrap();
        let whiteout = fs::metadata(stack.on(0, &format!(".wh.{name}"))).unwrap();
        assert_eq!((whiteout.nlink(), whiteout.mode() & 0o7777), (1, 0o444));
    }
    assert!(!stack.on(0, ".wh..wh.aufs").exists());
}

/// Row 10.
#[test]
fn a_writable_branch_gets_the_base_objects_and_a_read_only_one_nothing() {
    let branches = [("rw", ""), ("rw", ""), ("ro+wh", ""), ("rr", "")];
    let Some(stack) = Stack::of(&branches) else {
        return;
    };
    let mode = |branch, name| {
        let found = fs::metadata(stack.on(branch, name)).ok()?;
        Some((
            found.is_dir(),
            found.permissions().mode() & 0o7777,
            found.uid(),
        ))
    };
    for branch in [0, 1] {
        assert_eq!(mode(branch, ".wh..wh.aufs"), Some((false, 0o444, 0)));
        assert_eq!(mode(branch, ".wh..wh.plnk"), Some((true, 0o700, 0)));
        assert_eq!(mode(branch, ".wh..wh.orph"), Some((true, 0o700, 0)));
    }
    for branch in [2, 3] {
        assert_eq!(fs::read_dir(stack.on(branch, "")).unwrap().count(), 0);
    }
}

/// Row 11.
#[test]
fn a_base_with_all_the_links_it_can_have_is_renewed() {
    let Some(mut stack) = Stack::planted(&[("rw", ""), ("ro", "f\ng\nh")]) else {
        return;
    };
    ext4_at(&mut stack.bench.guard, "b0");
    stack.mount("");
    let base = stack.on(0, ".wh..wh.aufs");
    let full = fs::metadata(&base).unwrap().ino();
    fs::create_dir(stack.on(0, "links")).unwrap();
    let mut count = 0;
    let refusal = loop {
        match fs::hard_link(&base, stack.on(0, &format!("links/{count}"))) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.raw_os_error(), Some(31), "EMLINK");
    for name in ["f", "g", "h"] {
        fs::remove_file(stack.at(name)).unwrap();
        refused(fs::metadata(stack.at(name)), NO_ENTRY);
        let whiteout = fs::metadata(stack.on(0, &format!(".wh.{name}"))).unwrap();
        assert!(whiteout.is_file() && whiteout.ino() != full);
    }
    let renewed = fs::metadata(&base).unwrap();
    assert_ne!(renewed.ino(), full);
    assert!(
        renewed.nlink() > 1,
        "later whiteouts are links to the new base"
    );
    stack.unmount();
}

/// Mounts a small ext4 filesystem in place of a branch.
fn ext4_at(guard: &mut MountGuard, name: &str) {
    let point = guard.mount_point(name);
    let image = guard.path().join("image");
    let line = format!(
        "truncate -s 32M {0} && mkfs.ext4 -q -F -m 0 {0} && mount -o loop {0} {1} && rmdir {1}/lost+found",
        image.display(),
        point.display()
    );
    let done = std::process::Command::new("sh")
        .args(["-c", &line])
        .status();
    assert!(done.unwrap().success());
}

/// Row 119: an upper branch and a layer are the same but for the base objects.
#[test]
fn a_branch_without_its_base_objects_is_a_layer() {
    let branches = [
        ("rw", ""),
        ("ro", "keep \"k\"\ngone\nd/old\nd/too\ne/f \"l\""),
    ];
    let Some(stack) = Stack::of(&branches) else {
        return;
    };
    stack.run("rm m/gone && rm -r m/d && mkdir m/d && echo n > m/d/new && echo more >> m/e/f && ln m/e/f m/e/g");
    let shown = stack.run("cd m && find . | sort && cat e/f");
    stack.unmount();
    stack.run("mkdir layer && cd b0 && find . -name '.wh..wh.*' ! -name .wh..wh..opq -prune -o ! -type d -print > ../list && tar -cf ../tar -T ../list && tar -xf ../tar -C ../layer");
    stack
        .bench
        .plywood(&["mount", "-o", "br=b2=rw:layer=ro+wh:b1=ro", "none", "m"])
        .silently();
    assert_eq!(stack.run("cd m && find . | sort && cat e/f"), shown);
}
