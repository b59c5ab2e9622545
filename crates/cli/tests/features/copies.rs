//! What a copy keeps of its original, and the directories above it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use testkit::require_root_and_fuse;

use crate::stack::Stack;
use crate::support::Bench;

const PAST: Duration = Duration::from_nanos(1_234_567_890_123_456_789);

#[track_caller]
fn set_past(stack: &Stack, branch: usize, name: &str) {
    let past = SystemTime::UNIX_EPOCH + PAST;
    let file = File::open(stack.on(branch, name)).unwrap();
    file.set_modified(past).unwrap();
}

#[track_caller]
fn is_past(stack: &Stack, branch: usize, name: &str) -> bool {
    let modified = fs::metadata(stack.on(branch, name)).unwrap().modified();
    modified.unwrap() == SystemTime::UNIX_EPOCH + PAST
}

/// Row 3.
#[test]
fn a_new_file_in_a_lower_directory_goes_to_a_copy_of_it() {
    let Some(stack) = Stack::over("", "d/ 0750 3:4 user.a=v") else {
        return;
    };
    stack.write("d/n", "n");
    stack.left(0, &["d/ 0750 3:4 user.a=v", "d/n \"n\""]);
    stack.unchanged(1);
}

/// Row 34.
#[test]
fn a_copy_has_the_capabilities_and_the_access_list_of_its_original() {
    let Some(stack) = Stack::planted(&[("rw", ""), ("ro", "f 0755\nd/g")]) else {
        return;
    };
    stack.run(
        "setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= b1/f && \
         setfacl -m u:5:rw b1/d/g && setfacl -m d:u:6:r b1/d",
    );
    stack.mount("");
    let told = |branch| {
        let line = format!("cd {branch} && getfattr -d -m - -e hex f d d/g && getfacl -n f d d/g");
        stack.run(&line)
    };
    for name in ["f", "d", "d/g"] {
        let permissions = fs::metadata(stack.at(name)).unwrap().permissions();
        fs::set_permissions(stack.at(name), permissions).unwrap();
    }
    assert_eq!(told("b0"), told("b1"));
    assert_eq!(told("m"), told("b1"));
}

/// Row 36.
#[test]
fn a_copy_has_the_holes_of_its_original() {
    let Some(stack) = Stack::planted(&[("rw", ""), ("ro", "f")]) else {
        return;
    };
    let lower = File::options().write(true).open(stack.on(1, "f")).unwrap();
    lower.set_len(1 << 30).unwrap();
    stack.mount("");
    let file = stack.open("f");
    file.write_all_at(b"x", 1 << 20).unwrap();
    // A large copy gets its name once it is durable.
    file.sync_all().unwrap();
    let copy = fs::metadata(stack.on(0, "f")).unwrap();
    assert_eq!(copy.len(), 1 << 30);
    assert!(copy.blocks() * 512 < 1 << 16, "{} blocks", copy.blocks());
}

/// Row 37: the filesystem has no room for a second file of this size.
#[test]
fn where_files_can_share_their_blocks_a_copy_does() {
    if !require_root_and_fuse() {
        return;
    }
    let mut bench = Bench::new();
    bench.guard.mount_point("disk");
    bench
        .shell(
            "truncate -s 320M image && mkfs.xfs -q -m reflink=1 image && mount -o loop image disk && \
             mkdir disk/b0 disk/b1 && head -c 160M /dev/zero | tr '\\0' l > disk/b1/f",
        )
        .silently();
    bench
        .plywood(&["mount", "-o", "br=disk/b0=rw:disk/b1=ro", "none", "m"])
        .silently();
    let file = File::options().write(true).open(bench.path("m/f")).unwrap();
    file.write_all_at(b"X", 0).unwrap();
    drop(file);
    bench.plywood(&["umount", "m"]).silently();
    let copy = fs::read(bench.path("disk/b0/f")).unwrap();
    assert_eq!(copy.len(), 160 << 20);
    assert!(copy[0] == b'X' && copy[1..].iter().all(|byte| *byte == b'l'));
}

/// Rows 38 and 39. In AUFS as recorded, a copied directory gets the time of the copy.
#[test]
fn directories_above_a_copy_have_the_attributes_and_times_of_theirs() {
    let branches = [
        ("rw", "d/"),
        ("ro", "a/ 0750 3:4 user.a=v\na/b/ 0711 5:6\na/b/f\nd/f"),
    ];
    let Some(stack) = Stack::planted(&branches) else {
        return;
    };
    for name in ["d", "a/b", "a"] {
        set_past(&stack, 1, name);
    }
    set_past(&stack, 0, "d");
    stack.mount("");
    for name in ["a/b/f", "d/f"] {
        fs::set_permissions(stack.at(name), Permissions::from_mode(0o600)).unwrap();
    }
    stack.left(
        0,
        &[
            "a/ 0750 3:4 user.a=v",
            "a/b/ 0711 5:6",
            "a/b/f 0600",
            "d/",
            "d/f 0600",
        ],
    );
    for name in ["d", "a/b", "a"] {
        assert!(is_past(&stack, 0, name), "{name}");
    }
    stack.unchanged(1);
}

/// Row 40.
#[test]
fn every_kind_of_object_is_copied_up_as_it_is() {
    let lower = "b b 7:1\nc c 1:3\nl -> target\np fifo\ns socket";
    let Some(stack) = Stack::over("", lower) else {
        return;
    };
    stack.run("chown -h 5:6 m/b m/c m/l m/p m/s");
    stack.left(
        0,
        &[
            "b b 7:1 5:6",
            "c c 1:3 5:6",
            "l -> target 5:6",
            "p fifo 5:6",
            "s socket 5:6",
        ],
    );
    stack.unchanged(1);
}

/// Row 41.
#[test]
fn set_id_bits_are_copied_after_the_owner() {
    let Some(stack) = Stack::over("", "f \"l\" 4755 3:4\ng 2755 3:4\nd/ 3777 3:4") else {
        return;
    };
    stack.run("setfattr -n user.x -v 1 m/f m/g m/d");
    stack.left(
        0,
        &[
            "d/ 3777 3:4 user.x=1",
            "f \"l\" 4755 3:4 user.x=1",
            "g 2755 3:4 user.x=1",
        ],
    );
    stack.unchanged(1);
}
