//! Full branches: what `moveonenospc` does, and that nothing is lost without it.

use proptest::collection::vec;
use proptest::prelude::*;
use rules::options::CreatePolicy;
use rules::{Changes, Errno};
use testkit::{Faults, draw};
use tree::{Object, Tree};
use union::{InodeId, Settings};

use crate::client::{Client, WRITE};
use crate::faults::try_faults;
use crate::operation::{Op, any_op, any_path};
use crate::outcomes::try_outcome;
use crate::stack::Mode::{Ro, Rw, Wh};
use crate::stack::{Mode, Plan, any_plan};

/// What fits no branch that is full, and any other.
fn large() -> String {
    "large ".repeat(2000)
}

fn moving(branches: &[(Mode, &str)], free: &[u64]) -> Plan {
    let plan = Plan::aufs(branches).with_free(free);
    plan.with(|settings| settings.move_when_full = true)
}

proptest! {
    #![proptest_config(crate::config(250))]

    #[test]
    fn on_full_branches_an_operation_happens_as_a_whole_or_not_at_all(
        plan in any_plan(),
        path in any_path(),
        other in any_op(),
        writes in any::<bool>(),
        full in vec(any::<bool>(), 4),
    ) {
        let free = full.iter().map(|full| if *full { 0 } else { 400 });
        let plan = Plan { one_disk: false,
            // Where opening copies, looking needs space, too.
            powers: Vec::new(), ..plan }.with_free(&free.collect::<Vec<_>>());
        let op = if writes { Op::Write(path, 1, large()) } else { other };
        let tried = try_outcome(&plan, &op, true).and_then(|()| try_faults(&plan, &op, true));
        if let Err(broken) = tried {
            return Err(TestCaseError::fail(format!("{op:?}: {broken}\non {plan:?}")));
        }
    }
}

/// Writes to `f` what does not fit its branch, and returns the branches.
fn written(plan: &Plan) -> (Result<(), Errno>, String) {
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    let done = client.apply(&Op::Write("f".to_owned(), 1, large()));
    let drawn = stack.draw();
    let told = drawn
        .lines()
        .filter(|line| line.starts_with("f ") || line.starts_with("---"));
    let shown = told.map(|line| line.split(' ').next().unwrap_or(""));
    (
        done.map_err(|error| error.errno()),
        shown.collect::<Vec<_>>().join(" "),
    )
}

#[test]
fn a_file_moves_to_the_branch_with_the_most_space_that_shows_it() {
    let (stays, moves) = (Err(Errno::NOSPC), Ok(()));
    for (branches, free, expected) in [
        (
            &[(Rw, "f \"x\""), (Rw, "")][..],
            &[0, 100][..],
            (moves, "--- --- f"),
        ),
        (
            &[(Rw, ""), (Rw, "f \"x\"")],
            &[100, 0],
            (moves, "--- f ---"),
        ),
        (
            &[(Rw, "f \"x\""), (Rw, ""), (Rw, "")],
            &[0, 100, 200],
            (moves, "--- --- --- f"),
        ),
        // Something of the name is below, or in between.
        (
            &[(Rw, "f \"x\""), (Rw, "f \"y\"")],
            &[0, 100],
            (stays, "--- f --- f"),
        ),
        (
            &[(Rw, "f \"x\""), (Wh, ".wh.f 0444"), (Rw, "")],
            &[0, 0, 100],
            (stays, "--- f --- ---"),
        ),
        (
            &[(Rw, "f \"x\""), (Ro, "f \"y\""), (Rw, "")],
            &[0, 0, 100],
            (stays, "--- f --- f ---"),
        ),
        (
            &[(Rw, "f \"x\""), (Rw, ""), (Ro, "f \"y\"")],
            &[0, 100, 0],
            (moves, "--- --- f --- f"),
        ),
        // No other has the space, or takes changes.
        (&[(Rw, "f \"x\""), (Rw, "")], &[0, 2], (stays, "--- f ---")),
        (
            &[(Rw, "f \"x\""), (Ro, "")],
            &[0, 100],
            (stays, "--- f ---"),
        ),
        // A file with two names stays.
        (
            &[(Rw, "f \"x\"\ng = f"), (Rw, "")],
            &[0, 100],
            (stays, "--- f ---"),
        ),
    ] {
        let plan = moving(branches, free);
        let (done, shown) = written(&plan);
        assert_eq!((done, shown.as_str()), expected, "{plan:?}");
        if done.is_ok() {
            let op = Op::Write("f".to_owned(), 1, large());
            try_faults(&plan, &op, false).unwrap();
            let without = plan.with(|settings| settings.move_when_full = false);
            assert_eq!(written(&without).0, stays, "{without:?}");
        }
    }
}

