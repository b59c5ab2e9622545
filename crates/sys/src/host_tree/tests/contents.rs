//! Reading, writing, holes and copying.

use std::os::fd::AsFd;

use rules::{Attr, Creation, Errno};
use tree::{Access, Object, Seek, SyncHow, Tree};

use super::super::copying;
use super::{HostFile, Scratch, n};

const MIB: u64 = 1024 * 1024;

fn attr(s: &Scratch, file: &HostFile) -> Attr {
    s.tree.attr(Object::File(file)).unwrap()
}

/// A file of 64 MiB with data at its start and at 16 MiB, and a hole at its end.
fn sparse(s: &Scratch, name: &str) -> HostFile {
    let file = s.make(name);
    s.tree.write(&file, b"start", 0).unwrap();
    s.tree.write(&file, &[9; 10_000], 16 * MIB).unwrap();
    rustix::fs::ftruncate(&file, 64 * MIB).unwrap();
    file
}

fn same_contents(s: &Scratch, a: &HostFile, b: &HostFile) -> bool {
    let mut buffers = [vec![0; MIB as usize], vec![0; MIB as usize]];
    let [left, right] = &mut buffers;
    let mut offset = 0;
    loop {
        let counts = (
            s.tree.read(a, left, offset).unwrap(),
            s.tree.read(b, right, offset).unwrap(),
        );
        if counts.0 != counts.1 || left[..counts.0] != right[..counts.1] {
            return false;
        }
        if counts.0 == 0 {
            return true;
        }
        offset += counts.0 as u64;
    }
}

#[test]
fn reading_is_short_only_at_the_end() {
    let s = Scratch::new();
    let file = s.make("file");
    assert_eq!(s.tree.write(&file, b"0123456789", 5), Ok(10));
    let mut buffer = [0xff; 8];
    assert_eq!(s.tree.read(&file, &mut buffer, 3), Ok(8));
    assert_eq!(&buffer, b"\0\x00012345");
    assert_eq!(s.tree.read(&file, &mut buffer, 12), Ok(3));
    assert_eq!(&buffer[..3], b"789");
    assert_eq!(s.tree.read(&file, &mut buffer, 15), Ok(0));
    assert_eq!(s.tree.sync_file(&file, SyncHow::All), Ok(()));
    assert_eq!(s.tree.sync_file(&file, SyncHow::Data), Ok(()));
}

#[test]
fn access_decides_what_may_be_done() {
    let s = Scratch::new();
    let made = s.make("file");
    s.tree.write(&made, b"x", 0).unwrap();
    let open = |access| s.tree.open_file(&s.root, &n("file"), access).unwrap();
    let mut buffer = [0];
    for access in [Access::Read, Access::ReadQuietly] {
        assert_eq!(s.tree.write(&open(access), b"y", 0), Err(Errno::BADF));
        assert_eq!(s.tree.read(&open(access), &mut buffer, 0), Ok(1));
    }
    assert_eq!(s.tree.write(&open(Access::ReadWrite), b"y", 0), Ok(1));
    assert_eq!(s.read("file"), b"y");
}

#[test]
fn reading_quietly_leaves_the_time_of_access() {
    let s = Scratch::new();
    let made = s.make("file");
    s.tree.write(&made, b"x", 0).unwrap();
    let old = Some(rules::SetTime::To(rules::Time {
        seconds: 1,
        nanos: 0,
    }));
    let changes = rules::Changes {
        atime: old,
        ..rules::Changes::default()
    };
    s.tree.set_attr(Object::File(&made), &changes).unwrap();
    let file = s
        .tree
        .open_file(&s.root, &n("file"), Access::ReadQuietly)
        .unwrap();
    s.tree.read(&file, &mut [0], 0).unwrap();
    assert_eq!(s.look("file").atime.seconds, 1);
    let dir = s.make_dir("dir");
    s.tree.set_attr(Object::Dir(&dir), &changes).unwrap();
    s.tree.list(&dir).unwrap();
    assert_eq!(s.look("dir").atime.seconds, 1);
}

#[test]
fn files_beyond_four_gigabytes_are_opened() {
    let s = Scratch::new();
    let made = s.make("file");
    s.tree.write(&made, b"far", 5 << 30).unwrap();
    let file = s
        .tree
        .open_file(&s.root, &n("file"), Access::ReadWrite)
        .unwrap();
    let mut buffer = [0; 3];
    assert_eq!(s.tree.read(&file, &mut buffer, 5 << 30), Ok(3));
    assert_eq!(&buffer, b"far");
}

