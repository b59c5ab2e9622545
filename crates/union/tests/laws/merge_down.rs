//! Merging a branch down: the union shows the same at every instant, and the lower branches alone afterwards.

use proptest::prelude::*;
use rules::{Errno, Powers};
use testkit::{Faults, Faulty, MemoryTree, draw};
use union::branch_tools::merge_down::{Deed, Ending, Merge, Pass, merge_down};
use union::branch_tools::{Below, Layer, Place, Stopped};
use union::{DialectKind, DirectChanges};

use crate::stack::{Mode, Plan, Stack, any_plan};
use crate::view::{View, view};

/// A merge on a stack whose two topmost branches are writable.
#[derive(Debug, Clone)]
struct Case {
    plan: Plan,
    ending: Ending,
}

fn any_case() -> impl Strategy<Value = Case> {
    let plan = any_plan().prop_filter_map("two branches in AUFS's format", |mut plan| {
        if plan.branches.len() < 2 || plan.settings.dialect != DialectKind::Aufs {
            return None;
        }
        plan.branches[0].0 = Mode::Rw;
        plan.branches[1].0 = Mode::Rw;
        Some(plan.with(|settings| settings.direct_changes = DirectChanges::None))
    });
    let ending = prop_oneof![
        Just(Ending::Copy),
        Just(Ending::Move),
        Just(Ending::MoveWithWhiteouts),
    ];
    (plan, ending).prop_map(|(plan, ending)| Case { plan, ending })
}

proptest! {
    #![proptest_config(crate::config(120))]

    #[test]
    fn merging_a_branch_down_shows_the_same_at_every_instant(case in any_case()) {
        if let Err(broken) = case.try_all() {
            return Err(TestCaseError::fail(format!("{case:?}: {broken}")));
        }
    }
}

