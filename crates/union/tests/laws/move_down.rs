//! Moving a file to a branch below changes nothing that shows, whatever fails and whenever.

use std::sync::Barrier;

use proptest::prelude::*;
use rules::move_down::{Refusal, Wish};
use rules::{BranchIndex, Changes, Errno};
use testkit::notation::What;
use testkit::{Faults, contents};
use tree::RenameHow::Replace;
use tree::XattrHow;
use union::{InodeId, OpenFlags, Stays};

use crate::client::{Client, WRITE};
use crate::operation::{Op, any_path};
use crate::outcomes::clean;
use crate::stack::{Mode, Plan, Stack, any_plan};
use crate::view::{numbered_view, view};

proptest! {
    #![proptest_config(crate::config(400))]

    #[test]
    fn moving_a_file_down_changes_nothing_that_shows(
        plan in any_plan(),
        path in any_path(),
        wish in any_wish(),
        walked_before in any::<bool>(),
    ) {
        if let Err(broken) = try_move(&plan, &path, &wish, walked_before) {
            return Err(TestCaseError::fail(format!("{path} {wish:?}: {broken}\non {plan:?}")));
        }
    }
}

fn any_wish() -> impl Strategy<Value = Wish> {
    (any::<bool>(), any::<bool>()).prop_map(|(keeps_upper, replaces_lower)| Wish {
        keeps_upper,
        replaces_lower,
        ..Wish::default()
    })
}

fn moved(client: &mut Client, path: &str, wish: &Wish) -> Result<(u16, u16), Stays> {
    let (dir, last) = client.parent_of(path)?;
    let done = client.union.move_down(dir, last.as_bytes(), wish)?;
    Ok((done.from.0, done.to.0))
}

fn prepared(plan: &Plan, walked_before: bool) -> Result<(Client, Stack), String> {
    let stack = plan.build();
    let client = Client::new(stack.mount());
    if walked_before {
        view(&client.union)?;
    }
    stack.faults.reset();
    Ok((client, stack))
}

fn try_move(plan: &Plan, path: &str, wish: &Wish, walked_before: bool) -> Result<(), String> {
    let (before, numbers) = numbered_view(&plan.build().mount())?;
    let (mut client, stack) = prepared(plan, walked_before)?;
    let done = moved(&mut client, path, wish);
    let writes = stack.faults.count();
    let (shown, numbered) = numbered_view(&client.union)?;
    let left = stack.draw();
    let failed = |what: &str| Err(format!("{done:?}: {what}, leaving {left}"));
    if shown != before {
        return failed(&format!("shows {shown:?}instead of {before:?}"));
    }
    if plan.one_disk && numbered.len() != numbers.len() {
        return failed("numbers come or go");
    }
    match done {
        Err(Stays::Failed(union::Error::Branch(_))) => return failed("a branch says no"),
        Err(Stays::Refused(_)) if writes > 0 && walked_before => return failed("a refusal writes"),
        _ => {}
    }
    remounted(&stack, &before)?;
    for n in 1..=writes {
        for faults in [
            Faults::stop_at(n),
            Faults::fail_once_at(n, Errno::NOSPC),
            Faults::fail_once_at(n, Errno::NOSPC).torn(),
        ] {
            let (mut client, stack) = prepared(plan, walked_before)?;
            stack.faults.replan(&faults);
            let done = moved(&mut client, path, wish);
            let struck = stack.faults.struck();
            stack.faults.reset();
            let at = |what: String| {
                format!(
                    "{faults:?} of {writes} ({struck:?}) {done:?}: {what}, leaving {}",
                    stack.draw()
                )
            };
            let shown = view(&client.union).map_err(at)?;
            if shown != before {
                return Err(at(format!("shows {shown:?}instead of {before:?}")));
            }
            remounted(&stack, &before).map_err(at)?;
        }
    }
    Ok(())
}

fn remounted(stack: &Stack, before: &crate::view::View) -> Result<(), String> {
    let fresh = view(&stack.mount())?;
    if fresh != *before {
        return Err(format!("a remount shows {fresh:?}instead of {before:?}"));
    }
    if let Some(branch) = stack.touched_read_only_branch() {
        return Err(format!("the read-only branch {branch} was written"));
    }
    clean(stack)
}

fn two() -> Plan {
    Plan::aufs(&[(Mode::Rw, "d/f \"x\" 0640 7:8 user.k=v"), (Mode::Rw, "")])
}

