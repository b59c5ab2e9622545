//! Merging a branch down whose directories were renamed while the branch below held part of them: the union shows the
//! same at every instant, and the lower branches alone afterwards.

use proptest::collection::vec;
use proptest::prelude::*;
use rules::Errno;
use testkit::{Faults, draw};
use tree::RenameHow::{Exchange, Replace};
use union::branch_tools::merge_down::{Deed, Ending, Pass};
use union::{DialectKind, DirectChanges};

use crate::client::Client;
use crate::merge_down::merge;
use crate::operation::{Op, any_op, any_path};
use crate::stack::Mode::{Ro, Rw, Wh};
use crate::stack::{Mode, Plan, Stack, any_plan};
use crate::view::{View, view};

/// A stack in which directories were renamed through the union, and what becomes of its topmost branch.
#[derive(Debug, Clone)]
struct Case {
    plan: Plan,
    ops: Vec<Op>,
    ending: Ending,
}

fn any_rename() -> impl Strategy<Value = Op> {
    let how = prop_oneof![4 => Just(Replace), 1 => Just(Exchange)];
    prop_oneof![
        4 => (any_path(), any_path(), how).prop_map(|(old, new, how)| Op::Rename(old, new, how)),
        1 => any_op(),
    ]
}

fn any_case() -> impl Strategy<Value = Case> {
    let plan = any_plan().prop_filter_map("two branches in AUFS's format", |mut plan| {
        if plan.branches.len() < 2 || plan.settings.dialect != DialectKind::Aufs {
            return None;
        }
        plan.branches[0].0 = Mode::Rw;
        if plan.branches[1].0 != Mode::Rw {
            // So that directories of it are renamed above it.
            plan.branches[1].0 = Mode::Wh;
        }
        plan.free.clear();
        plan.powers.clear();
        Some(plan.with(|settings| {
            settings.direct_changes = DirectChanges::None;
            settings.rename_merged = true;
        }))
    });
    let ending = prop_oneof![
        Just(Ending::Copy),
        Just(Ending::Move),
        Just(Ending::MoveWithWhiteouts),
    ];
    (plan, vec(any_rename(), 1..14), ending).prop_map(|(plan, ops, ending)| Case {
        plan,
        ops,
        ending,
    })
}

proptest! {
    #![proptest_config(crate::config(50))]

    #[test]
    fn merging_renamed_directories_down_shows_the_same_at_every_instant(case in any_case()) {
        if let Err(broken) = case.try_all() {
            return Err(TestCaseError::fail(format!("{case:?}: {broken}")));
        }
    }
}

impl Case {
    /// Makes the branches, and does the operations that can be done.
    fn build(&self) -> Stack {
        let mut stack = self.plan.build();
        let mut client = Client::new(stack.mount());
        for op in &self.ops {
            let _: Result<(), Errno> = crate::client::errno(&client.apply(op));
        }
        client.union.close();
        stack.make_writable(1);
        stack
    }

    fn run(&self, stack: &Stack, pass: Pass) -> Result<Vec<Deed>, String> {
        let mut deeds = Vec::new();
        merge(stack, self.ending, pass, &mut |_, deed| deeds.push(deed))
            .map_err(|stopped| stopped.to_string())?;
        Ok(deeds)
    }

