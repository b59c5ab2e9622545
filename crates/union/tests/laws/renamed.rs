//! Directories that merge others from below are renamed like any other (`dirren`).

use proptest::collection::vec;
use proptest::prelude::*;
use rules::renamed::{Form, Origin, Place, TreeId, parse_record_name};
use rules::{Errno, Name};
use testkit::{MemoryTree, draw};
use tree::RenameHow::{self, Exchange, Replace};
use tree::{Access, Object, Tree};

use crate::client::{Client, errno};
use crate::faults::try_faults;
use crate::operation::{Op, any_op, any_path};
use crate::outcomes::try_outcome;
use crate::plain;
use crate::sequences::{Step, try_sequence};
use crate::stack::Mode::{Ro, Rw, Wh};
use crate::stack::{Mode, Plan, Stack, any_plan};
use crate::view::view;

fn any_move() -> impl Strategy<Value = Step> {
    let how = prop_oneof![3 => Just(Replace), 1 => Just(Exchange)];
    prop_oneof![
        8 => (any_path(), any_path(), how).prop_map(|(old, new, how)| Step::Do(Op::Rename(old, new, how))),
        4 => any_op().prop_map(Step::Do),
        1 => Just(Step::Forget),
        1 => Just(Step::Remount),
        1 => Just(Step::Crash),
    ]
}

fn any_aufs_plan() -> impl Strategy<Value = Plan> {
    let aufs = |plan: &Plan| plan.settings.dialect == union::DialectKind::Aufs;
    any_plan()
        .prop_filter("overlay's format has no records", aufs)
        .prop_map(|plan| plan.with(|settings| settings.rename_merged = true))
}

proptest! {
    #![proptest_config(crate::config(300))]

    #[test]
    fn directories_that_move_about_stay_in_step_with_a_plain_directory(
        plan in any_aufs_plan(),
        steps in vec(any_move(), 1..30),
    ) {
        if let Err(broken) = try_sequence(&plan, &steps) {
            return Err(TestCaseError::fail(format!("{broken}\non {plan:?}after {steps:?}")));
        }
    }

    #[test]
    fn a_union_without_the_option_shows_nothing_of_a_renamed_directory_that_is_not_its_own(
        plan in any_aufs_plan(),
        steps in vec(any_op(), 1..12),
        closed in any::<bool>(),
    ) {
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        for op in &steps {
            let _: Result<(), Errno> = errno(&client.apply(op));
        }
        if closed {
            client.union.close();
        }
        let whole = view(&client.union).map_err(TestCaseError::fail)?;
        drop(client);
        prop_assume!(!stack.has_pseudo_links());
        let stack = without(stack);
        let shown = view(&stack.mount()).map_err(TestCaseError::fail)?;
        for (path, node) in shown.nodes() {
            let there = whole.nodes().find(|(other, _)| *other == path);
            let same = there.is_some_and(|(_, there)| there.what == node.what);
            prop_assert!(same, "{:?} after {:?} on {:?} leaving {}", path, steps, plan, stack.draw());
        }
    }
}

/// Returns the same branches, to be mounted without the option.
fn without(mut stack: Stack) -> Stack {
    stack.plan.settings.rename_merged = false;
    stack
}

fn rename(old: &str, new: &str) -> Op {
    moved(old, new, Replace)
}

fn moved(old: &str, new: &str, how: RenameHow) -> Op {
    Op::Rename(old.to_owned(), new.to_owned(), how)
}

/// Does operations one after the other as a plain directory does them, on each kind of stack, with remounts and
/// crashes in between; then each with a fault at every write.
#[track_caller]
fn in_step(branches: &[(Mode, &str)], ops: &[Op]) {
    let plan = Plan::aufs(branches);
    for plan in [plan.clone(), plan.clone().noticed(), plan.on_one_disk()] {
        for between in [Step::Forget, Step::Remount, Step::Crash] {
            let steps: Vec<_> = ops
                .iter()
                .flat_map(|op| [Step::Do(op.clone()), between.clone()])
                .collect();
            try_sequence(&plan, &steps).unwrap();
        }
    }
    let mut plan = Plan::aufs(branches);
    for op in ops {
        try_outcome(&plan, op, true).unwrap();
        try_faults(&plan, op, false).unwrap();
        try_faults(&plan, op, true).unwrap();
        let stack = plan.build();
        let mut client = Client::new(stack.mount());
        client.apply(op).unwrap();
        client.union.close();
        // Copies of the branches: their records are about other trees then.
        for ((_, text), tree) in plan.branches.iter_mut().zip(&stack.trees) {
            *text = draw(tree);
        }
    }
}