#[test]
fn a_moved_file_is_below_with_its_number_and_changes_there() {
    let stack = two().build();
    let mut client = Client::new(stack.mount());
    let number = client.find("d/f").unwrap().attr.ino;
    assert_eq!(moved(&mut client, "d/f", &Wish::default()), Ok((0, 1)));
    assert!(
        stack.draw().ends_with("d/f \"x\" 0640 7:8 user.k=v\n"),
        "{}",
        stack.draw()
    );
    let entry = client.find("d/f").unwrap();
    assert_eq!(entry.attr.ino, number);
    client.union.open(entry.id, WRITE).unwrap();
    assert_eq!(client.union.write(entry.id, b"yz", 0, false), Ok(2));
    client.union.release(entry.id);
    assert!(stack.draw().ends_with("d/f \"yz\" 0640 7:8 user.k=v\n"));
    let again = moved(&mut client, "d/f", &Wish::default());
    assert_eq!(again, Err(Refusal::Bottom.into()));
}

#[test]
fn that_the_original_is_gone_is_durable_before_the_copy_can_change() {
    let steps = |n| {
        let (mut client, stack) = prepared(&two(), true).unwrap();
        stack.faults.replan(&Faults::fail_once_at(n, Errno::PERM));
        moved(&mut client, "d/f", &Wish::default()).ok();
        stack.faults.struck()
    };
    let steps: Vec<_> = (1..).map_while(steps).collect();
    let last = |step| steps.iter().rposition(|done| *done == step);
    assert!(last("remove_file") < last("sync_dir"), "{steps:?}");
}

#[test]
fn an_original_that_cannot_be_removed_never_comes_back_over_what_is_written_below() {
    let (mut client, stack) = prepared(&two(), true).unwrap();
    let count = {
        let done = moved(&mut client, "d/f", &Wish::default());
        assert_eq!(done, Ok((0, 1)));
        stack.faults.count()
    };
    for n in 1..=count {
        let (mut client, stack) = prepared(&two(), true).unwrap();
        stack.faults.replan(&Faults::fail_once_at(n, Errno::IO));
        let done = moved(&mut client, "d/f", &Wish::default());
        let struck = stack.faults.struck();
        stack.faults.reset();
        let id = client.find("d/f").unwrap().id;
        client.union.open(id, WRITE).unwrap();
        client.union.write(id, b"new", 0, false).unwrap();
        client.union.release(id);
        let mut later = Client::new(stack.mount());
        assert_eq!(
            later.read("d/f").unwrap(),
            b"new",
            "{n} {struck:?} {done:?}"
        );
    }
}

#[test]
fn an_open_file_stays() {
    let stack = two().build();
    let mut client = Client::new(stack.mount());
    let id = client.find("d/f").unwrap().id;
    client.union.open(id, OpenFlags::default()).unwrap();
    let stays = moved(&mut client, "d/f", &Wish::default());
    assert_eq!(stays, Err(Refusal::InUse.into()));
    client.union.release(id);
    assert_eq!(moved(&mut client, "d/f", &Wish::default()), Ok((0, 1)));
}

#[test]
fn the_reasons_of_the_way_are_told_apart() {
    for (upper, middle, expected) in [
        ("d/f\nd/.wh..wh..opq 0444", "", Refusal::Opaque),
        ("d/f", ".wh.d 0444", Refusal::Whiteouted),
        ("d/f", "d/.wh.f 0444", Refusal::Whiteouted),
        ("d/f", "d/f", Refusal::Exists),
    ] {
        let plan = Plan::aufs(&[(Mode::Rw, upper), (Mode::Wh, middle), (Mode::Rw, "")]);
        let mut client = Client::new(plan.build().mount());
        let stays = moved(&mut client, "d/f", &Wish::default());
        assert_eq!(stays, Err(expected.into()), "{upper:?} {middle:?}");
    }
    let plan = Plan::aufs(&[(Mode::Rw, "d/f"), (Mode::Rw, "d \"taken\"")]);
    let mut client = Client::new(plan.build().mount());
    let stays = moved(&mut client, "d/f", &Wish::default());
    assert_eq!(stays, Err(Refusal::Exists.into()));
}

#[test]
fn a_named_branch_gets_the_file() {
    let plan = Plan::aufs(&[(Mode::Rw, "f \"x\""), (Mode::Rw, ""), (Mode::Rw, "")]);
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    let wish = Wish {
        to: Some(BranchIndex(2)),
        ..Wish::default()
    };
    assert_eq!(moved(&mut client, "f", &wish), Ok((0, 2)));
    assert!(testkit::draw(&stack.trees[2]).ends_with("f \"x\"\n"));
}