    fn try_all(&self) -> Result<(), String> {
        let stack = self.build();
        let before = shown(&stack, 0)?;
        drop(stack);
        let stack = self.build();
        stack.faults.reset();
        let writes = stack.faults.clone();
        let start = writes.count();
        self.run(&stack, Pass::Dry)?;
        if writes.count() != start {
            return Err(format!("a dry pass wrote {} times", writes.count() - start));
        }
        self.run(&stack, Pass::Real)?;
        let count = writes.count() - start;
        self.ended(&stack, &before)?;
        let target = View::of_tree(&stack.trees[1])
            .without_marks()
            .without_links();
        for n in 1..=count {
            for faults in [
                Faults::stop_at(n),
                Faults::fail_once_at(n, Errno::NOSPC).torn(),
            ] {
                let failed = |broken| format!("{faults:?} of {count}: {broken}");
                self.interrupted(&faults, &before, Some(&target))
                    .map_err(failed)?;
                self.interrupted(&faults, &before, None).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Looks at what an interrupted run leaves, or lets a second run do the rest, of which the target is known.
    fn interrupted(
        &self,
        faults: &Faults,
        before: &View,
        target: Option<&View>,
    ) -> Result<(), String> {
        let stack = self.build();
        stack.faults.replan(faults);
        let done = self.run(&stack, Pass::Real);
        stack.faults.reset();
        let left = stack.draw();
        if target.is_none() {
            let shown = shown(&stack, 0).map_err(|broken| format!("{broken}, left {left}"))?;
            if shown != *before {
                return Err(format!(
                    "({done:?}) it shows {shown:?}and was {before:?}left {left}"
                ));
            }
        }
        self.run(&stack, Pass::Real)
            .map_err(|stopped| format!("again: {stopped}, left {left}"))?;
        self.ended(&stack, before)
            .map_err(|broken| format!("again: {broken}, left {left}"))?;
        let ended = View::of_tree(&stack.trees[1])
            .without_marks()
            .without_links();
        match target {
            Some(target) if ended != *target => Err(format!(
                "the target is {ended:?}instead of {target:?}left {left}"
            )),
            _ => Ok(()),
        }
    }

    fn ended(&self, stack: &Stack, before: &View) -> Result<(), String> {
        let left = stack.draw();
        let of_branch = |branch: usize| draw(&stack.trees[branch]);
        let mut kept = vec![of_branch(0)];
        if stack.trees.len() == 2 {
            kept.push(of_branch(1));
        }
        for text in kept {
            for mark in [".wh..wh..dr.", ".wh..wh.hino", "plywood-moving"] {
                if text.contains(mark) {
                    return Err(format!("{mark} is left in {text}"));
                }
            }
        }
        for (first, what) in [(0, "all"), (1, "the lower branches")] {
            let shown = shown(stack, first)?;
            if shown != *before {
                return Err(format!(
                    "{what} show {shown:?}and it was {before:?}left {left}"
                ));
            }
        }
        let source = draw(&stack.trees[0]);
        let kept = |line: &&str| !line.starts_with("./") && !line.starts_with(".wh..wh.");
        match source.lines().find(kept) {
            Some(kept) if self.ending != Ending::Copy => {
                Err(format!("{kept} is left in the source"))
            }
            _ => match stack.touched_read_only_branch() {
                None => Ok(()),
                Some(branch) => Err(format!("the branch {branch} below was written")),
            },
        }
    }
}

/// Returns what the branches from `first` show, as they are.
fn shown(stack: &Stack, first: usize) -> Result<View, String> {
    let modes = stack.plan.branches.iter().skip(first);
    let plan = Plan {
        branches: modes.map(|(mode, _)| (*mode, String::new())).collect(),
        ..stack.plan.clone()
    };
    let mut again = plan.build();
    again.trees = stack.trees[first..].to_vec();
    Ok(view(&again.mount())?.without_links())
}

fn rename(old: &str, new: &str) -> Op {
    Op::Rename(old.to_owned(), new.to_owned(), Replace)
}

const LOWER: &str = "a/f \"f\"\na/s/g \"g\"\nb/h \"h\"\n";

/// Merges after the operations, over each kind of branches below, in each way.
#[track_caller]
fn flattened(ops: &[Op]) {
    let rich = Some("a/low \"l\"\nc/deep \"d\"\nb/s/x \"x\"");
    for (below, ending) in [
        (None, Ending::Copy),
        (Some(""), Ending::Move),
        (rich, Ending::Move),
        (rich, Ending::MoveWithWhiteouts),
    ] {
        let mut branches = vec![(Rw, "b/own \"own\""), (Wh, LOWER)];
        branches.extend(below.map(|below| (Ro, below)));
        let case = Case {
            plan: Plan::aufs(&branches).with(|settings| settings.rename_merged = true),
            ops: ops.to_vec(),
            ending,
        };
        if let Err(broken) = case.try_all() {
            panic!("{case:?}: {broken}");
        }
    }
}

#[test]
fn a_renamed_directory_moves_below_by_one_rename() {
    let case = Case {
        plan: Plan::aufs(&[(Rw, ""), (Wh, LOWER)]).with(|settings| settings.rename_merged = true),
        ops: vec![rename("a", "c")],
        ending: Ending::Move,
    };
    let stack = case.build();
    let deeds = case.run(&stack, Pass::Real).unwrap();
    assert_eq!(deeds, [Deed::Carry, Deed::Forget, Deed::Drop]);
    assert_eq!(
        draw(&stack.trees[1]),
        "b/\nb/h \"h\"\nc/\nc/f \"f\"\nc/s/\nc/s/g \"g\"\n"
    );
    flattened(&[rename("a", "c")]);
}

#[test]
fn renamed_again_back_and_below_another_renamed_one_are_merged_down() {
    let ops = [
        rename("a", "b/a2"),
        rename("b/a2/s", "s2"),
        rename("b", "b3"),
    ];
    flattened(&ops[..1]);
    flattened(&ops[..2]);
    flattened(&ops);
    flattened(&[rename("a", "c"), rename("c", "d"), rename("d", "a")]);
    flattened(&[rename("a/s", "a/t"), rename("a", "q"), rename("q/t", "b/t")]);
}

#[test]
fn directories_that_changed_places_are_merged_down() {
    let exchange = |one: &str, two: &str| Op::Rename(one.to_owned(), two.to_owned(), Exchange);
    flattened(&[exchange("a", "b")]);
    flattened(&[exchange("a/s", "b")]);
    flattened(&[
        rename("a", "n"),
        Op::Mkdir("a".to_owned()),
        rename("n", "a/n"),
    ]);
    flattened(&[
        rename("a/s", "s2"),
        Op::Unlink("a/f".to_owned()),
        Op::Rmdir("a".to_owned()),
        rename("s2", "a"),
    ]);
}