const LOWER: &str = "a/f \"f\"\na/s/g \"g\"\nb/h \"h\"\n";

#[test]
fn a_lower_directory_is_renamed_with_all_that_is_in_it() {
    in_step(&[(Rw, ""), (Ro, LOWER)], &[rename("a", "c")]);
    in_step(
        &[(Rw, "a/own"), (Wh, "a/f \"1\""), (Ro, LOWER)],
        &[rename("a", "c")],
    );
}

#[test]
fn a_directory_is_renamed_again_and_back() {
    let ops = [rename("a", "c"), rename("c", "d"), rename("d", "a")];
    in_step(&[(Rw, ""), (Ro, LOWER)], &ops);
    let stack = Plan::aufs(&[(Rw, ""), (Ro, LOWER)]).build();
    let mut client = Client::new(stack.mount());
    for op in &ops {
        client.apply(op).unwrap();
    }
    client.union.close();
    assert_eq!(marks(&stack.trees[0]), [""; 0], "nothing is left to say");
}

#[test]
fn a_directory_moves_into_another_lower_one_and_its_child_out_of_it() {
    let ops = [
        rename("a", "b/a2"),
        rename("b/a2/s", "s2"),
        rename("b", "b3"),
    ];
    in_step(&[(Rw, ""), (Ro, LOWER)], &ops);
    in_step(
        &[(Rw, ""), (Ro, LOWER)],
        &[rename("a/s", "s"), rename("s", "a/s")],
    );
}

#[test]
fn a_directory_above_a_renamed_one_is_renamed() {
    let ops = [
        rename("a/s", "a/t"),
        rename("a", "q"),
        rename("q/t", "b/t"),
        rename("b", "a"),
    ];
    in_step(&[(Rw, ""), (Ro, LOWER)], &ops);
}

#[test]
fn directories_change_places() {
    for (one, two) in [
        ("a", "b"),
        ("a/s", "b"),
        ("a", "u"),
        ("a", "b/h"),
        ("a/s", "u/f"),
    ] {
        let ops = [
            moved(one, two, Exchange),
            rename(two, "z"),
            rename("z", one),
        ];
        in_step(&[(Rw, "u/f \"u\""), (Ro, LOWER)], &ops[..1]);
        in_step(
            &[(Rw, "u/f \"u\""), (Wh, "b/x \"x\""), (Ro, LOWER)],
            &ops[..2],
        );
    }
}

#[test]
fn a_directory_takes_the_name_of_something_removed_or_empty() {
    let rmdir = |path: &str| Op::Rmdir(path.to_owned());
    let unlink = |path: &str| Op::Unlink(path.to_owned());
    let branches = [(Rw, ""), (Wh, LOWER), (Ro, "b/deep \"deep\"\ne/")];
    let ops = [
        unlink("b/h"),
        unlink("b/deep"),
        rename("a", "b"),
        rename("b", "a"),
    ];
    in_step(&branches, &ops);
    in_step(
        &branches,
        &[
            unlink("b/h"),
            unlink("b/deep"),
            rmdir("b"),
            rename("a", "b"),
        ],
    );
    in_step(
        &branches,
        &[rename("a", "e"), unlink("e/f"), rename("e", "n")],
    );
    in_step(
        &branches,
        &[
            rename("a", "n"),
            Op::Mkdir("a".to_owned()),
            rename("n", "a/n"),
        ],
    );
}

#[test]
fn a_removed_directory_takes_its_records_with_it() {
    let stack = Plan::aufs(&[(Rw, ""), (Ro, "a/one \"1\"")]).build();
    let mut client = Client::new(stack.mount());
    client.apply(&rename("a", "c")).unwrap();
    assert_eq!(marks(&stack.trees[0]).len(), 2, "a record and the list");
    client.apply(&Op::Unlink("c/one".to_owned())).unwrap();
    client.apply(&Op::Rmdir("c".to_owned())).unwrap();
    client.union.close();
    assert_eq!(marks(&stack.trees[0]), [""; 0]);
}

#[test]
fn a_directory_that_is_empty_below_moves_without_a_record() {
    let stack = Plan::aufs(&[(Rw, ""), (Ro, "a/")]).build();
    let mut client = Client::new(stack.mount());
    client.apply(&rename("a", "c")).unwrap();
    assert_eq!(marks(&stack.trees[0]), [""; 0]);
    assert_eq!(view(&client.union), view(&stack.mount()));
}

