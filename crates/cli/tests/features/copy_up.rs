//! What copies a lower file up, and what does not.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::stack::Stack;

/// Row 27.
#[test]
fn the_first_write_copies_a_lower_file_up() {
    let Some(stack) = Stack::over("", "f \"abc\"") else {
        return;
    };
    stack.open("f").write_all(b"X").unwrap();
    assert_eq!(stack.read("f"), "Xbc");
    stack.left(0, &["f \"Xbc\""]);
    stack.unchanged(1);
}

/// Row 28.
#[test]
fn opening_for_writing_copies_nothing() {
    for options in ["", "compat=aufs"] {
        let Some(stack) = Stack::with(options, &[("rw", ""), ("ro", "f \"abc\"")]) else {
            return;
        };
        drop(stack.open("f"));
        drop(File::options().append(true).open(stack.at("f")).unwrap());
        stack.left(0, &[]);
    }
}

/// Row 29: the upper branch has no room for the whole file.
#[test]
fn shortening_a_lower_file_copies_what_is_left() {
    let Some(stack) = Stack::on_disks(&[1], &[("rw", ""), ("ro", "")]) else {
        return;
    };
    fs::write(stack.on(1, "f"), "lower file".repeat(1 << 20)).unwrap();
    stack.mount("");
    let file = File::options().write(true).open(stack.at("f")).unwrap();
    file.set_len(4).unwrap();
    file.sync_all().unwrap();
    assert_eq!(stack.read("f"), "lowe");
    assert_eq!(fs::read(stack.on(0, "f")).unwrap(), b"lowe");
    assert_eq!(fs::metadata(stack.on(1, "f")).unwrap().len(), 10 << 20);
    drop(file);
    stack.unmount();
}

/// Row 30.
#[test]
fn opening_with_truncation_copies_all_but_the_data() {
    let Some(stack) = Stack::over("", "f \"abc\" 0640 3:4 user.a=v") else {
        return;
    };
    stack.run(": > m/f");
    stack.left(0, &["f 0640 3:4 user.a=v"]);
    stack.unchanged(1);
}

/// Row 31.
#[test]
fn changed_attributes_copy_a_lower_file_up() {
    let Some(stack) = Stack::over("", "m \"m\"\no \"o\"\nt \"t\"") else {
        return;
    };
    let past = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
    for name in ["m", "o", "t"] {
        let file = File::options().write(true).open(stack.on(1, name)).unwrap();
        file.set_modified(past).unwrap();
    }
    fs::set_permissions(stack.at("m"), Permissions::from_mode(0o700)).unwrap();
    chown(stack.at("o"), Some(5), Some(6)).unwrap();
    let later = past + Duration::from_secs(1);
    let times = FileTimes::new().set_modified(later);
    File::open(stack.at("t")).unwrap().set_times(times).unwrap();
    stack.left(0, &["m \"m\" 0700", "o \"o\" 5:6", "t \"t\""]);
    let modified = |name| fs::metadata(stack.on(0, name)).unwrap().modified().unwrap();
    assert_eq!(
        (modified("m"), modified("o"), modified("t")),
        (past, past, later)
    );
    stack.unchanged(1);
}

/// Row 32.
#[test]
fn a_change_of_owner_to_nobody_copies_up_in_the_manner_of_aufs() {
    let Some(stack) = Stack::with("compat=aufs", &[("rw", ""), ("ro", "f \"l\" 3:4")]) else {
        return;
    };
    chown(stack.at("f"), None, None).unwrap();
    stack.left(0, &["f \"l\" 3:4"]);
    stack.unchanged(1);
}

/// Row 33.
#[test]
fn an_attribute_that_is_set_or_removed_copies_a_lower_file_up() {
    let Some(stack) = Stack::over("", "f \"l\" user.a=1\ng user.a=1 user.c=3") else {
        return;
    };
    stack.run("setfattr -n user.b -v 2 m/f && setfattr -x user.a m/g");
    stack.left(0, &["f \"l\" user.a=1 user.b=2", "g user.c=3"]);
    stack.unchanged(1);
}

/// Row 66.
#[test]
fn syncing_a_file_that_is_open_for_writing_copies_it_up() {
    let Some(stack) = Stack::with("compat=aufs", &[("rw", ""), ("ro", "f \"l\"\ng")]) else {
        return;
    };
    File::open(stack.at("g")).unwrap().sync_all().unwrap();
    stack.left(0, &[]);
    stack.open("f").sync_all().unwrap();
    stack.left(0, &["f \"l\""]);
}

/// Row 120.
#[test]
fn many_writers_of_one_lower_file_make_one_copy_and_lose_nothing() {
    const WRITERS: u64 = 32;
    const PIECE: u64 = 1 << 20;
    let Some(stack) = Stack::planted(&[("rw", ""), ("ro", "")]) else {
        return;
    };
    let size = usize::try_from(WRITERS * PIECE).unwrap();
    fs::write(stack.on(1, "f"), vec![b'l'; size]).unwrap();
    stack.mount("");
    let number = fs::metadata(stack.at("f")).unwrap().ino();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let file = stack.open("f");
            scope.spawn(move || {
                file.write_all_at(&writer.to_be_bytes(), writer * PIECE)
                    .unwrap();
            });
        }
    });
    assert_eq!(fs::metadata(stack.at("f")).unwrap().ino(), number);
    stack.unmount();
    let copy = fs::read(stack.on(0, "f")).unwrap();
    assert_eq!(copy.len(), size);
    for (writer, piece) in (0..WRITERS).zip(copy.chunks(usize::try_from(PIECE).unwrap())) {
        assert_eq!(piece[..8], writer.to_be_bytes());
        assert!(piece[8..].iter().all(|byte| *byte == b'l'), "{writer}");
    }
    assert_eq!(stack.holds(0).lines().count(), 1);
    assert!(
        fs::read(stack.on(1, "f"))
            .unwrap()
            .iter()
            .all(|byte| *byte == b'l')
    );
}
