//! Opening copies up where a branch's attributes say so (`coo_reg`, `coo_all`, `moo`), and loses nothing.

use rules::{CopyUpOnOpen, Errno, Powers};
use testkit::{Faults, draw};
use union::{InodeId, OpenFlags};

use crate::client::{Client, WRITE};
use crate::faults::try_faults;
use crate::operation::Op;
use crate::outcomes::try_outcome;
use crate::stack::Mode::{Ro, Rw, Wh};
use crate::stack::{Empower, Mode, Plan, Stack};
use crate::view::view;

fn regular(powers: Powers) -> Powers {
    Powers {
        copy_up_on_open: CopyUpOnOpen::Regular,
        ..powers
    }
}

fn all(powers: Powers) -> Powers {
    Powers {
        copy_up_on_open: CopyUpOnOpen::All,
        ..powers
    }
}

fn moves(powers: Powers) -> Powers {
    Powers {
        copy_up_on_open: CopyUpOnOpen::Move,
        ..powers
    }
}

/// Returns whether a branch has a path that begins so.
fn has(stack: &Stack, branch: usize, path: &str) -> bool {
    let drawn = draw(&stack.trees[branch]);
    drawn.lines().any(|line| line.starts_with(path))
}

fn open_dir(client: &mut Client, path: &str) {
    let id = client.find(path).unwrap().id;
    client.union.open_dir(id).unwrap();
}

#[test]
fn a_regular_file_is_copied_up_by_being_opened_and_by_nothing_less() {
    for powers in [regular as Empower, all] {
        let lower = "d/f \"lower\" 0640 7:8 user.k=v\nl -> d/f\nother \"x\"";
        let plain = Plan::aufs(&[(Rw, ""), (Ro, lower)]);
        let before = view(&plain.build().mount()).unwrap();
        let stack = plain.branch(1, powers).build();
        let mut client = Client::new(stack.mount());
        let link = client.find("l").unwrap().id;
        client.union.read_link(link).unwrap();
        client.find("d/f").unwrap();
        assert!(!has(&stack, 0, "d") && !has(&stack, 0, "l"));
        let number = client.find("d/f").unwrap().attr.ino;
        assert_eq!(client.read("d/f").unwrap(), b"lower");
        assert!(has(&stack, 0, "d/f \"lower\" 0640 7:8 user.k=v"));
        assert!(!has(&stack, 0, "other"));
        assert!(has(&stack, 1, "d/f"));
        assert_eq!(client.find("d/f").unwrap().attr.ino, number);
        assert_eq!(view(&client.union).unwrap(), before);
        assert_eq!(stack.touched_read_only_branch(), None);
    }
}

#[test]
fn a_directory_is_copied_up_by_being_opened_only_where_all_things_are() {
    for (powers, copied) in [(regular as Empower, false), (all, true)] {
        let stack = Plan::aufs(&[(Rw, ""), (Wh, "d/e/f \"lower\" 0700")])
            .branch(1, powers)
            .build();
        let mut client = Client::new(stack.mount());
        client.union.open_dir(InodeId::ROOT).unwrap();
        client.find("d/e").unwrap();
        assert!(!has(&stack, 0, "d"));
        open_dir(&mut client, "d/e");
        assert_eq!(has(&stack, 0, "d/e/"), copied);
        assert!(!has(&stack, 0, "d/e/f"));
        assert!(client.find("d/e/f").is_ok());
    }
}

#[test]
fn a_file_goes_to_the_nearest_writable_branch_above_and_stays_where_there_is_none() {
    let branches = [(Rw, "d/"), (Rw, ""), (Ro, ""), (Ro, "d/f \"x\"")];
    let stack = Plan::aufs(&branches).branch(3, regular).build();
    let mut client = Client::new(stack.mount());
    client.read("d/f").unwrap();
    assert!(has(&stack, 1, "d/f") && !has(&stack, 0, "d/f"));

    for branches in [
        &[(Rw, "f \"x\"")][..],
        &[(Ro, "")],
        &[(Ro, ""), (Rw, "f \"x\"")],
    ] {
        let last = branches.len() - 1;
        let stack = Plan::aufs(branches).branch(last, moves).build();
        let mut client = Client::new(stack.mount());
        assert_eq!(client.read("f").is_ok(), has(&stack, last, "f"));
    }
}

#[test]
fn a_file_that_moves_up_is_one_file_all_the_time() {
    let branches = [
        (Rw, ""),
        (Rw, "d/f \"text\" 0600 user.k=v\nd/g \"stays\""),
        (Ro, "d/f \"low\""),
    ];
    for noticed in [false, true] {
        let plan = Plan::aufs(&branches).branch(1, moves);
        let stack = if noticed { plan.noticed() } else { plan }.build();
        let mut client = Client::new(stack.mount());
        let before = view(&Plan::aufs(&branches).build().mount()).unwrap();
        let number = client.find("d/f").unwrap().attr.ino;
        open_dir(&mut client, "d");
        assert!(has(&stack, 1, "d/f") && has(&stack, 1, "d/g"));
        assert_eq!(client.read("d/f").unwrap(), b"text");
        assert!(has(&stack, 0, "d/f \"text\" 0600 user.k=v"));
        assert!(!has(&stack, 1, "d/f") && !has(&stack, 0, "d/g"));
        assert_eq!(client.find("d/f").unwrap().attr.ino, number);
        assert_eq!(view(&client.union).unwrap(), before);
        client.apply(&Op::Unlink("d/f".into())).unwrap();
        assert!(client.find("d/f").is_err(), "the lowest one stays hidden");
        assert!(stack.mount().lookup(InodeId::ROOT, b"d").unwrap().is_some());
    }
}

