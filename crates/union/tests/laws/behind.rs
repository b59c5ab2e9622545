//! Changes behind the union's back, for stacks that are looked at again on each use.

use proptest::collection::vec;
use proptest::prelude::*;
use rules::Errno;
use union::DirectChanges;

use crate::client::Client;
use crate::operation::{Op, any_op};
use crate::outcomes::same;
use crate::plain;
use crate::stack::{Plan, Stack, any_plan};
use crate::view::view;

proptest! {
    #![proptest_config(crate::config(150))]

    #[test]
    fn what_somebody_else_changes_on_a_branch_shows_at_once(
        plan in any_plan(),
        steps in vec((any::<u8>(), any_op(), any::<bool>()), 1..12),
    ) {
        if let Err(broken) = try_behind(plan.clone(), &steps) {
            return Err(TestCaseError::fail(format!("{broken}\non {plan:?}after {steps:?}")));
        }
    }
}

/// Tries changes on branches, alternating with changes through the union.
fn try_behind(plan: Plan, steps: &[(u8, Op, bool)]) -> Result<(), String> {
    let plan = plan.with(|settings| {
        settings.direct_changes = DirectChanges::Noticed;
        settings.copy_up_on_open = false;
    });
    let stack = plan.build();
    let mut client = Client::new(stack.mount());
    for (at, (branch, op, through)) in steps.iter().enumerate() {
        let in_step = |broken: String| format!("step {at}: {broken}\nbranches {}", stack.draw());
        let done = if *through {
            client.apply(op).map_err(|error| error.errno())
        } else {
            let index = usize::from(*branch) % stack.trees.len();
            let moves = matches!(op, Op::Rename(..) | Op::Link(..));
            if moves && steps[..at].iter().any(|(_, _, through)| *through) {
                // What was copied up is known as its original and as its copy, which may change but not part.
                continue;
            }
            if revives(&stack, index, op) {
                continue;
            }
            plain::apply(&stack.trees[index], op)
        };
        if *through && matches!(done, Err(Errno::STALE)) {
            return Err(in_step("the union lost track".to_owned()));
        }
        if stack.has_pseudo_links() {
            return Ok(());
        }
        let shown = view(&client.union).map_err(in_step)?;
        let fresh = view(&stack.mount()).map_err(in_step)?;
        same(&shown, &fresh, || "a change from outside".to_owned()).map_err(in_step)?;
    }
    Ok(())
}

/// Returns whether a change gives a name back below which a lower directory was renamed: it would be there twice.
fn revives(stack: &Stack, index: usize, op: &Op) -> bool {
    let Op::Mkdir(path) = op else { return false };
    let whiteout = match path.rsplit_once('/') {
        Some((dir, name)) => format!("{dir}/.wh.{name} "),
        None => format!(".wh.{path} "),
    };
    let drawn = testkit::draw(&stack.trees[index]);
    drawn.contains(".wh..wh..dr.") && drawn.lines().any(|line| line.starts_with(&whiteout))
}
