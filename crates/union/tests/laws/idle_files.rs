//! Files of lower branches that stay open although nobody uses them: nobody can tell, except by the time it takes.

use std::sync::{Arc, Weak};

use rules::{Errno, Powers};
use testkit::{Faulty, MemoryTree};
use tree::{RenameHow, Tree};
use union::{BranchId, OpenFile, OpenFlags};

use crate::client::{Client, WRITE, read_all};
use crate::operation::Op;
use crate::stack::{Mode, Plan, Stack};

type File = Arc<OpenFile<<Faulty<MemoryTree> as Tree>::File>>;

const BRANCHES: [(Mode, &str); 2] = [
    (Mode::Rw, "u \"upper\""),
    (Mode::Wh, "a \"a\"\nb \"b\"\nc \"c\"\nd/f \"f\""),
];

fn stack(plan: fn(Plan) -> Plan) -> Stack {
    plan(Plan::aufs(&BRANCHES).overlay()).build()
}

/// Opens and closes a file for reading; returns what its data may bypass the union through.
fn used(client: &mut Client, path: &str) -> File {
    let id = client.find(path).unwrap().id;
    let opened = client.union.open(id, OpenFlags::default()).unwrap();
    client.union.release(id);
    opened.settled.expect("a lower file is lent")
}

fn idle(client: &mut Client, path: &str) -> Weak<OpenFile<<Faulty<MemoryTree> as Tree>::File>> {
    Arc::downgrade(&used(client, path))
}

#[test]
fn a_lower_file_stays_open_for_whoever_opens_it_next() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let first = used(&mut client, "a");
    assert!(Arc::ptr_eq(&first, &used(&mut client, "a")));
    let upper = idle(&mut client, "u");
    assert!(upper.upgrade().is_none(), "what can change is closed");
    assert_eq!(client.union.idle_files(), 1);
}

#[test]
fn what_is_forgotten_is_closed() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let kept = idle(&mut client, "a");
    assert!(kept.upgrade().is_some());
    client.forget_all();
    assert!(kept.upgrade().is_none());
}

#[test]
fn no_more_stay_open_than_the_settings_say() {
    let stack = stack(|plan| plan.with(|settings| settings.idle_files = 2));
    let mut client = Client::new(stack.mount());
    let kept: Vec<_> = ["a", "b", "c", "d/f"]
        .map(|path| idle(&mut client, path))
        .into();
    let open: Vec<_> = kept.iter().map(|file| file.upgrade().is_some()).collect();
    assert_eq!(open, [false, false, true, true]);
    let in_use = client.find("c").unwrap().id;
    client.union.open(in_use, OpenFlags::default()).unwrap();
    used(&mut client, "a");
    used(&mut client, "b");
    assert!(kept[2].upgrade().is_some(), "somebody has it open");
    client.union.release(in_use);
    assert_eq!(client.union.idle_files(), 2);
}

#[test]
fn where_others_change_branches_nothing_stays_open() {
    let stack = stack(Plan::noticed);
    let mut client = Client::new(stack.mount());
    assert!(idle(&mut client, "a").upgrade().is_none());
}

#[test]
fn whoever_opens_a_file_after_a_change_has_what_was_changed() {
    let changes = [
        Op::Write("a".into(), 0, "new".into()),
        Op::OpenTruncate("a".into()),
        Op::Truncate("a".into(), 0),
        Op::Chmod("a".into(), 0o600),
        Op::Rename("b".into(), "a".into(), RenameHow::Replace),
        Op::Rename("a".into(), "b".into(), RenameHow::Exchange),
        Op::Unlink("a".into()),
    ];
    for plan in [Plan::aufs(&BRANCHES), Plan::aufs(&BRANCHES).overlay()] {
        for change in &changes {
            let stack = plan.build();
            let mut client = Client::new(stack.mount());
            for path in ["a", "b"] {
                let id = client.find(path).unwrap().id;
                client.union.open(id, OpenFlags::default()).unwrap();
                client.union.release(id);
            }
            client.apply(change).unwrap();
            if *change == Op::Unlink("a".into()) {
                assert!(client.find("a").is_err());
                client.apply(&Op::Create("a".into())).unwrap();
            }
            let expected: &[u8] = match change {
                Op::Write(..) => b"new",
                Op::Chmod(..) => b"a",
                Op::Rename(..) => b"b",
                _ => b"",
            };
            assert_eq!(client.read("a").unwrap(), expected, "{change:?}");
            assert_eq!(stack.touched_read_only_branch(), None);
        }
    }
}

#[test]
fn a_reader_of_a_file_that_stayed_open_sees_what_is_written_later() {
    let stack = Plan::aufs(&[(Mode::Rw, ""), (Mode::Ro, "a \"old\"")]).build();
    let mut client = Client::new(stack.mount());
    let id = client.find("a").unwrap().id;
    client.union.open(id, OpenFlags::default()).unwrap();
    client.union.release(id);
    assert_eq!(client.union.idle_files(), 1);
    client.union.open(id, OpenFlags::default()).unwrap();
    client.union.open(id, WRITE).unwrap();
    client.union.write(id, b"new", 0, false).unwrap();
    assert_eq!(read_all(&client.union, id).unwrap(), b"new");
}

#[test]
fn a_branch_can_go_although_its_files_stayed_open() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let kept = idle(&mut client, "a");
    assert_eq!(client.union.users_of_branch(BranchId(1), &[]), []);
    client.union.remove_branch(BranchId(1), &[]).unwrap();
    assert!(kept.upgrade().is_none());
    assert!(client.find("a").is_err());
}

#[test]
fn a_branch_that_becomes_writable_has_its_files_opened_anew() {
    let mut stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let kept = idle(&mut client, "a");
    client
        .union
        .set_powers(BranchId(1), Powers::WRITABLE)
        .unwrap();
    stack.make_writable(1);
    assert!(kept.upgrade().is_none());
    client
        .apply(&Op::Write("a".into(), 0, "new".into()))
        .unwrap();
    assert_eq!(client.read("a").unwrap(), b"new");
}

#[test]
fn settings_under_which_nothing_stays_open_close_what_did() {
    let stack = stack(|plan| plan);
    let mut client = Client::new(stack.mount());
    let kept = idle(&mut client, "a");
    let others_change = |settings: &mut union::Settings| {
        settings.direct_changes = union::DirectChanges::Noticed;
    };
    client.union.reconfigure(others_change, false).unwrap();
    assert!(kept.upgrade().is_none());
}

#[test]
fn too_many_open_files_are_fewer_without_the_idle_ones() {
    for errno in [Errno::MFILE, Errno::NFILE] {
        let stack = stack(|plan| plan);
        let mut client = Client::new(stack.mount());
        let kept = idle(&mut client, "a");
        stack.faults.refuse_one_open(errno);
        used(&mut client, "b");
        assert!(kept.upgrade().is_none());
        assert_eq!(client.union.close_idle_files(), 1);
        let id = client.find("c").unwrap().id;
        stack.faults.refuse_one_open(errno);
        let refused = client.union.open(id, OpenFlags::default());
        assert_eq!(refused.err().map(|error| error.errno()), Some(errno));
    }
}
