//! Many threads at once: nothing is lost, nothing is copied up twice.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use union::{InodeId, OpenFlags, Refusal};

use crate::client::{CALLER, Client, WRITE};
use crate::stack::{MemoryUnion, Mode, Plan};

const FILES: usize = 200;
const THREADS: usize = 8;
/// Longer than anything takes that does not wait for somebody.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn eight_threads_change_the_same_lower_files_without_losing_a_write() {
    let lower: String = (0..FILES)
        .map(|n| format!("d/f{n} \"........\"\n"))
        .collect();
    let plan = Plan::aufs(&[(Mode::Rw, ""), (Mode::Wh, &lower)]);
    for plan in [plan.clone(), plan.noticed()] {
        let one_after_another = plan.build();
        let union = one_after_another.mount();
        one_after_another.faults.reset();
        (0..THREADS).for_each(|thread| change_all(&union, thread));
        drop(union);

        let stack = plan.build();
        let union = stack.mount();
        stack.faults.reset();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let union = &union;
                scope.spawn(move || change_all(union, thread));
            }
        });
        let (writes, needed) = (stack.faults.count(), one_after_another.faults.count());
        assert_eq!(writes, needed, "each file is copied up once");
        let mut client = Client::new(union);
        for n in 0..FILES {
            assert_eq!(
                client.read(&format!("d/f{n}")).unwrap(),
                b"01234567",
                "f{n}"
            );
        }
        client.forget_all();
        assert_eq!(client.union.inodes_held(), 1);
        assert!(stack.left_over().is_empty());
    }
}

#[test]
fn while_a_file_is_copied_up_nobody_else_waits() {
    let lower = "d/big \"original\"\nd/other \"........\"\nd/gone \"x\"\nd/old \"y\"";
    let plan = Plan::aufs(&[(Mode::Rw, ""), (Mode::Wh, lower)]);
    for plan in [plan.clone(), plan.clone().noticed(), plan.overlay()] {
        let stack = plan.build();
        let union = stack.mount();
        let dir = union.lookup(InodeId::ROOT, b"d").unwrap().unwrap().id;
        let big = union.lookup(dir, b"big").unwrap().unwrap().id;
        let held = stack.faults.hold_next_copy();
        let (done, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let union = &union;
            let writer = scope.spawn(move || {
                union.open(big, WRITE).unwrap();
                assert_eq!(union.write(big, b"ORI", 0, false), Ok(3));
            });
            assert!(held.has_begun(PATIENCE));
            scope.spawn(move || {
                let other = union.lookup(dir, b"other").unwrap().unwrap().id;
                union.open(other, WRITE).unwrap();
                assert_eq!(union.write(other, b"new", 0, false), Ok(3));
                union
                    .create(&CALLER, dir, b"new", 0o600, true, WRITE)
                    .unwrap();
                union.unlink(dir, b"gone").unwrap();
                let how = tree::RenameHow::Replace;
                union.rename(dir, b"old", dir, b"older", how).unwrap();
                assert_eq!(union.attr(big).unwrap().size, 8);
                done.send(()).unwrap();
            });
            let waited = told.recv_timeout(PATIENCE).is_err();
            assert!(!waited && !writer.is_finished());
            drop(held);
        });
        let mut client = Client::new(union);
        assert_eq!(client.read("d/big").unwrap(), b"ORIginal");
        assert_eq!(client.read("d/other").unwrap(), b"new.....");
    }
}