#[test]
fn that_a_file_left_the_branch_above_is_durable_before_the_copy_can_change() {
    let steps = |n| {
        let stack = moving(&[(Rw, "f \"x\""), (Rw, "")], &[0, 100]).build();
        let mut client = Client::new(stack.mount());
        client.find("f").unwrap();
        stack.faults.replan(&Faults::fail_once_at(n, Errno::PERM));
        client.apply(&Op::Write("f".to_owned(), 1, large())).ok();
        stack.faults.struck()
    };
    let steps: Vec<_> = (1..).map_while(steps).collect();
    let last = |step| steps.iter().rposition(|done| *done == step);
    assert!(last("remove_file") < last("sync_dir"), "{steps:?}");
}

#[test]
fn whoever_has_a_file_open_goes_on_with_it_on_its_new_branch() {
    let plan = moving(&[(Rw, ""), (Rw, "d/f \"text\" 0640 7:8")], &[100, 0]);
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    let found = client.find("d/f").unwrap();
    let opened = client.union.open(found.id, WRITE).unwrap();
    assert!(
        opened.settled.is_none(),
        "the union has to hear that the branch is full"
    );
    client
        .union
        .write(found.id, &[b'!'; 8192], 4, false)
        .unwrap();
    client.union.write(found.id, b"T", 0, false).unwrap();
    let attr = client.union.attr(found.id).unwrap();
    assert_eq!(
        (attr.ino, attr.size, attr.perm, attr.uid, attr.gid),
        (found.attr.ino, 8196, 0o640, 7, 8)
    );
    assert_eq!(client.find("d/f").unwrap().id, found.id);
    client.union.release(found.id);
    assert_eq!(&client.read("d/f").unwrap()[..6], b"Text!!");
    assert!(draw(&stack.trees[0]).contains("d/f "));
    assert!(!draw(&stack.trees[1]).contains("d/f"));
}

#[test]
fn a_reserved_range_that_no_branch_has_leaves_the_file_where_it_is() {
    let plan = moving(&[(Rw, "f \"x\""), (Rw, "")], &[3, 100]);
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    let id = client.find("f").unwrap().id;
    client.union.open(id, WRITE).unwrap();
    let much = vec![1; 200 << 12];
    assert_eq!(
        client.union.write(id, &much, 0, false),
        Err(Errno::NOSPC.into())
    );
    assert_eq!(
        draw(&stack.trees[0])
            .lines()
            .filter(|line| line.starts_with("f "))
            .count(),
        1
    );
}

#[test]
fn what_cannot_be_made_on_a_full_branch_is_made_on_another_one() {
    for create in [CreatePolicy::TopDownParent, CreatePolicy::RoundRobin] {
        let ops = [
            Op::Create("d/new".to_owned()),
            Op::Mkdir("d/new".to_owned()),
            Op::Symlink("d/new".to_owned()),
        ];
        for op in ops {
            let plan = moving(&[(Rw, "d/x"), (Rw, "")], &[0, 100]);
            let plan = plan.with(|settings| settings.create = create);
            let stack = plan.build();
            Client::new(stack.mount()).apply(&op).unwrap();
            assert!(draw(&stack.trees[1]).contains("d/new"), "{create} {op:?}");
            let without = plan.with(|settings| settings.move_when_full = false);
            if create == CreatePolicy::TopDownParent {
                let done = Client::new(without.build().mount()).apply(&op);
                assert_eq!(done, Err(Errno::NOSPC.into()), "{op:?}");
            }
        }
    }
}

