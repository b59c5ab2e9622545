//! Checking a branch: what is found, and that putting it right changes nothing that the union shows.

use proptest::prelude::*;
use rules::{Errno, Powers};
use testkit::{Faults, Faulty, MemoryTree, draw, plant};
use union::branch_tools::check::{Inspector, Problem, check};
use union::branch_tools::{Below, Layer};
use union::{DialectKind, DirectChanges};

use crate::stack::{Mode, Plan, any_plan};
use crate::view::view;

/// Notes what is found, and repairs it or not.
struct Notes {
    repair: bool,
    found: Vec<String>,
}

impl Inspector for Notes {
    fn repairs(&mut self, problem: &Problem) -> bool {
        self.found
            .push(format!("{}: {:?}", problem.place, problem.fault));
        self.repair
    }

    fn repaired(&mut self, problem: &Problem, done: Result<(), Errno>) {
        if let Err(errno) = done {
            self.found.push(format!("{}: {errno}", problem.place));
        }
    }
}

fn notes<T: tree::Tree>(branch: &T, below: Option<&Below<'_, T>>, repair: bool) -> Vec<String> {
    let mut notes = Notes {
        repair,
        found: Vec::new(),
    };
    check(branch, below, &mut notes).unwrap();
    notes.found
}

const DAMAGED: &str = r#"
    .wh..wh.aufs 0444
    .wh..wh.orph/lost "x"
    .wh..wh.plnk/12.13 "kept"
    name = .wh..wh.plnk/12.13
    .wh..wh.built.0001/half/f "x"
    .wh..wh.gone.8001/f "back"
    .wh..wh.taken.8002/
    taken "new"
    .wh..wh..hidden.8003 "dot"
    pair "x"
    .wh.pair 0444
    d/.wh.fifo fifo
    d/.wh.dir/
    d/.wh.full/f
    d/.wh.good 0444
    o/.wh..wh..opq -> nowhere
"#;

#[test]
fn each_kind_of_damage_is_found_and_put_right() {
    let tree = MemoryTree::new();
    plant(&tree, DAMAGED);
    let before = draw(&tree);
    let expected = [
        ".wh..wh.plnk/12.13: PseudoLink",
        ".wh..wh.orph/lost: Orphan",
        ".wh..wh..hidden.8003: MovedAway { taken: false }",
        ".wh..wh.built.0001: Unfinished",
        ".wh..wh.gone.8001: MovedAway { taken: false }",
        ".wh..wh.taken.8002: MovedAway { taken: true }",
        ".wh.pair: Pair",
        "d/.wh.dir: NotRegular(Dir)",
        "d/.wh.fifo: NotRegular(Fifo)",
        "d/.wh.full: NotRegular(Dir)",
        "o/.wh..wh..opq: NotRegular(Symlink)",
    ];
    assert_eq!(notes(&tree, None, false), expected);
    assert_eq!(draw(&tree), before, "looking changes nothing");
    let mut repaired = notes(&tree, None, true);
    repaired.retain(|line| !expected.contains(&line.as_str()));
    assert_eq!(repaired, ["d/.wh.full: directory not empty"]);
    assert_eq!(
        draw(&tree),
        "\
.hidden \"dot\"
.wh..wh.aufs 0444
.wh..wh.orph/
.wh..wh.plnk/
d/
d/.wh.dir = .wh..wh.aufs
d/.wh.fifo = .wh..wh.aufs
d/.wh.full/
d/.wh.full/f
d/.wh.good 0444
gone/
gone/f \"back\"
name \"kept\"
o/
o/.wh..wh..opq = .wh..wh.aufs
pair \"x\"
taken \"new\"
"
    );
    assert_eq!(notes(&tree, None, true).len(), 2);
}

