//! A branch that stops answering: what a pool goes on with, and that nothing of the branch is destroyed meanwhile.

use rules::Errno;
use rules::options::CreatePolicy;
use testkit::draw;
use tree::RenameHow::Replace;
use union::InodeId;

use crate::client::{Client, errno};
use crate::listed;
use crate::operation::Op;
use crate::stack::Mode::Rw;
use crate::stack::{Plan, Stack};

fn path(text: &str) -> String {
    text.to_owned()
}

/// Three disks; the directories `d` and `both` are on several of them.
fn pool(create: CreatePolicy) -> Plan {
    let plan = Plan::aufs(&[
        (Rw, "a \"on 0\"\nd/a \"on 0\"\nboth/0"),
        (Rw, "b \"on 1\"\nd/b \"on 1\"\nboth/1\nboth/same \"on 1\""),
        (
            Rw,
            "c \"on 2\"\nd/c \"on 2\"\nboth/2\nboth/same \"on 2\"\nonly/2",
        ),
    ]);
    plan.with(|settings| settings.create = create)
}

const POOLED: CreatePolicy = CreatePolicy::MostFreeSpace { seconds: Some(0) };

fn without(gone: usize, plan: &Plan, noticed: bool) -> (Stack, Client) {
    let plan = if noticed {
        plan.clone().noticed()
    } else {
        plan.clone()
    };
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    if noticed {
        // It is known what the disk had.
        for name in ["a", "b", "c", "d/a", "d/b", "d/c", "both/same", "only/2"] {
            client.find(name).unwrap();
        }
    }
    stack.gone[gone].set(true);
    (stack, client)
}

#[test]
fn a_pool_shows_what_the_other_branches_have() {
    for noticed in [false, true] {
        for gone in 0..3 {
            let (_, mut client) = without(gone, &pool(POOLED), noticed);
            for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
                for name in [path(name), format!("d/{name}")] {
                    let read = client.read(&name).map_err(|error| error.errno());
                    if at == gone {
                        assert!(read.is_err(), "{name} without {gone}");
                    } else {
                        let text = format!("on {at}").into_bytes();
                        assert_eq!(read, Ok(text), "{name} without {gone}");
                    }
                }
            }
            let mut names = listed(&client.union);
            names.sort();
            let there = ["a", "b", "both", "c", "d", "only"];
            let there: Vec<_> = there
                .into_iter()
                .filter(|name| *name != ["a", "b", "c"][gone] && !(gone == 2 && *name == "only"))
                .collect();
            assert_eq!(names, there, "without {gone}, noticed {noticed}");
            client.union.stat_fs().unwrap();
        }
    }
}

#[test]
fn new_entries_go_to_the_branches_that_answer() {
    let pmfs = CreatePolicy::ParentMostFreeSpace { seconds: None };
    for create in [POOLED, CreatePolicy::RoundRobin, pmfs] {
        for gone in 0..3 {
            let (stack, mut client) = without(gone, &pool(create), false);
            for name in ["n1", "n2", "n3", "d/n1", "d/n2", "both/n"] {
                let done = client.apply(&Op::Create(path(name)));
                assert_eq!(errno(&done), Ok(()), "{create} {name} without {gone}");
                client
                    .apply(&Op::Write(path(name), 0, path("new")))
                    .unwrap();
                assert_eq!(client.read(name).unwrap(), b"new");
            }
            client.apply(&Op::Mkdir(path("d/dir"))).unwrap();
            let drawn = draw(&stack.trees[gone]);
            assert!(!drawn.contains("/n") && !drawn.contains("dir"), "{drawn}");
        }
    }
}

#[test]
fn nothing_of_the_missing_branch_is_lost_or_comes_back_to_life() {
    let (stack, mut client) = without(2, &pool(POOLED), false);
    let before = draw(&stack.trees[2]);
    let refused = |client: &mut Client, op: &Op| {
        assert_eq!(errno(&client.apply(op)), Err(Errno::IO), "{op:?}");
    };
    // The rest of a directory may be on the missing branch.
    for name in ["both/0", "both/1", "both/same"] {
        client.apply(&Op::Unlink(path(name))).unwrap();
    }
    refused(&mut client, &Op::Rmdir(path("both")));
    refused(
        &mut client,
        &Op::Rename(path("both"), path("moved"), Replace),
    );
    client.apply(&Op::Mkdir(path("mine"))).unwrap();
    refused(
        &mut client,
        &Op::Rename(path("mine"), path("only"), Replace),
    );
    client.apply(&Op::Rmdir(path("mine"))).unwrap();
    client.apply(&Op::Mkdir(path("only"))).unwrap();
    client.apply(&Op::Rmdir(path("only"))).unwrap();
    client
        .apply(&Op::Rename(path("a"), path("c"), Replace))
        .unwrap();
    assert_eq!(draw(&stack.trees[2]), before);

    stack.gone[2].set(false);
    let mut client = Client::new(stack.mount());
    assert_eq!(
        client.read("both/2").unwrap(),
        b"",
        "what was not removed is there again"
    );
    assert_eq!(client.read("only/2").unwrap(), b"");
    assert!(
        client.find("both/same").is_err(),
        "what was removed stays so"
    );
    assert_eq!(client.read("c").unwrap(), b"on 0");
    assert!(client.find("a").is_err());
}

#[test]
fn a_union_that_is_no_pool_says_the_error() {
    for gone in 0..3 {
        let plan = pool(CreatePolicy::TopDownParent);
        let (_, mut client) = without(gone, &plan, false);
        let done = client.find("b").map(drop);
        assert_eq!(errno(&done), Err(Errno::IO));
    }
}

#[test]
fn a_union_of_which_no_branch_answers_says_the_error() {
    let (stack, mut client) = without(0, &pool(POOLED), false);
    stack.gone.iter().for_each(|gone| gone.set(true));
    assert_eq!(errno(&client.find("b").map(drop)), Err(Errno::IO));
    assert_eq!(errno(&client.apply(&Op::Create(path("n")))), Err(Errno::IO));
}

#[test]
fn the_others_are_synced_when_one_branch_fails() {
    let (stack, client) = without(0, &pool(POOLED), false);
    stack.faults.reset();
    assert_eq!(client.union.sync_dir(InodeId::ROOT), Err(Errno::IO.into()));
    assert_eq!(stack.faults.count(), 2);
    assert_eq!(client.union.sync_all(), Err(Errno::IO.into()));
    assert_eq!(stack.faults.count(), 4);
}