#[test]
fn a_copy_up_goes_to_another_branch_when_the_first_is_full() {
    let plan = moving(&[(Rw, ""), (Rw, ""), (Wh, "f \"lower\"")], &[100, 0, 0]);
    let plan = plan.with(|settings| settings.copy_up = rules::placement::CopyUpPolicy::BottomUp);
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    client
        .apply(&Op::Write("f".to_owned(), 0, "L".to_owned()))
        .unwrap();
    assert!(draw(&stack.trees[0]).contains("f \"Lower\""));
}

#[test]
fn free_space_is_measured_again_when_a_measurement_is_too_old() {
    for (seconds, expected) in [(Some(0), [1, 0]), (None, [1, 1])] {
        let plan = Plan::aufs(&[(Rw, ""), (Rw, "")]).with_free(&[100, 200]);
        let policy = CreatePolicy::MostFreeSpace { seconds };
        let stack = plan
            .with(|settings: &mut Settings| settings.create = policy)
            .build();
        let mut client = Client::new(stack.mount());
        let mut made = |name: &str| {
            client.apply(&Op::Create(name.to_owned())).unwrap();
            stack
                .trees
                .iter()
                .position(|tree| draw(tree).contains(name))
                .unwrap()
        };
        let first = made("one");
        stack.trees[1].disk().resize(50);
        assert_eq!([first, made("two")], expected, "{seconds:?}");
        // A change of settings or branches makes the measurement worthless.
        client.union.reconfigure(|_| {}, false).unwrap();
        client.apply(&Op::Create("three".to_owned())).unwrap();
        assert!(draw(&stack.trees[0]).contains("three"));
    }
}

#[test]
fn a_directory_that_is_made_below_its_original_has_its_owner_and_no_attributes() {
    let upper = "p/ 0750 7:8 user.k=v\np/x";
    let plan = Plan::aufs(&[(Rw, upper), (Rw, "")]).with_free(&[100, 200]);
    let stack = plan.with(|settings| settings.create = MFS).build();
    Client::new(stack.mount())
        .apply(&Op::Create("p/f".to_owned()))
        .unwrap();
    let drawn = draw(&stack.trees[1]);
    let line = drawn.lines().find(|line| line.starts_with("p/ ")).unwrap();
    assert_eq!(line.trim(), "p/ 0750 7:8");
    assert!(drawn.contains("p/f"));
}

#[test]
fn whiteouts_and_opaque_directories_keep_new_entries_where_they_show() {
    for (branches, free, path) in [
        (
            &[(Rw, ".wh.f 0444"), (Rw, ""), (Wh, "f \"x\"")][..],
            &[1, 200, 1][..],
            "f",
        ),
        (
            &[(Rw, "a/.wh..wh..opq 0444\na/b/"), (Rw, ""), (Wh, "a/b/x")],
            &[1, 200, 1],
            "a/b/f",
        ),
        (
            &[(Rw, "a/.wh..wh..opq 0444"), (Rw, "a/x")],
            &[1, 200],
            "a/f",
        ),
    ] {
        let plan = Plan::aufs(branches).with_free(free);
        let stack = plan.with(|settings| settings.create = MFS).build();
        Client::new(stack.mount())
            .apply(&Op::Create(path.to_owned()))
            .unwrap();
        let drawn = draw(&stack.trees[0]);
        assert!(
            drawn
                .lines()
                .any(|line| line.split(' ').next() == Some(path)),
            "{drawn}"
        );
        assert!(!drawn.contains(".wh.f"), "{drawn}");
    }
    // The parent is whited out on the branch that receives it: it is opaque there, and the whiteout goes.
    let plan =
        Plan::aufs(&[(Rw, "p/x"), (Rw, ".wh.p 0444"), (Wh, "p/hidden")]).with_free(&[1, 200, 1]);
    let stack = plan.with(|settings| settings.create = MFS).build();
    let mut client = Client::new(stack.mount());
    client.apply(&Op::Create("p/f".to_owned())).unwrap();
    let drawn = draw(&stack.trees[1]);
    assert!(
        drawn.contains("p/.wh..wh..opq") && drawn.contains("p/f") && !drawn.contains(".wh.p "),
        "{drawn}"
    );
    assert_eq!(
        client
            .find("p/hidden")
            .map(drop)
            .map_err(|error| error.errno()),
        Err(Errno::NOENT)
    );
    assert_eq!(crate::listed(&client.union), ["p"]);
}