#[test]
fn base_objects_of_the_wrong_kind_make_room_for_right_ones() {
    let tree = MemoryTree::new();
    plant(
        &tree,
        ".wh..wh.aufs/\n.wh..wh.plnk \"x\"\n.wh..wh.orph -> /etc",
    );
    assert_eq!(
        notes(&tree, None, true),
        [
            ".wh..wh.aufs: WrongKind(Dir)",
            ".wh..wh.plnk: WrongKind(File)",
            ".wh..wh.orph: WrongKind(Symlink)"
        ]
    );
    assert_eq!(draw(&tree), "");
}

#[test]
fn a_whiteout_that_hides_nothing_is_told_where_the_branches_below_are_known() {
    let (upper, lower) = (MemoryTree::new(), MemoryTree::new());
    plant(
        &upper,
        ".wh.a 0444\n.wh.b 0444\nd/.wh.c 0444\no/.wh..wh..opq 0444\no/.wh.e 0444",
    );
    plant(&lower, "a\nd/c\no/e");
    let layers = vec![Layer::root(&lower, Powers::PLAIN).unwrap()];
    assert_eq!(notes(&upper, None, false), [""; 0]);
    let below = Below::Layers(layers);
    assert_eq!(
        notes(&upper, Some(&below), true),
        [".wh.b: HidesNothing", "o/.wh.e: HidesNothing"]
    );
    assert_eq!(notes(&upper, Some(&below), false), [""; 0]);
}

proptest! {
    #![proptest_config(crate::config(100))]

    #[test]
    fn putting_a_branch_right_changes_nothing_that_shows(
        plan in any_plan(),
        left_over in proptest::sample::subsequence(LEFT_OVER.to_vec(), 0..LEFT_OVER.len()),
    ) {
        let mut plan = plan.with(|settings| {
            settings.dialect = DialectKind::Aufs;
            settings.direct_changes = DirectChanges::None;
        });
        plan.branches[0].0 = Mode::Rw;
        plan.branches[0].1.push('\n');
        plan.branches[0].1.push_str(&left_over.join("\n"));
        if let Err(broken) = try_faults(&plan) {
            return Err(TestCaseError::fail(format!("{broken}\non {plan:?}")));
        }
    }
}

const LEFT_OVER: [&str; 6] = [
    ".wh..wh.a.0001 \"half\"",
    ".wh..wh.b.0002/c \"half\"",
    ".wh..wh.c.8003 \"moved\"",
    ".wh..wh.d.8004/e \"moved\"",
    ".wh..wh..e.8005 \"moved\"",
    ".wh..wh.plnk/7.8 \"copy\"",
];

fn try_faults(plan: &Plan) -> Result<(), String> {
    let before = view(&plan.build().mount())?;
    let mut writes = u64::MAX;
    let mut n = 1;
    while n <= writes {
        let stack = plan.build();
        stack.faults.replan(&Faults::stop_at(n));
        repair(&stack.trees, plan, &stack.faults);
        let left = stack.faults.struck();
        stack.faults.reset();
        if left.is_none() {
            writes = 0;
            let clean = repair(&stack.trees, plan, &stack.faults);
            if !clean.is_empty() {
                return Err(format!("found again: {clean:?}"));
            }
        }
        let shown = view(&stack.mount())?;
        if shown != before {
            return Err(format!(
                "stopped at {n} it shows {shown:?}and was {before:?}"
            ));
        }
        n += 1;
    }
    Ok(())
}

fn repair(trees: &[MemoryTree], plan: &Plan, faults: &Faults) -> Vec<String> {
    let top = Faulty::new(trees[0].clone(), faults);
    let lower: Vec<_> = trees[1..]
        .iter()
        .map(|tree| Faulty::new(tree.clone(), faults))
        .collect();
    let modes = plan.branches[1..].iter().map(|(mode, _)| match mode {
        Mode::Rw => Powers::WRITABLE,
        Mode::Ro => Powers::PLAIN,
        Mode::Wh => Powers::LAYER,
    });
    let layers = lower.iter().zip(modes);
    let layers = layers.map(|(tree, powers)| Layer::root(tree, powers).unwrap());
    let below = Below::Layers(layers.collect());
    notes(&top, Some(&below), true)
}
