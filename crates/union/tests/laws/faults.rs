//! A failure shows the state before or after, never a third, wherever it strikes.

use proptest::prelude::*;
use rules::Errno;
use testkit::Faults;
use union::{Error, Result};

use crate::client::{Client, errno};
use crate::operation::{Op, any_op};
use crate::outcomes::{clean, expected, may_say_no};
use crate::plain;
use crate::stack::{Plan, Stack, any_plan};
use crate::view::{View, view};

proptest! {
    #![proptest_config(crate::config(250))]

    #[test]
    fn a_failure_shows_the_state_before_or_after(
        plan in any_plan(),
        op in any_op(),
        walked_before in any::<bool>(),
    ) {
        if let Err(broken) = try_faults(&plan, &op, walked_before) {
            return Err(TestCaseError::fail(format!("{op:?}: {broken}\non {plan:?}")));
        }
    }
}

/// Tries an operation with a fault at each of its writes.
pub(crate) fn try_faults(
    plan: &Plan,
    op: &Op,
    walked_before: bool,
) -> std::result::Result<(), String> {
    let stack = plan.build();
    let old = view(&stack.mount())?;
    let (mut client, stack) = prepared(plan, walked_before)?;
    stack.faults.reset();
    let done = client.apply(op);
    let writes = stack.faults.count();
    let new = expected(plan, &old, op, &done)?;
    let case = Case {
        plan,
        op,
        old,
        new,
        walked_before,
    };
    for n in 1..=writes {
        let once = Faults::fail_once_at(n, Errno::NOSPC);
        case.fails_once(&once)
            .map_err(|broken| at(n, writes, "fails once", &broken))?;
        // Of a write by the user, half may arrive.
        let once = if matches!(op, Op::Write(..)) {
            once
        } else {
            once.torn()
        };
        case.fails_once(&once)
            .map_err(|broken| at(n, writes, "fails once in the middle", &broken))?;
        case.stops(&Faults::stop_at(n))
            .map_err(|broken| at(n, writes, "stops", &broken))?;
    }
    Ok(())
}

fn at(n: u64, writes: u64, what: &str, broken: &str) -> String {
    format!("when it {what} at write {n} of {writes}: {broken}")
}

fn prepared(plan: &Plan, walked_before: bool) -> std::result::Result<(Client, Stack), String> {
    let stack = plan.build();
    let client = Client::new(stack.mount());
    if walked_before {
        view(&client.union)?;
    }
    Ok((client, stack))
}

struct Case<'a> {
    plan: &'a Plan,
    op: &'a Op,
    old: View,
    new: View,
    walked_before: bool,
}

impl Case<'_> {
    /// One write fails and the union goes on.
    fn fails_once(&self, faults: &Faults) -> std::result::Result<(), String> {
        let (mut client, stack) = prepared(self.plan, self.walked_before)?;
        stack.faults.replan(faults);
        let done = client.apply(self.op);
        let struck = stack.faults.struck();
        stack.faults.reset();
        let failed = |what: String| {
            format!(
                "({}) {done:?}: {what}\nleaves {}",
                struck.unwrap_or("nothing"),
                stack.draw()
            )
        };
        let shown = view(&client.union).map_err(&failed)?;
        self.old_or_new(&shown, &done).map_err(&failed)?;
        // The remount below puts things right on disk: the union that goes on comes first.
        self.again(&mut client, &shown, &done).map_err(&failed)?;
        let (mut client, stack) = prepared(self.plan, self.walked_before)?;
        stack.faults.replan(faults);
        let again = client.apply(self.op);
        stack.faults.reset();
        if stack.has_pseudo_links() {
            return Ok(());
        }
        let fresh = view(&stack.mount()).map_err(&failed)?;
        if fresh != shown || again != done {
            return Err(failed(format!(
                "it shows {shown:?}and after a remount {fresh:?}of {}",
                stack.draw()
            )));
        }
        self.read_only(&stack)?;
        clean(&stack).map_err(&failed)
    }

    /// The machine stops, and the stack is mounted again later.
    fn stops(&self, faults: &Faults) -> std::result::Result<(), String> {
        let (mut client, stack) = prepared(self.plan, self.walked_before)?;
        stack.faults.replan(faults);
        let done = client.apply(self.op);
        let struck = stack.faults.struck();
        drop(client);
        stack.faults.reset();
        let left = stack.draw();
        let failed = |what: String| {
            format!(
                "({}) {done:?}: {what}\nleft {left}",
                struck.unwrap_or("nothing")
            )
        };
        if stack.has_pseudo_links() {
            return Ok(());
        }
        let mut client = Client::new(stack.mount());
        let shown = view(&client.union).map_err(&failed)?;
        self.old_or_new(&shown, &done).map_err(&failed)?;
        clean(&stack).map_err(&failed)?;
        self.again(&mut client, &shown, &done).map_err(&failed)?;
        self.read_only(&stack)
    }

    fn old_or_new(&self, shown: &View, done: &Result<()>) -> std::result::Result<(), String> {
        let fits = match done {
            Ok(()) => *shown == self.new,
            Err(Error::Refused(_)) => *shown == self.old,
            Err(Error::Branch(_)) => *shown == self.old || *shown == self.new,
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "it shows {shown:?}and was {:?}and should be {:?}",
            self.old, self.new
        ))
    }

    /// The same call once more ends in the new state.
    fn again(
        &self,
        client: &mut Client,
        shown: &View,
        done: &Result<()>,
    ) -> std::result::Result<(), String> {
        let (model, before) = (shown.to_tree(), shown);
        let should = plain::apply(&model, self.op);
        let repeated = client.apply(self.op);
        let shown = view(&client.union)?;
        let expected = if errno(&repeated) == should {
            View::of_tree(&model)
        } else if self.old == self.new && done.is_err() {
            self.old.clone()
        } else if may_say_no(self.plan, self.op, &repeated, should) {
            before.clone()
        } else {
            return Err(format!(
                "repeated, the union says {repeated:?}, a plain directory {should:?}"
            ));
        };
        if shown == expected {
            return Ok(());
        }
        Err(format!(
            "repeated ({repeated:?}) it shows {shown:?}instead of {expected:?}"
        ))
    }

    fn read_only(&self, stack: &Stack) -> std::result::Result<(), String> {
        match stack.touched_read_only_branch() {
            None => Ok(()),
            Some(branch) => Err(format!("the read-only branch {branch} was written")),
        }
    }
}