#[test]
fn a_directory_whose_lower_part_is_hidden_is_still_the_way_to_what_was_renamed_in_it() {
    let branches = [(Rw, "b/a/one \"1\""), (Rw, "b/a/two \"2\""), (Wh, "")];
    in_step(&branches, &[rename("b/a", "b/b"), rename("b", "c")]);
}

#[test]
fn a_directory_of_a_second_writable_branch_is_renamed_on_top() {
    let branches = [(Rw, "a/"), (Rw, "a/one \"1\"\na/s/x \"x\""), (Ro, LOWER)];
    in_step(
        &branches,
        &[rename("a", "c"), rename("c/s", "s"), rename("b", "c/b")],
    );
    let branches = [(Rw, ""), (Rw, "a/one \"1\"\na/s/x \"x\""), (Ro, LOWER)];
    in_step(
        &branches,
        &[rename("a/s", "a/t"), rename("a", "c"), rename("c", "b/c")],
    );
}

#[test]
fn a_directory_moves_with_its_open_files_and_later_changes() {
    let branches = [(Rw, ""), (Ro, LOWER)];
    let ops = [
        rename("a", "c"),
        Op::Create("c/s/new".to_owned()),
        Op::Write("c/f".to_owned(), 0, "F".to_owned()),
        Op::Unlink("c/s/g".to_owned()),
        rename("c/s", "c/t"),
        Op::Mkdir("a".to_owned()),
        rename("c", "a/c"),
    ];
    in_step(&branches, &ops);
    let plan = Plan::aufs(&branches);
    let steps = [
        Step::Open("a/f".to_owned(), true),
        Step::Do(ops[0].clone()),
        Step::With(0, crate::sequences::Deed::Write(0, "p".to_owned())),
        Step::Do(ops[6].clone()),
    ];
    try_sequence(&plan, &steps).unwrap();
}