impl Case {
    fn try_all(&self) -> Result<(), String> {
        let before = view(&self.plan.build().mount())?;
        let stack = self.plan.build();
        let writes = stack.faults.clone();
        self.run(&stack, Pass::Dry)
            .map_err(|stopped| stopped.to_string())?;
        if writes.count() != 0 {
            return Err(format!("a dry pass wrote {} times", writes.count()));
        }
        self.run(&stack, Pass::Real)
            .map_err(|stopped| stopped.to_string())?;
        let count = writes.count();
        self.ended(&stack, &before)?;
        let target = View::of_tree(&stack.trees[1]).without_marks();
        for n in 1..=count {
            for faults in [
                Faults::stop_at(n),
                Faults::fail_once_at(n, Errno::NOSPC),
                Faults::fail_once_at(n, Errno::NOSPC).torn(),
            ] {
                let ended = self.interrupted(&faults, &before);
                let ended = ended.map_err(|broken| format!("{faults:?} of {count}: {broken}"))?;
                if ended != target {
                    return Err(format!(
                        "{faults:?} of {count}: the target is {ended:?}instead of {target:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns what the target holds after a second run.
    fn interrupted(&self, faults: &Faults, before: &View) -> Result<View, String> {
        let stack = self.plan.build();
        stack.faults.replan(faults);
        let done = self.run(&stack, Pass::Real);
        let struck = stack.faults.struck();
        stack.faults.reset();
        let shown = view(&self.again(&stack, 0).mount())?;
        // Names of one file part while they leave one after the other; the second run joins them.
        let fits = match self.ending {
            Ending::Copy => shown == *before,
            _ => shown.without_links() == before.without_links(),
        };
        if !fits {
            let left = stack.draw();
            return Err(format!(
                "({struck:?}, {done:?}) it shows {shown:?}and was {before:?}left {left}"
            ));
        }
        self.run(&stack, Pass::Real)
            .map_err(|stopped| format!("again: {stopped}"))?;
        self.ended(&stack, before)
            .map_err(|broken| format!("again: {broken}"))?;
        // A mark that hides nothing may stay; that none is missing was seen above.
        Ok(View::of_tree(&stack.trees[1]).without_marks())
    }

    fn ended(&self, stack: &Stack, before: &View) -> Result<(), String> {
        for (first, what) in [(0, "all"), (1, "the lower branches")] {
            let shown = view(&self.again(stack, first).mount())?;
            if shown != *before {
                let left = stack.draw();
                return Err(format!(
                    "{what} show {shown:?}and it was {before:?}left {left}"
                ));
            }
        }
        let source = draw(&stack.trees[0]);
        let kept = |line: &&str| !line.starts_with("./") && !line.starts_with(".wh..wh.");
        if self.ending != Ending::Copy
            && let Some(kept) = source.lines().find(kept)
        {
            return Err(format!("{kept} is left in the source"));
        }
        if let Some(left) = stack.left_over().first() {
            return Err(format!("{left} is left"));
        }
        match stack.touched_read_only_branch() {
            None => Ok(()),
            Some(branch) => Err(format!("the branch {branch} below was written")),
        }
    }

    /// Returns the branches from `first` as they are now, on disks of their own.
    fn again(&self, stack: &Stack, first: usize) -> Stack {
        let modes = self.plan.branches.iter().skip(first);
        let plan = Plan {
            branches: modes.map(|(mode, _)| (*mode, String::new())).collect(),
            ..self.plan.clone()
        };
        let mut again = plan.build();
        let trees = stack.trees.iter().skip(first);
        again.trees = trees.map(|tree| View::of_tree(tree).to_tree()).collect();
        again
    }

    fn run(&self, stack: &Stack, pass: Pass) -> Result<(), Stopped> {
        merge(stack, self.ending, pass, &mut |_, _| {})
    }
}

/// Merges the topmost branch of a stack into the second.
pub(crate) fn merge(
    stack: &Stack,
    ending: Ending,
    pass: Pass,
    tell: &mut dyn FnMut(&Place, Deed),
) -> Result<(), Stopped> {
    let trees: Vec<_> = stack
        .trees
        .iter()
        .map(|tree| Faulty::new(tree.clone(), &stack.faults))
        .collect();
    let modes = stack.plan.branches.iter().map(|(mode, _)| *mode);
    let below: Vec<_> = trees
        .iter()
        .zip(modes)
        .skip(2)
        .map(|(tree, mode)| Layer::root(tree, powers(mode)).unwrap())
        .collect();
    let below = if below.is_empty() {
        Below::Nothing
    } else {
        Below::Layers(below)
    };
    let merge: Merge<'_, Faulty<MemoryTree>> = Merge {
        source: &trees[0],
        target: &trees[1],
        below,
        ending,
        pass,
        spared: Vec::new(),
    };
    merge_down(&merge, tell)
}

pub(crate) fn powers(mode: Mode) -> Powers {
    match mode {
        Mode::Rw => Powers::WRITABLE,
        Mode::Ro => Powers::PLAIN,
        Mode::Wh => Powers::LAYER,
    }
}

#[test]
fn a_deletion_is_kept_only_where_something_below_would_show() {
    let plan = Plan::aufs(&[
        (
            Mode::Rw,
            ".wh.seen 0444\n.wh.gone 0444\nnew \"n\"\nd/\nd/.wh..wh..opq 0444",
        ),
        (
            Mode::Rw,
            "seen \"1\"\ngone \"1\"\nd/hidden \"1\"\nkept \"1\"",
        ),
        (Mode::Ro, "seen \"2\""),
    ]);
    let case = Case {
        plan,
        ending: Ending::Move,
    };
    let stack = case.plan.build();
    case.run(&stack, Pass::Real).unwrap();
    let target = draw(&stack.trees[1]);
    assert_eq!(target, ".wh.seen 0444\nd/\nkept \"1\"\nnew \"n\"\n");
    assert_eq!(draw(&stack.trees[0]), "");
}

#[test]
fn names_of_one_file_in_and_beside_an_opaque_directory_stay_together() {
    for ending in [Ending::Copy, Ending::Move] {
        let plan = Plan::aufs(&[
            (Mode::Rw, "a \"x\"\nd/.wh..wh..opq 0444\nd/b = a\nz = a"),
            (Mode::Rw, "d/hidden \"y\""),
        ]);
        Case { plan, ending }.try_all().unwrap();
    }
}

#[test]
fn a_renamed_directory_whose_record_takes_a_guess_is_refused_before_anything_changes() {
    let record = format!(
        r"adr\x01{}\x02\x01{}c",
        r"\x00".repeat(11),
        r"\x00".repeat(7)
    );
    let plan = Plan::aufs(&[
        (
            Mode::Rw,
            &format!("a \"a\"\nd/.wh..wh..dr.3_0701_2 \"{record}\" 0600"),
        ),
        (Mode::Rw, "c/f \"f\""),
    ]);
    let case = Case {
        plan,
        ending: Ending::Move,
    };
    let stack = case.plan.build();
    let stopped = case.run(&stack, Pass::Real).unwrap_err();
    assert_eq!(stopped.errno, Errno::OPNOTSUPP);
    assert_eq!(stack.faults.count(), 0);
}
