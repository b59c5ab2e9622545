//! Success shows exactly what POSIX says, and a refusal changes nothing.

use proptest::prelude::*;
use rules::Errno;
use union::{Error, Result};

use crate::client::{Client, errno};
use crate::operation::{Op, any_op};
use crate::plain;
use crate::stack::{Plan, Stack, any_plan};
use crate::view::{View, view};

proptest! {
    #![proptest_config(crate::config(800))]

    #[test]
    fn an_operation_shows_what_a_plain_directory_shows(
        plan in any_plan(),
        op in any_op(),
        walked_before in any::<bool>(),
    ) {
        if let Err(broken) = try_outcome(&plan, &op, walked_before) {
            return Err(TestCaseError::fail(format!("{op:?}: {broken}\non {plan:?}")));
        }
    }
}

/// Tries one operation on a stack. `walked_before`: the union knows all names when it begins.
pub(crate) fn try_outcome(
    plan: &Plan,
    op: &Op,
    walked_before: bool,
) -> std::result::Result<(), String> {
    let stack = plan.build();
    let before = view(&stack.mount())?;
    let mut client = Client::new(stack.mount());
    if walked_before {
        view(&client.union)?;
    }
    let done = client.apply(op);
    let shown = view(&client.union)
        .map_err(|broken| format!("{done:?}, then {broken}\nleaves {}", stack.draw()))?;
    let expected = expected(plan, &before, op, &done)?;
    same(&shown, &expected, || {
        format!("{done:?}, leaving\n{}", stack.draw())
    })?;
    if !stack.has_pseudo_links() {
        let fresh = view(&stack.mount())?;
        same(&fresh, &expected, || {
            format!("{done:?}, then a remount, of\n{}", stack.draw())
        })?;
    }
    // What happened to the branches before the operation is not its doing.
    if let Some(branch) = stack.touched_read_only_branch() {
        return Err(format!("the read-only branch {branch} was written"));
    }
    clean(&stack)
}

/// Returns the view that the result of an operation promises.
pub(crate) fn expected(
    plan: &Plan,
    before: &View,
    op: &Op,
    done: &Result<()>,
) -> std::result::Result<View, String> {
    let model = before.to_tree();
    let should = plain::apply(&model, op);
    if errno(done) == should {
        return Ok(View::of_tree(&model));
    }
    if may_say_no(plan, op, done, should) {
        return Ok(before.clone());
    }
    Err(format!(
        "the union says {done:?}, a plain directory {should:?}"
    ))
}

/// Returns whether a union may say no where a plain directory says something else.
pub(crate) fn may_say_no(
    plan: &Plan,
    op: &Op,
    done: &Result<()>,
    should: std::result::Result<(), Errno>,
) -> bool {
    if plan.may_be_full() && *done == Err(Errno::NOSPC.into()) {
        return true;
    }
    let Err(error @ Error::Refused(_)) = done else {
        return false;
    };
    match error.errno() {
        Errno::ROFS => plan.may_be_read_only(),
        Errno::XDEV => matches!(op, Op::Rename(..)) && should.is_ok() && !plan.renames_merged(),
        _ => false,
    }
}

/// Compares two views.
pub(crate) fn same(
    shown: &View,
    expected: &View,
    after: impl Fn() -> String,
) -> std::result::Result<(), String> {
    if shown == expected {
        return Ok(());
    }
    Err(format!(
        "it shows {shown:?}instead of {expected:?}after {}",
        after()
    ))
}

/// Makes sure that nothing temporary is left.
pub(crate) fn clean(stack: &Stack) -> std::result::Result<(), String> {
    let left = stack.left_over();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("left over: {left:?}"))
    }
}