#[test]
fn files_that_move_up_while_threads_open_and_change_them_lose_nothing() {
    let lower: String = (0..FILES)
        .map(|n| format!("d/f{n} \"........\"\n"))
        .collect();
    let moves = |powers| rules::Powers {
        copy_up_on_open: rules::CopyUpOnOpen::Move,
        ..powers
    };
    let plan = Plan::aufs(&[(Mode::Rw, ""), (Mode::Rw, &lower)]).branch(1, moves);
    for plan in [plan.clone(), plan.noticed()] {
        let stack = plan.build();
        let union = stack.mount();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let union = &union;
                scope.spawn(move || change_all(union, thread));
            }
            scope.spawn(|| chmod_all(&union));
        });
        let mut client = Client::new(union);
        for n in 0..FILES {
            let path = format!("d/f{n}");
            assert_eq!(client.read(&path).unwrap(), b"01234567", "{path}");
            assert_eq!(client.find(&path).unwrap().attr.perm, 0o600, "{path}");
        }
        assert_eq!(testkit::draw(&stack.trees[1]).matches("d/f").count(), 0);
        assert!(stack.left_over().is_empty());
    }
}

fn chmod_all(union: &MemoryUnion) {
    let dir = union.lookup(InodeId::ROOT, b"d").unwrap().unwrap().id;
    for n in 0..FILES {
        let found = union.lookup(dir, format!("f{n}").as_bytes());
        let id = found.unwrap().unwrap().id;
        let private = rules::Changes {
            perm: Some(0o600),
            ..rules::Changes::default()
        };
        union.set_attr(id, &private).unwrap();
        union.forget(id, 1);
    }
    union.forget(dir, 1);
}

/// Writes one byte into each file, and reads it again.
fn change_all(union: &MemoryUnion, thread: usize) {
    let dir = union.lookup(InodeId::ROOT, b"d").unwrap().unwrap().id;
    for step in 0..FILES {
        // Some go up, some down, from different places.
        let at = (step + thread * FILES / THREADS) % FILES;
        let n = if thread.is_multiple_of(2) {
            at
        } else {
            FILES - 1 - at
        };
        let found = union.lookup(dir, format!("f{n}").as_bytes());
        let entry = found.unwrap().unwrap();
        union.open(entry.id, WRITE).unwrap();
        let mine = [b'0' + thread as u8];
        assert_eq!(union.write(entry.id, &mine, thread as u64, false), Ok(1));
        let mut seen = [0];
        assert_eq!(union.read(entry.id, &mut seen, thread as u64), Ok(1));
        assert_eq!(seen, mine);
        union.release(entry.id);
        union.forget(entry.id, 1);
    }
    union.forget(dir, 1);
}