#[test]
fn a_file_with_several_names_or_with_readers_does_not_move() {
    let stack = Plan::aufs(&[(Rw, ""), (Rw, "f \"x\"\ng = f\nh \"y\"")])
        .branch(1, moves)
        .build();
    let mut client = Client::new(stack.mount());
    client.read("f").unwrap();
    assert!(has(&stack, 0, "f") && has(&stack, 1, "f") && has(&stack, 1, "g"));
    client.apply(&Op::Write("g".into(), 0, "z".into())).unwrap();
    assert_eq!(client.read("f").unwrap(), b"z");

    client.apply(&Op::Create("new".into())).unwrap();
    let stack = Plan::aufs(&[(Ro, ""), (Rw, "h \"y\"")])
        .branch(1, moves)
        .build();
    let mut client = Client::new(stack.mount());
    let id = client.find("h").unwrap().id;
    client.union.open(id, WRITE).unwrap();
    client.union.open(id, OpenFlags::default()).unwrap();
    client.union.write(id, b"Y", 0, false).unwrap();
    assert_eq!(client.read("h").unwrap(), b"Y");
    client.union.release(id);
    client.union.release(id);
}

#[test]
fn the_name_that_a_moved_file_leaves_gives_its_number_to_nobody() {
    let branches = [(Rw, ""), (Rw, "d/f \"x\"")];
    let stack = Plan::aufs(&branches).branch(1, moves).build();
    let mut client = Client::new(stack.mount());
    client.read("d/f").unwrap();
    let number = client.find("d/f").unwrap().attr.ino;
    for name in ["a", "b", "d/c"] {
        client.apply(&Op::Create(name.into())).unwrap();
        assert_ne!(client.find(name).unwrap().attr.ino, number);
    }
}

fn everywhere(branches: &[(Mode, &str)], powers: Empower, op: &Op) {
    let last = branches.len() - 1;
    let plan = Plan::aufs(branches).branch(last, powers);
    for plan in [plan.clone(), plan.clone().noticed(), plan.on_one_disk()] {
        for walked in [false, true] {
            try_outcome(&plan, op, walked).unwrap();
            try_faults(&plan, op, walked).unwrap();
        }
    }
}

#[test]
fn changing_what_opening_copies_or_moves_shows_the_state_before_or_after_a_failure() {
    let write = Op::Write("d/f".into(), 1, "new".into());
    let truncate = Op::OpenTruncate("d/f".into());
    for op in [write, truncate] {
        for powers in [regular as Empower, all] {
            let lower = "d/f \"lower\" 0640 user.k=v\nd/g \"other\"";
            everywhere(&[(Rw, ""), (Wh, lower)], powers, &op);
            everywhere(&[(Rw, "d/"), (Rw, lower)], powers, &op);
        }
        everywhere(&[(Rw, ""), (Rw, "d/f \"lower\" 0640 user.k=v")], moves, &op);
        everywhere(&[(Rw, ""), (Rw, "d/f \"lower\"\ng = d/f")], moves, &op);
    }
}

#[test]
fn a_crash_at_any_write_of_a_move_loses_nothing() {
    let branches = [
        (Rw, ""),
        (Rw, "d/e/f \"text\" 0600 7:8 user.k=v"),
        (Ro, "d/e/f \"low\""),
    ];
    let plan = Plan::aufs(&branches).branch(1, moves);
    let before = view(&Plan::aufs(&branches).build().mount()).unwrap();
    let stack_of = |n: Option<Faults>| {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        stack.faults.reset();
        if let Some(faults) = &n {
            stack.faults.replan(faults);
        }
        let read = client.read("d/e/f");
        let writes = stack.faults.count();
        stack.faults.reset();
        (stack, read, writes, client)
    };
    let (moved, read, writes, _) = stack_of(None);
    assert_eq!(read.unwrap(), b"text");
    assert!(has(&moved, 0, "d/e/f") && !has(&moved, 1, "d/e/f"));
    assert!(writes > 8, "{writes}");
    for n in 1..=writes {
        for faults in [Faults::stop_at(n), Faults::fail_once_at(n, Errno::NOSPC)] {
            let (stack, read, _, client) = stack_of(Some(faults));
            if let Ok(bytes) = read {
                assert_eq!(bytes, b"text", "write {n} of {writes}");
            }
            let whole = [0, 1]
                .into_iter()
                .any(|at| has(&stack, at, "d/e/f \"text\" 0600 7:8 user.k=v"));
            assert!(whole, "write {n} of {writes}:\n{}", stack.draw());
            drop(client);
            let mut client = Client::new(stack.mount());
            assert_eq!(
                client.read("d/e/f").unwrap(),
                b"text",
                "write {n} of {writes}"
            );
            assert_eq!(
                view(&client.union).unwrap(),
                before,
                "write {n} of {writes}"
            );
        }
    }
}

#[test]
fn the_original_goes_after_its_copy_and_all_directories_above_it_are_synced() {
    // Each sync that fails leaves the original where it was: there is none after its removal.
    let branches = [(Rw, ""), (Rw, "d/e/f \"text\"")];
    let plan = Plan::aufs(&branches).branch(1, moves);
    let mut kept = 0;
    for n in 1..40 {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        stack.faults.replan(&Faults::fail_once_at(n, Errno::IO));
        let read = client.read("d/e/f");
        let struck = stack.faults.struck();
        stack.faults.reset();
        match struck {
            Some("sync_file") => assert!(read.is_err() && has(&stack, 1, "d/e/f")),
            Some("sync_dir") => {
                kept += 1;
                assert!(read.is_ok() && has(&stack, 1, "d/e/f") && has(&stack, 0, "d/e/f"));
            }
            _ => {}
        }
    }
    assert_eq!(kept, 3, "d/e, d and the root");
}
