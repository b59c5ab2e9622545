//! Moving files between the branches of a pool changes nothing that shows, whatever stops it.

use proptest::prelude::*;
use testkit::{Faults, Faulty, MemoryTree, contents, draw};
use union::DialectKind;
use union::branch_tools::balance::{Group, Member, carry, survey};

use crate::operation::Op;
use crate::stack::{Mode, Plan, Stack, any_plan};
use crate::view::{View, view};

proptest! {
    #![proptest_config(crate::config(250))]

    #[test]
    fn moving_files_between_the_branches_of_a_pool_changes_nothing_that_shows(
        plan in any_plan(),
        pick in any::<usize>(),
        lowest in any::<bool>(),
    ) {
        let plan = plan.with(|settings| settings.dialect = DialectKind::Aufs);
        if let Err(broken) = try_move(&plan, pick, lowest) {
            return Err(TestCaseError::fail(format!("{broken}\non {plan:?}")));
        }
    }
}

fn trees(stack: &Stack) -> Vec<Faulty<MemoryTree>> {
    let trees = stack.trees.iter();
    trees
        .map(|tree| Faulty::new(tree.clone(), &stack.faults))
        .collect()
}

fn pool<'a>(plan: &Plan, trees: &'a [Faulty<MemoryTree>]) -> Vec<Member<'a, Faulty<MemoryTree>>> {
    let modes = plan
        .branches
        .iter()
        .map(|(mode, _)| crate::merge_down::powers(*mode));
    let members = trees.iter().zip(modes);
    members
        .map(|(tree, powers)| Member { tree, powers })
        .collect()
}

fn try_move(plan: &Plan, pick: usize, lowest: bool) -> Result<(), String> {
    let before = view(&plan.build().mount())?;
    let target = |groups: &[Group]| -> Option<(Group, usize)> {
        let group = groups.get(pick % groups.len().max(1))?.clone();
        let to = if lowest {
            group.to.last()
        } else {
            group.to.first()
        };
        to.copied().map(|to| (group, to))
    };
    let stack = plan.build();
    let own = trees(&stack);
    let members = pool(plan, &own);
    let groups = survey(&members).map_err(|stopped| stopped.to_string())?;
    let Some((group, to)) = target(&groups) else {
        return Ok(());
    };
    if stack.faults.count() != 0 {
        return Err("looking writes".to_owned());
    }
    carry(&members, &group, to).map_err(|stopped| stopped.to_string())?;
    let writes = stack.faults.count();
    let failed =
        |what: String, stack: &Stack| format!("{group:?} to {to}: {what}\nleft {}", stack.draw());
    let held = contents(&stack.trees[to]);
    if !group
        .names
        .iter()
        .all(|place| held.contains_key(&place.to_bytes()))
    {
        return Err(failed("a name is missing".to_owned(), &stack));
    }
    let left = contents(&stack.trees[group.from]);
    if group
        .names
        .iter()
        .any(|place| left.contains_key(&place.to_bytes()))
    {
        return Err(failed("a name is left".to_owned(), &stack));
    }
    same(plan, &stack, &before, false).map_err(|broken| failed(broken, &stack))?;
    for n in 1..=writes {
        let stack = plan.build();
        stack.faults.replan(&Faults::stop_at(n));
        let own = trees(&stack);
        let done = carry(&pool(plan, &own), &group, to);
        stack.faults.reset();
        let several = group.names.len() > 1;
        same(plan, &stack, &before, several).map_err(|broken| {
            failed(
                format!("stopped at {n} of {writes} ({done:?}): {broken}"),
                &stack,
            )
        })?;
    }
    Ok(())
}

/// Compares what the branches show; names that are moving one after the other may be several files meanwhile.
fn same(plan: &Plan, stack: &Stack, before: &View, parting: bool) -> Result<(), String> {
    let empty = Plan {
        branches: plan
            .branches
            .iter()
            .map(|(mode, _)| (*mode, String::new()))
            .collect(),
        ..plan.clone()
    };
    let mut again = empty.build();
    again.trees = stack
        .trees
        .iter()
        .map(|tree| View::of_tree(tree).to_tree())
        .collect();
    let shown = view(&again.mount())?;
    let fits = if parting {
        shown.without_links() == before.without_links()
    } else {
        shown == *before
    };
    if !fits {
        return Err(format!("it shows {shown:?}instead of {before:?}"));
    }
    match stack.touched_read_only_branch() {
        None => Ok(()),
        Some(branch) => Err(format!("the read-only branch {branch} was written")),
    }
}

#[test]
fn a_file_moves_with_all_its_names_or_not_at_all() {
    let plan = Plan::aufs(&[
        (
            Mode::Rw,
            "a \"1\"\nd/b = a\nhalf \"2\"\ne/half = half\ntwo \"3\"\nhidden \"4\"\nother = hidden",
        ),
        (Mode::Rw, "e/half \"below\"\nthree \"5\""),
        (Mode::Ro, "x"),
    ]);
    let stack = plan.build();
    let own = trees(&stack);
    let members = pool(&plan, &own);
    let groups = survey(&members).unwrap();
    let told: Vec<_> = groups
        .iter()
        .map(|group| {
            let names: Vec<_> = group.names.iter().map(|place| place.to_string()).collect();
            format!("{} {} {:?}", names.join(" "), group.from, group.to)
        })
        .collect();
    assert_eq!(
        told,
        [
            "a d/b 0 [1]",
            "hidden other 0 [1]",
            "two 0 [1]",
            "three 1 [0]"
        ]
    );
    carry(&members, &groups[0], 1).unwrap();
    let lower = draw(&stack.trees[1]);
    assert!(
        lower.contains("a \"1\"\n") && lower.contains("d/b = a\n"),
        "{lower}"
    );
    assert!(!draw(&stack.trees[0]).contains("\"1\""));
}

#[test]
fn what_is_in_a_renamed_directory_stays_where_it_is() {
    let plan = Plan::aufs(&[(Mode::Rw, "a/x \"x\"\nf \"f\""), (Mode::Rw, "a/y \"y\"")]);
    let stack = plan.build();
    let mut client = crate::client::Client::new(stack.mount());
    let rename = Op::Rename("a".to_owned(), "c".to_owned(), tree::RenameHow::Replace);
    client.apply(&rename).unwrap();
    client.union.close();
    let own = trees(&stack);
    let groups = survey(&pool(&plan, &own)).unwrap();
    let names: Vec<_> = groups
        .iter()
        .flat_map(|group| group.names.iter().map(|place| place.to_bytes()))
        .collect();
    assert_eq!(names, [b"f".to_vec()]);
}
