//! Descriptors, mappings and locks over a copy-up.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use crate::stack::{NO_ENTRY, Stack, refused};

const O_TMPFILE: i32 = 0o20_200_000;

#[track_caller]
fn python(stack: &Stack, script: &str) -> String {
    let script = format!("import mmap\n{script}");
    stack.bench.run("python3", &["-c", &script]).silently()
}

#[track_caller]
fn read(file: &File, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let count = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(count);
    bytes
}

/// Row 61.
#[test]
fn a_reader_sees_what_another_writes_after_the_copy_up() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", ""), ("ro", "f \"abc\"")]) else {
            return;
        };
        let reader = File::open(stack.at("f")).unwrap();
        assert_eq!(read(&reader, 8), b"abc");
        stack.open("f").write_all_at(b"XYZW", 0).unwrap();
        assert_eq!(read(&reader, 8), b"XYZW");
        assert_eq!(reader.metadata().unwrap().len(), 4);
        stack.unchanged(1);
    }
}

/// Row 62. In AUFS the mapping stays with the old file.
#[test]
fn a_mapping_from_before_the_copy_up_sees_what_is_written_after_it() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", ""), ("ro", "f \"abc\"")]) else {
            return;
        };
        let told = python(
            &stack,
            "r = open('m/f', 'rb')
m = mmap.mmap(r.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
before = m[:]
open('m/f', 'r+b', buffering=0).write(b'NEW')
print(before, m[:])",
        );
        assert_eq!(told, "b'abc' b'NEW'\n");
        stack.left(0, &["f \"NEW\""]);
        stack.unchanged(1);
    }
}

/// Row 63.
#[test]
fn what_is_written_through_a_mapping_is_on_the_upper_branch() {
    let Some(stack) = Stack::over("", "f \"abc\"") else {
        return;
    };
    let told = python(
        &stack,
        "f = open('m/f', 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[0:1] = b'M'
m.flush()
print(open('m/f').read())",
    );
    assert_eq!(told, "Mbc\n");
    stack.left(0, &["f \"Mbc\""]);
    stack.unchanged(1);
}

/// Row 64.
#[test]
fn a_removed_lower_file_can_be_written_while_it_is_open_and_leaves_no_trace() {
    let Some(stack) = Stack::over("", "f \"abc\"") else {
        return;
    };
    let file = stack.open("f");
    fs::remove_file(stack.at("f")).unwrap();
    file.write_all_at(b"X", 0).unwrap();
    assert_eq!(read(&file, 8), b"Xbc");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    refused(fs::metadata(stack.at("f")), NO_ENTRY);
    drop(file);
    stack.unmount();
    stack.left(0, &[".wh.f 0444"]);
    assert_eq!(
        fs::read_dir(stack.on(0, ".wh..wh.orph")).unwrap().count(),
        0
    );
    stack.unchanged(1);
}

/// Row 65.
#[test]
fn a_file_without_a_name_gets_one_and_leaves_nothing_else() {
    let Some(stack) = Stack::over("", "d/x") else {
        return;
    };
    let mut how = File::options();
    how.read(true)
        .write(true)
        .mode(0o640)
        .custom_flags(O_TMPFILE);
    let named = how.open(stack.at("d")).unwrap();
    let nameless = how.open(stack.at("d")).unwrap();
    named.write_all_at(b"t", 0).unwrap();
    nameless.write_all_at(b"n", 0).unwrap();
    let descriptor = format!("/proc/{}/fd/{}", std::process::id(), named.as_raw_fd());
    stack.run(&format!("ln -L {descriptor} m/d/t"));
    assert_eq!(stack.read("d/t"), "t");
    drop((named, nameless));
    stack.unmount();
    stack.left(0, &["d/", "d/t \"t\" 0640"]);
}

/// Row 108.
#[test]
fn locks_of_the_union_are_not_those_of_a_branch() {
    let Some(stack) = Stack::over("f", "") else {
        return;
    };
    let told = stack.run(
        "flock -n m/f sh -c 'flock -n m/f echo again; flock -n b0/f echo branch' ; flock -n m/f echo later",
    );
    assert_eq!(told, "branch\nlater\n");
}