#[test]
fn threads_that_make_rename_and_remove_the_same_names_end_in_step() {
    let plan = Plan::aufs(&[
        (Mode::Rw, "a/\nb/"),
        (Mode::Wh, "a/x \"1\"\nb/y \"2\"\na/z \"3\""),
    ]);
    for plan in [plan.clone(), plan.clone().noticed(), plan.overlay()] {
        let stack = plan.build();
        let union = stack.mount();
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (union, done) = (&union, &done);
                scope.spawn(move || {
                    for step in 0..150 {
                        if one_of_many(union, thread * 7 + step) {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(done.into_inner() > 0);
        let shown = crate::view::view(&union).unwrap();
        drop(union);
        assert_eq!(crate::view::view(&stack.mount()).unwrap(), shown);
        assert_eq!(stack.touched_read_only_branch(), None);
        assert!(stack.left_over().is_empty(), "{:?}", stack.left_over());
    }
}

/// Does one small thing that may fail because others are there; returns whether it did not.
fn one_of_many(union: &MemoryUnion, seed: usize) -> bool {
    let dirs = [&b"a"[..], b"b"];
    let names = [&b"x"[..], b"y", b"z"];
    let (name, other) = (names[seed % 3], names[(seed / 3) % 3]);
    let found = dirs.map(|dir| union.lookup(InodeId::ROOT, dir).unwrap().unwrap().id);
    let (dir, to) = (found[seed % 2], found[(seed / 2) % 2]);
    let done = match seed % 5 {
        0 => union.unlink(dir, name).is_ok(),
        1 => union
            .rename(dir, name, to, other, tree::RenameHow::Replace)
            .is_ok(),
        2 => match union.create(&CALLER, dir, name, 0o644, true, WRITE) {
            Ok((entry, _)) => {
                union.release(entry.id);
                union.forget(entry.id, 1);
                true
            }
            Err(_) => false,
        },
        3 => match union.lookup(dir, name).unwrap() {
            Some(entry) => {
                let linked = union.link(entry.id, to, other);
                if linked.is_ok() {
                    union.forget(entry.id, 1);
                }
                union.forget(entry.id, 1);
                linked.is_ok()
            }
            None => false,
        },
        _ => match union.lookup(dir, name).unwrap() {
            Some(entry) => {
                let opened = union.open(entry.id, OpenFlags::default()).is_ok();
                let written = opened && union.write(entry.id, b"w", 0, false).is_ok();
                if opened {
                    union.release(entry.id);
                }
                union.forget(entry.id, 1);
                written
            }
            None => false,
        },
    };
    for id in found {
        union.forget(id, 1);
    }
    done
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn writers_through_different_names_of_one_file_lose_nothing_while_links_are_flushed() {
    let lower = |n: usize| format!("a/{n} \"....\"\nb/{n} = a/{n}\nc/{n} = a/{n}\nd/{n} = a/{n}\n");
    let lower: String = (0..FILES).map(lower).collect();
    let plan = Plan::aufs(&[(Mode::Rw, ""), (Mode::Ro, &lower)]);
    for plan in [plan.clone(), plan.noticed()] {
        for early in [true, false] {
            let plan = plan.clone().with(|set| set.link_names_early = early);
            let stack = plan.build();
            let union = stack.mount();
            let (together, done) = (Barrier::new(NAMES.len()), AtomicUsize::new(0));
            let mut failed = Vec::new();
            std::thread::scope(|scope| {
                let writer = |thread| {
                    let (union, together, done) = (&union, &together, &done);
                    scope.spawn(move || {
                        let write = |n| {
                            together.wait();
                            let written = write_through(union, thread, n);
                            written.map_err(|error| (NAMES[thread], n, error))
                        };
                        let failed: Vec<_> =
                            (0..FILES).map(write).filter_map(Result::err).collect();
                        done.fetch_add(1, Ordering::Release);
                        failed
                    })
                };
                let writers: Vec<_> = (0..NAMES.len()).map(writer).collect();
                while done.load(Ordering::Acquire) < NAMES.len() {
                    union.flush_links().unwrap();
                }
                for writer in writers {
                    failed.extend(writer.join().unwrap());
                }
            });
            assert_eq!(failed, [], "early: {early}");
            union.flush_links().unwrap();
            assert_whole(union, &format!("early: {early}"));
            assert_whole(stack.mount(), &format!("mounted again, early: {early}"));
            assert!(!stack.has_pseudo_links());
            assert!(stack.left_over().is_empty(), "{:?}", stack.left_over());
            assert_eq!(stack.touched_read_only_branch(), None);
        }
    }
}

/// Writes one byte into a file, by its name in one directory. Each call is one operation of a front end.
fn write_through(union: &MemoryUnion, thread: usize, n: usize) -> union::Result<()> {
    let passing = union.pass();
    let dir = union.lookup(InodeId::ROOT, NAMES[thread].as_bytes())?;
    let dir = dir.ok_or(Refusal::NotFound)?.id;
    drop(passing);
    let passing = union.pass();
    let found = union.lookup(dir, n.to_string().as_bytes())?;
    let id = found.ok_or(Refusal::NotFound)?.id;
    drop(passing);
    let passing = union.pass();
    union.open(id, WRITE)?;
    drop(passing);
    let passing = union.pass();
    let mine = [b'0' + thread as u8];
    union.write(id, &mine, thread as u64, false)?;
    drop(passing);
    let _passing = union.pass();
    union.release(id);
    union.forget(id, 1);
    union.forget(dir, 1);
    Ok(())
}

/// Checks that all names of each file show what everybody wrote, in one file.
#[track_caller]
fn assert_whole(union: MemoryUnion, when: &str) {
    let mut client = Client::new(union);
    for n in 0..FILES {
        let number = client.find(&format!("a/{n}")).unwrap().attr.ino;
        for dir in NAMES {
            let path = format!("{dir}/{n}");
            assert_eq!(client.read(&path).unwrap(), b"0123", "{path}, {when}");
            let attr = client.find(&path).unwrap().attr;
            assert_eq!((attr.ino, attr.nlink), (number, 4), "{path}, {when}");
        }
    }
    client.forget_all();
    assert_eq!(client.union.inodes_held(), 1);
}

/// Who reads a lower file in overlay's dialect goes past the union; a writer that shared its inode would go there, too.
#[test]
fn what_readers_were_lent_is_never_opened_for_writing() {
    let lower: String = (0..FILES).map(|n| format!("f{n} \"x\"\n")).collect();
    let plan = Plan::aufs(&[(Mode::Rw, ""), (Mode::Wh, &lower)]).overlay();
    let stack = plan.build();
    let union = stack.mount();
    let (lent, written) = (Mutex::new(HashSet::new()), Mutex::new(HashSet::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (union, lent, written) = (&union, &lent, &written);
            scope.spawn(move || {
                for n in 0..FILES {
                    let name = format!("f{n}");
                    let flags = OpenFlags {
                        write: thread.is_multiple_of(2),
                        ..WRITE
                    };
                    // As the kernel does it: a stale inode is looked up again, once.
                    let found = || union.lookup(InodeId::ROOT, name.as_bytes());
                    let mut id = found().unwrap().unwrap().id;
                    let opened = union.open(id, flags).or_else(|_| {
                        id = found().unwrap().unwrap().id;
                        union.open(id, flags)
                    });
                    match opened.unwrap() {
                        opened if opened.lent => lent.lock().unwrap().insert(id),
                        _ if flags.write => written.lock().unwrap().insert(id),
                        _ => true,
                    };
                }
            });
        }
    });
    let (lent, written) = (lent.into_inner().unwrap(), written.into_inner().unwrap());
    assert_eq!(written.len(), FILES);
    assert!(lent.is_disjoint(&written));
}

#[test]
fn what_is_written_stays_when_another_name_of_the_file_goes_while_it_is_copied_up() {
    let lower = |n: usize| format!("a/{n} \".\"\nb/{n} = a/{n}\n");
    let lower: String = (0..FILES).map(lower).collect();
    let copies = |powers| rules::Powers {
        copy_up_on_open: rules::CopyUpOnOpen::Regular,
        ..powers
    };
    let plan = Plan::aufs(&[(Mode::Rw, ""), (Mode::Rw, &lower)]).branch(1, copies);
    for plan in [plan.clone(), plan.noticed()] {
        let stack = plan.build();
        let union = stack.mount();
        let together = Barrier::new(2);
        let mut refused = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..FILES {
                    let name = n.to_string();
                    let dir = union.lookup(InodeId::ROOT, b"a").ok().flatten();
                    let dir = dir.map_or(InodeId::ROOT, |dir| dir.id);
                    let file = union.lookup(dir, name.as_bytes()).ok().flatten();
                    together.wait();
                    // It may lose the race against the writer, who loses nothing by that.
                    let _ = union.unlink(dir, name.as_bytes());
                    if let Some(file) = file {
                        union.forget(file.id, 1);
                    }
                    union.forget(dir, 1);
                }
            });
            for n in 0..FILES {
                together.wait();
                if write_through(&union, 1, n).is_err() {
                    refused.push(n);
                }
            }
        });
        for union in [union, stack.mount()] {
            let mut client = Client::new(union);
            for n in (0..FILES).filter(|n| !refused.contains(n)) {
                assert_eq!(client.read(&format!("b/{n}")).unwrap(), b".1", "b/{n}");
            }
        }
    }
}
