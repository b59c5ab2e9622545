//! Inode numbers, times of directories, and what the filesystem says of itself.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::thread::sleep;
use std::time::Duration;

use crate::stack::Stack;

/// Row 68.
#[test]
fn a_number_stays_over_a_copy_up() {
    let Some(stack) = Stack::over("", "f \"l\"\nd/x") else {
        return;
    };
    let numbers = || ["f", "d", "d/x"].map(|name| fs::metadata(stack.at(name)).unwrap().ino());
    let before = numbers();
    stack.write("f", "new");
    stack.run("chmod 0700 m/d m/d/x");
    assert_eq!(numbers(), before);
    stack.run("echo 2 > /proc/sys/vm/drop_caches");
    assert_eq!(numbers(), before);
    stack.left(0, &["d/ 0700", "d/x 0700", "f \"new\""]);
}

/// Row 69.
#[test]
fn a_listing_has_the_numbers_that_its_entries_have() {
    let Some(stack) = Stack::over("a\nd/a\n.wh.gone", "b\nd/b\ngone\nl -> a\np fifo") else {
        return;
    };
    for directory in ["", "d"] {
        for entry in fs::read_dir(stack.at(directory)).unwrap() {
            let entry = entry.unwrap();
            let found = fs::symlink_metadata(entry.path()).unwrap();
            assert_eq!(entry.ino(), found.ino(), "{}", entry.path().display());
        }
    }
}

/// Row 72.
#[test]
fn a_directory_is_as_young_as_what_was_made_in_it() {
    let Some(stack) = Stack::of(&[("rw", "d/"), ("rw", "d/old\ne/old"), ("ro", "d/l")]) else {
        return;
    };
    for (directory, line) in [
        ("d", "touch m/d/new"),
        ("d", "mv m/d/old m/d/older"),
        ("d", "rm m/d/older"),
        ("e", "touch m/e/new"),
        ("e", "rm m/e/old"),
    ] {
        let modified = || {
            fs::metadata(stack.at(directory))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = modified();
        sleep(Duration::from_millis(20));
        stack.run(line);
        assert!(modified() > before, "{line}");
    }
    assert!(stack.on(0, "d/new").exists() && stack.on(1, "e/new").exists());
}

/// Row 73.
#[test]
fn free_space_is_that_of_the_first_branch_or_with_sum_of_each_filesystem_once() {
    let branches = [("rw", ""), ("rw", ""), ("rw", ""), ("ro", "")];
    let Some(mut stack) = Stack::planted(&branches) else {
        return;
    };
    for (branch, size) in [("b0", "4m"), ("b1", "12m")] {
        stack.bench.guard.mount_point(branch);
        stack.run(&format!("mount -t tmpfs -o size={size} none {branch}"));
    }
    stack.run(
        "mkdir b1/b2 && rmdir b2 && ln -s b1/b2 b2 && rmdir b3 && mkdir b1/b3 && ln -s b1/b3 b3",
    );
    let size = || -> u64 {
        let told = stack.run("stat -f -c '%b %S' m");
        let numbers: Vec<u64> = told
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        numbers.into_iter().product()
    };
    // The third and the fourth branch are on the filesystem of the second.
    let list = "br=b0=rw:b1/b2=rw:b1/b3=ro";
    for (options, expected) in [("", 4 << 20), (",nosum", 4 << 20), (",sum", 16 << 20)] {
        let option = format!("{list}{options}");
        stack
            .bench
            .plywood(&["mount", "-o", &option, "none", "m"])
            .silently();
        assert_eq!(size(), expected, "{options}");
        stack.unmount();
    }
}

/// Row 102.
#[test]
fn a_line_of_options_may_be_longer_than_a_page() {
    let Some(stack) = Stack::planted(&[("rw", "")]) else {
        return;
    };
    let mut option = "br=b0=rw".to_owned();
    for number in 0..200 {
        let name = format!("{number:0100}");
        stack.bench.write(&format!("{name}/f{number}"), "x");
        option = format!("{option}:{name}=ro");
    }
    assert!(option.len() > 5 * 4096);
    stack
        .bench
        .plywood(&["mount", "-o", &option, "none", "m"])
        .silently();
    assert_eq!(stack.list("").len(), 200);
    assert_eq!(stack.read("f199"), "x");
}