#[test]
fn attributes_that_change_while_a_file_moves_are_not_lost() {
    // The move takes what is there: a change before it is carried over, one after it reaches the copy.
    let plan = moving(&[(Rw, "f \"x\""), (Rw, "")], &[0, 100]);
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    let id = client.find("f").unwrap().id;
    client.union.open(id, WRITE).unwrap();
    let perm = |perm| Changes {
        perm: Some(perm),
        ..Changes::default()
    };
    client.union.set_attr(id, &perm(0o600)).unwrap();
    client.union.write(id, &[1; 9000], 0, false).unwrap();
    client.union.set_attr(id, &perm(0o640)).unwrap();
    let root = stack.trees[1].root().unwrap();
    let name = crate::plain::name("f");
    let attr = stack.trees[1].attr(Object::Entry(&root, &name)).unwrap();
    assert_eq!((attr.perm, attr.size), (0o640, 9000));
    client.union.release(id);
    assert_eq!(
        client
            .union
            .lookup(InodeId::ROOT, b"f")
            .unwrap()
            .unwrap()
            .id,
        id
    );
}

#[test]
fn a_new_entry_inherits_from_the_directory_on_its_branch() {
    let plan = Plan::aufs(&[(Rw, "d/ 2755 0:9"), (Rw, "d/ 0755 0:0")]).with_free(&[100, 200]);
    for (create, group) in [(CreatePolicy::TopDownParent, 9), (MFS, 1000)] {
        let stack = plan
            .clone()
            .with(|settings| settings.create = create)
            .build();
        let mut client = Client::new(stack.mount());
        client.apply(&Op::Create("d/new".to_owned())).unwrap();
        assert_eq!(client.find("d/new").unwrap().attr.gid, group);
    }
}

const MFS: CreatePolicy = CreatePolicy::MostFreeSpace { seconds: None };

#[test]
fn writers_and_readers_of_a_file_that_moves_lose_nothing() {
    const BLOCK: usize = 4096;
    for round in 0..20 {
        let plan = moving(&[(Rw, "f"), (Rw, ""), (Rw, "")], &[9 + round, 40, 400]);
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        let id = client.find("f").unwrap().id;
        client.union.open(id, WRITE).unwrap();
        let union = &client.union;
        std::thread::scope(|scope| {
            for writer in 0..4_usize {
                scope.spawn(move || {
                    for block in 0..25 {
                        let at = ((block * 4 + writer) * BLOCK) as u64;
                        let bytes = [b'a' + writer as u8; BLOCK];
                        assert_eq!(union.write(id, &bytes, at, false), Ok(BLOCK));
                        let mut back = [0; BLOCK];
                        assert_eq!(union.read(id, &mut back, at), Ok(BLOCK));
                        assert!(back == bytes, "block {block} of {writer}");
                        let perm = Changes {
                            perm: Some(0o600 + block as u32 % 8),
                            ..Changes::default()
                        };
                        union.set_attr(id, &perm).unwrap();
                    }
                });
            }
        });
        let mut all = vec![0; 100 * BLOCK];
        assert_eq!(union.read(id, &mut all, 0), Ok(all.len()));
        for (at, block) in all.chunks(BLOCK).enumerate() {
            assert!(
                block.iter().all(|byte| *byte == b'a' + (at % 4) as u8),
                "block {at}"
            );
        }
        assert_eq!(union.attr(id).unwrap().perm, 0o600);
        union.release(id);
        let homes = stack
            .trees
            .iter()
            .filter(|tree| draw(*tree).lines().any(|line| line.starts_with("f ")));
        assert_eq!(homes.count(), 1);
    }
}