#[test]
fn space_is_allocated_punched_and_found() {
    let s = Scratch::new();
    let file = s.make("file");
    s.tree.allocate(&file, 0, 0, MIB).unwrap();
    assert_eq!(
        (attr(&s, &file).size, attr(&s, &file).blocks >= 2048),
        (MIB, true)
    );
    s.tree.write(&file, &vec![1; MIB as usize], 0).unwrap();
    let punch = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
    s.tree.allocate(&file, punch, 65_536, 65_536).unwrap();
    assert_eq!(s.tree.seek(&file, 0, Seek::Hole), Ok(65_536));
    assert_eq!(s.tree.seek(&file, 65_536, Seek::Data), Ok(131_072));
    assert_eq!(s.tree.seek(&file, 131_072, Seek::Hole), Ok(MIB));
    assert_eq!(s.tree.seek(&file, MIB, Seek::Data), Err(Errno::NXIO));
    assert_eq!(
        s.tree.allocate(&file, 0x8000_0000, 0, 1),
        Err(Errno::OPNOTSUPP)
    );
}

#[test]
fn copying_data_keeps_holes() {
    let s = Scratch::new();
    let from = sparse(&s, "from");
    let to = s.make("to");
    s.tree.copy_data(&from, &to, 64 * MIB).unwrap();
    assert_eq!(attr(&s, &to).size, 64 * MIB);
    assert!(attr(&s, &to).blocks < 200, "{}", attr(&s, &to).blocks);
    assert!(same_contents(&s, &from, &to));
}

#[test]
fn copying_data_keeps_holes_from_one_filesystem_to_another() {
    let disk = Scratch::new();
    let memory = Scratch::under("/dev/shm".as_ref());
    let from = sparse(&disk, "from");
    for (source, target) in [
        (&from, memory.make("to")),
        (&sparse(&memory, "from"), disk.make("to")),
    ] {
        disk.tree.copy_data(source, &target, 64 * MIB).unwrap();
        assert_eq!(attr(&disk, &target).size, 64 * MIB);
        assert!(attr(&disk, &target).blocks < 200);
        assert!(same_contents(&disk, source, &target));
    }
}

#[test]
fn only_the_first_bytes_are_copied() {
    let s = Scratch::new();
    let from = sparse(&s, "from");
    for length in [0, 3, 4096, 16 * MIB - 1, 16 * MIB + 5, 20 * MIB] {
        let to = s
            .tree
            .unnamed_file(&s.root, &Creation::exact(0o600))
            .unwrap();
        s.tree.copy_data(&from, &to, length).unwrap();
        assert_eq!(attr(&s, &to).size, length);
        let mut buffer = [0; 5];
        let read = s.tree.read(&to, &mut buffer, 16 * MIB).unwrap();
        assert_eq!(
            read as u64,
            length.saturating_sub(16 * MIB).min(5),
            "{length}"
        );
        assert!(buffer[..read].iter().all(|byte| *byte == 9));
    }
}

#[test]
fn a_source_that_became_shorter_leaves_zeros() {
    let s = Scratch::new();
    let (from, to) = (s.make("from"), s.make("to"));
    s.tree.write(&from, b"short", 0).unwrap();
    s.tree.copy_data(&from, &to, 10_000).unwrap();
    assert_eq!(attr(&s, &to).size, 10_000);
    assert_eq!(s.read("to")[..6], *b"short\0");
}

#[test]
fn a_source_that_cannot_tell_its_holes_loses_its_blocks_of_zeros() {
    let s = Scratch::new();
    let from = sparse(&s, "from");
    let to = s.make("to");
    let length = 64 * MIB;
    let spots = ((from.as_fd(), 0), (to.as_fd(), 0));
    let copied =
        copying::copy_through_buffer(spots.0, spots.1, length, copying::Zeros::LeftOut).unwrap();
    rustix::fs::ftruncate(&to, length).unwrap();
    assert_eq!(copied, length);
    assert!(attr(&s, &to).blocks < 200);
    assert!(same_contents(&s, &from, &to));
}

#[test]
fn a_range_is_copied_within_and_across_filesystems() {
    let disk = Scratch::new();
    let memory = Scratch::under("/dev/shm".as_ref());
    let from = disk.make("from");
    disk.tree
        .write(&from, &(0..=255).collect::<Vec<u8>>().repeat(4096), 0)
        .unwrap();
    for to in [disk.make("to"), memory.make("to")] {
        assert_eq!(disk.tree.copy_range(&from, 100, &to, 7, MIB), Ok(MIB - 100));
        let mut buffer = [0; 9];
        disk.tree.read(&to, &mut buffer, 0).unwrap();
        assert_eq!(buffer, [0, 0, 0, 0, 0, 0, 0, 100, 101]);
        assert_eq!(disk.tree.copy_range(&from, MIB, &to, 0, 10), Ok(0));
        assert_eq!(disk.tree.copy_range(&from, 0, &to, 0, 0), Ok(0));
    }
}

#[test]
fn ranges_that_overlap_in_one_file_are_refused() {
    let s = Scratch::new();
    let file = s.make("file");
    s.tree.write(&file, &[1; 8192], 0).unwrap();
    let same = s
        .tree
        .open_file(&s.root, &n("file"), Access::ReadWrite)
        .unwrap();
    assert_eq!(
        s.tree.copy_range(&file, 0, &same, 100, 4096),
        Err(Errno::INVAL)
    );
    assert_eq!(s.tree.copy_range(&file, 0, &same, 4096, 4096), Ok(4096));
}