#[test]
fn who_writes_while_files_move_down_loses_nothing() {
    const FILES: usize = 300;
    let upper: String = (0..FILES).map(|n| format!("d/f{n} \"old\"\n")).collect();
    let plan = Plan::aufs(&[(Mode::Rw, &upper), (Mode::Rw, "")]);
    let stack = plan.build();
    let union = stack.mount();
    let dir = union.lookup(InodeId::ROOT, b"d").unwrap().unwrap().id;
    let mut moved = 0;
    std::thread::scope(|scope| {
        let writers = (0..2).map(|writer| {
            let union = &union;
            scope.spawn(move || {
                for n in (0..FILES).filter(|n| n % 2 == writer) {
                    let name = format!("f{n}");
                    let id = union.lookup(dir, name.as_bytes()).unwrap().unwrap().id;
                    union.open(id, WRITE).unwrap();
                    assert_eq!(union.write(id, b"new", 0, false), Ok(3));
                    union.release(id);
                    let perm = Changes {
                        perm: Some(0o600),
                        ..Changes::default()
                    };
                    assert_eq!(union.set_attr(id, &perm).unwrap().perm, 0o600);
                    union.set_xattr(id, b"user.k", b"v", XattrHow::Set).unwrap();
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        for n in 0..FILES {
            match union.move_down(dir, format!("f{n}").as_bytes(), &Wish::default()) {
                Ok(_) => moved += 1,
                Err(stays) => assert_eq!(stays, Refusal::InUse.into()),
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
    });
    assert!(moved > 0);
    let (upper, lower) = (contents(&stack.trees[0]), contents(&stack.trees[1]));
    for n in 0..FILES {
        let path = format!("d/f{n}").into_bytes();
        let found: Vec<_> = [&upper, &lower]
            .into_iter()
            .filter_map(|t| t.get(&path))
            .collect();
        assert_eq!(found.len(), 1, "f{n} is on one branch");
        assert_eq!(
            (&found[0].what, found[0].perm, found[0].xattrs.len()),
            (&What::File(b"new".to_vec()), 0o600, 1),
            "f{n}"
        );
    }
}

#[test]
fn who_changes_a_file_while_a_rename_brings_it_to_another_branch_loses_nothing() {
    const FILES: usize = 300;
    let files = |name| -> String {
        (0..FILES)
            .map(|n| format!("d/{name}{n} \"{name}\"\n"))
            .collect()
    };
    let plan = Plan::aufs(&[(Mode::Rw, &files("new")), (Mode::Rw, &files("old"))]);
    let stack = plan.build();
    let union = stack.mount();
    let dir = union.lookup(InodeId::ROOT, b"d").unwrap().unwrap().id;
    let find = |n| {
        union
            .lookup(dir, format!("old{n}").as_bytes())
            .unwrap()
            .unwrap()
            .id
    };
    let ids: Vec<_> = (0..FILES).map(find).collect();
    for (n, id) in ids.into_iter().enumerate() {
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let perm = Changes {
                    perm: Some(0o600),
                    ..Changes::default()
                };
                both.wait();
                assert_eq!(union.set_attr(id, &perm).unwrap().perm, 0o600);
                union.set_xattr(id, b"user.k", b"v", XattrHow::Set).unwrap();
            });
            let (old, new) = (format!("old{n}"), format!("new{n}"));
            both.wait();
            union
                .rename(dir, old.as_bytes(), dir, new.as_bytes(), Replace)
                .unwrap();
        });
    }
    let shown = contents(&stack.trees[0]);
    for n in 0..FILES {
        let node = &shown[format!("d/new{n}").as_bytes()];
        assert_eq!(
            (&node.what, node.perm, node.xattrs.len()),
            (&What::File(b"old".to_vec()), 0o600, 1),
            "new{n}"
        );
    }
}

#[test]
fn a_file_below_a_renamed_directory_on_top_stays_on_top() {
    let branches = [(Mode::Rw, "b/"), (Mode::Rw, ""), (Mode::Wh, "b/one \"1\"")];
    let stack = Plan::aufs(&branches).build();
    let mut client = Client::new(stack.mount());
    client
        .apply(&Op::Rename("b".to_owned(), "c".to_owned(), Replace))
        .unwrap();
    client.apply(&Op::Create("c/new".to_owned())).unwrap();
    let before = view(&client.union).unwrap();
    let Err(Stays::Refused(refusal)) = moved(&mut client, "c/new", &Wish::default()) else {
        panic!("it moved to where nothing of the directory is looked for");
    };
    assert_eq!(refusal, Refusal::Opaque);
    assert_eq!(view(&client.union).unwrap(), before);
    assert_eq!(view(&stack.mount()).unwrap(), before);
}