/// Returns the paths of records and lists on a branch.
fn marks(tree: &MemoryTree) -> Vec<String> {
    let text = draw(tree);
    let paths = text.lines().filter_map(|line| line.split(' ').next());
    let marks = paths.filter(|path| path.contains(".wh..wh..dr.") || path.contains("hino"));
    marks.map(str::to_owned).collect()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

#[test]
fn a_plain_rename_writes_what_aufs_writes() {
    let stack = Plan::aufs(&[(Rw, ""), (Ro, "old/f")]).build();
    let mut client = Client::new(stack.mount());
    client.apply(&rename("old", "new")).unwrap();
    client.union.close();
    let (upper, lower) = (&stack.trees[0], &stack.trees[1]);
    let root = upper.root().unwrap();
    let dir = upper.open_dir(&root, &name("new")).unwrap();
    let part = lower
        .look(&lower.root().unwrap(), &name("old"))
        .unwrap()
        .unwrap();
    let names = upper.list(&dir).unwrap();
    let records: Vec<_> = names
        .iter()
        .filter_map(|entry| parse_record_name(entry.name.as_bytes()))
        .collect();
    let id = union::tree_id(lower, &lower.root().unwrap()).unwrap();
    assert_eq!(records, [(Form::Beside, id.clone())]);
    assert_eq!(names.len(), 1, "neither an opaque mark nor anything else");
    let origin = Origin {
        place: Place::Beside(name("old")),
        ino: part.ino,
    };
    assert_eq!(union::origins(upper, &dir).unwrap(), [(id, origin)]);
    let list = upper
        .open_file(&root, &name(".wh..wh.hino"), Access::Read)
        .unwrap();
    let mut bytes = [0; 16];
    let count = upper.read(&list, &mut bytes, 0).unwrap();
    let renamed = upper.attr(Object::Dir(&dir)).unwrap().ino;
    assert_eq!(bytes[..count], renamed.to_be_bytes());
    assert_eq!(upper.attr(Object::File(&list)).unwrap().perm, 0o600);
}

/// Makes a stack in which `a` was renamed to `c`, and mounted again over a copy of the lower branch.
fn over_a_copy(lower: &str, copies: &[&str]) -> Vec<String> {
    let mut stack = Plan::aufs(&[(Rw, ""), (Ro, lower)]).build();
    let mut client = Client::new(stack.mount());
    client.apply(&rename("a", "c")).unwrap();
    client.union.close();
    drop(client);
    let upper = stack.trees[0].clone();
    let mut branches = vec![(Rw, "")];
    branches.extend(copies.iter().map(|copy| (Ro, *copy)));
    stack = Plan::aufs(&branches).build();
    stack.trees[0] = upper;
    let shown = view(&stack.mount()).unwrap();
    shown
        .nodes()
        .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
        .filter(|path| path.starts_with("c/"))
        .collect()
}

#[test]
fn a_record_is_followed_on_a_lower_branch_whose_filesystem_has_another_number() {
    let lower = "a/f \"f\"\nb/";
    assert_eq!(over_a_copy(lower, &[lower]), ["c/f"]);
    // Copied with other inode numbers, too.
    assert_eq!(over_a_copy(lower, &["0/\n1/\nb/\na/f \"f\""]), ["c/f"]);
    // The same inode number tells which of two it is.
    assert_eq!(over_a_copy(lower, &["0/\n1/\n2/\na/x", lower]), ["c/f"]);
}

#[test]
fn a_record_is_not_followed_where_two_branches_can_be_meant() {
    let lower = "a/f \"f\"\nb/";
    assert_eq!(
        over_a_copy(lower, &["0/\n1/\n2/\na/x", "0/\n1/\n2/\na/y"]),
        [""; 0]
    );
    assert_eq!(over_a_copy(lower, &["b/"]), [""; 0]);
}

#[test]
fn records_of_aufs_and_damaged_ones_never_show_a_directory_twice() {
    // AUFS moves `a` to `b/a2` and notes only its name, which another directory has at the new place.
    let stack = Plan::aufs(&[(Rw, "b/a2/\n.wh.a"), (Ro, "a/f\nb/a/other")]).build();
    let (upper, lower) = (&stack.trees[0], &stack.trees[1]);
    let root = upper.root().unwrap();
    let b = upper.open_dir(&root, &name("b")).unwrap();
    let dir = upper.open_dir(&b, &name("a2")).unwrap();
    let origin = Origin {
        place: Place::Beside(name("a")),
        ino: lower
            .look(&lower.root().unwrap(), &name("a"))
            .unwrap()
            .unwrap()
            .ino,
    };
    let elsewhere = TreeId::new(77, 0, 2);
    for id in [
        union::tree_id(lower, &lower.root().unwrap()).unwrap(),
        elsewhere,
    ] {
        for bytes in [origin.encode().unwrap(), b"adr".to_vec()] {
            let record = rules::renamed::record_name(Form::Beside, &id);
            let how = rules::Creation::exact(0o600);
            let file = upper.create_file(&dir, &record, &how).unwrap();
            upper.write(&file, &bytes, 0).unwrap();
            let mut client = Client::new(stack.mount());
            assert!(client.find("b/a2").is_ok());
            assert!(client.find("b/a2/other").is_err());
            assert!(client.find("b/a/other").is_ok());
            upper.remove_file(&dir, &record).unwrap();
        }
    }
}

#[test]
fn without_the_option_a_renamed_directory_shows_its_own_part_and_is_not_renamed_across_branches() {
    for crash in [false, true] {
        let stack = Plan::aufs(&[(Rw, "a/own"), (Ro, LOWER), (Ro, "c/hidden")]).build();
        let mut client = Client::new(stack.mount());
        client.apply(&Op::Unlink("c/hidden".to_owned())).unwrap();
        client.apply(&Op::Rmdir("c".to_owned())).unwrap();
        client.apply(&rename("a", "c")).unwrap();
        assert!(client.find("c/f").is_ok());
        if !crash {
            client.union.close();
        }
        drop(client);
        let stack = without(stack);
        let mut client = Client::new(stack.mount());
        assert!(client.find("c/own").is_ok());
        assert!(client.find("c/f").is_err() && client.find("c/hidden").is_err());
        let refused = client.apply(&rename("b", "d"));
        assert_eq!(errno(&refused), Err(Errno::XDEV));
        client.apply(&rename("c", "d")).unwrap();
        client.union.close();
        drop(client);
        let mut stack = stack;
        stack.plan.settings.rename_merged = true;
        let mut client = Client::new(stack.mount());
        assert!(client.find("d/f").is_ok() && client.find("d/own").is_ok());
    }
}

#[test]
fn a_rename_that_failed_leaves_no_record() {
    let plan = Plan::aufs(&[(Rw, "u/"), (Ro, LOWER), (Ro, "e/x")]);
    for op in [
        rename("a", "c"),
        rename("a", "u/c"),
        rename("a", "e"),
        moved("a", "b", Exchange),
    ] {
        let mut failed = 0;
        for n in 1..40 {
            let stack = plan.build();
            let mut client = Client::new(stack.mount());
            client.apply(&Op::Unlink("e/x".to_owned())).unwrap();
            let faults = testkit::Faults::fail_once_at(n, Errno::NOSPC);
            stack.faults.replan(&faults);
            let done = client.apply(&op);
            stack.faults.reset();
            if done.is_err() {
                failed += 1;
                client.union.close();
                assert_eq!(marks(&stack.trees[0]), [""; 0], "{op:?}, write {n}");
                let opaque = draw(&stack.trees[0]).contains(".wh..wh..opq");
                assert!(!opaque, "{op:?}, write {n}");
            }
        }
        assert!(failed > 3, "{op:?} failed only {failed} times");
    }
}

#[test]
fn without_the_option_nothing_is_put_where_a_record_hides_it() {
    let stack = Plan::aufs(&[(Rw, ""), (Rw, "a/x\nf \"f\"")]).build();
    let mut client = Client::new(stack.mount());
    client.apply(&Op::Create("a/own".to_owned())).unwrap();
    client.apply(&rename("a", "c")).unwrap();
    client.union.close();
    drop(client);
    let stack = without(stack);
    let mut client = Client::new(stack.mount());
    client.apply(&rename("f", "c/f")).unwrap();
    assert_eq!(client.read("c/f").unwrap(), b"f");
    client.forget_all();
    assert_eq!(client.read("c/f").unwrap(), b"f");
}

#[test]
fn what_was_renamed_on_a_branch_stays_so_when_the_branch_is_a_layer_below_another() {
    for mode in [Wh, Rw] {
        let mut stack = Plan::aufs(&[(Rw, "a/s/own"), (Ro, LOWER)]).build();
        let mut client = Client::new(stack.mount());
        client.apply(&rename("a", "c")).unwrap();
        client.apply(&rename("c/s", "s")).unwrap();
        client.union.close();
        let old = view(&client.union).unwrap();
        drop(client);
        let layers = std::mem::take(&mut stack.trees);
        stack = Plan::aufs(&[(Rw, ""), (mode, ""), (Ro, "")]).build();
        stack.trees.splice(1.., layers);
        let mut client = Client::new(stack.mount());
        assert_eq!(view(&client.union).unwrap(), old);
        for op in [
            rename("c", "d"),
            rename("s", "d/s"),
            rename("d", "c"),
            moved("c/s", "b", Exchange),
        ] {
            let model = view(&client.union).unwrap().to_tree();
            plain::apply(&model, &op).unwrap();
            client.apply(&op).unwrap();
            let expected = crate::view::View::of_tree(&model);
            assert_eq!(view(&client.union).unwrap(), expected, "{op:?}");
            client.forget_all();
            client = Client::new(stack.mount());
            assert_eq!(view(&client.union).unwrap(), expected, "{op:?} and a crash");
        }
    }
}

#[test]
fn a_directory_with_more_records_than_anybody_writes_costs_neither_memory_nor_time() {
    let stack = Plan::aufs(&[(Rw, "d/"), (Ro, "e/")]).build();
    let (upper, lower) = (&stack.trees[0], &stack.trees[1]);
    let (root, below) = (upper.root().unwrap(), lower.root().unwrap());
    let dir = upper.open_dir(&root, &Name::new(b"d").unwrap()).unwrap();
    let name = |number| rules::renamed::record_name(Form::Path, &TreeId::new(1, 2, number));
    let put = |place, from, to| {
        let file = upper
            .create_file(&dir, &name(from), &rules::Creation::exact(0o600))
            .unwrap();
        let bytes = Origin { place, ino: 0 }.encode().unwrap();
        upper.write(&file, &bytes, 0).unwrap();
        for more in from + 1..to {
            upper.link(&dir, &name(from), &dir, &name(more)).unwrap();
        }
    };
    let part = Name::new(b"e").unwrap();
    put(Place::Path(vec![part]), 10_000, 16_000);
    let asked = [union::Below {
        tree: lower,
        root: &below,
        id: TreeId::new(3, 4, 5),
        beside: None,
    }];
    let told = || union::told(upper, &dir, &asked, |_, _| Ok::<_, Errno>(false));
    assert_eq!(told(), Ok(vec![union::Told::Nothing]));
    put(Place::Path(vec![Name::new(b"n").unwrap(); 32_000]), 0, 200);
    assert_eq!(told(), Err(Errno::FBIG));
}
