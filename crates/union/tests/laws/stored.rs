//! A stored index of the lowest branches says what they say, is not believed where they changed, and does no harm when it is
//! damaged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use rules::{Attr, Kind, Powers};
use testkit::{MemoryTree, plant};
use union::{Branch, DirectChanges, InodeId, Unfit};

use crate::operation::{Op, any_op};
use crate::plain;
use crate::stack::{MemoryUnion, Mode, Plan, Stack, Stored, any_plan};
use crate::view::{Numbers, View, numbered_view, view};

proptest! {
    #![proptest_config(crate::config(150))]

    #[test]
    fn an_index_answers_as_the_branches_do(plan in any_plan()) {
        let plan = plan.with(|settings| settings.direct_changes = DirectChanges::None);
        let without = Plan { indexed: false, ..plan.clone() }.build();
        let stack = plan.indexed().build();
        // Once to let the writable branches be cleaned up.
        view(&without.mount()).map_err(TestCaseError::fail)?;
        view(&stack.mount()).map_err(TestCaseError::fail)?;
        let (plain, indexed) = (without.mount(), stack.mount());
        prop_assert_eq!(shown(&stack, &indexed), shown(&stack, &plain));
        prop_assert_eq!(attributes(&stack, &indexed), attributes(&stack, &plain), "on {:?}", stack.plan);
        prop_assert_eq!(stack.index(), stack.index(), "the same branches, another index");
    }

    #[test]
    fn what_changed_since_shows(
        plan in any_plan(),
        steps in vec((any::<u8>(), any_op()), 1..6),
    ) {
        let mut plan = plan.with(|settings| settings.direct_changes = DirectChanges::None);
        // Looking at files would copy them up.
        plan.powers.clear();
        let stack = plan.build();
        let Some(bytes) = stack.index() else { return Ok(()) };
        for (branch, op) in &steps {
            // Only names: what changes in a file leaves no trace in its directory, so that nobody's word is taken for it.
            if matches!(op, Op::Mkdir(_) | Op::Create(_) | Op::Unlink(_) | Op::Rmdir(_) | Op::Rename(..)) {
                let branch = usize::from(*branch) % stack.trees.len();
                let _ = plain::apply(&stack.trees[branch], op);
            }
        }
        let fresh = Plan { indexed: false, ..stack.plan.clone() };
        let mut fresh = fresh.build();
        fresh.trees = stack.trees.clone();
        let expected = fresh.mount();
        let union = fresh.mount();
        match union.use_chain_index(Arc::new(Stored(bytes)), |_| false, || {}) {
            Ok(()) | Err(Unfit::Changed(_)) => {}
            Err(unfit) => return Err(TestCaseError::fail(unfit.to_string())),
        }
        let expected = shown(&stack, &expected);
        prop_assert_eq!(shown(&stack, &union), expected, "on {:?} after {:?}", stack.plan, steps);
    }
}

/// Returns what a union shows. Numbers say in which order disks were met, where there are several.
fn shown(stack: &Stack, union: &MemoryUnion) -> Result<(View, Option<Numbers>), String> {
    let (view, numbers) = numbered_view(union)?;
    Ok((view, Some(numbers).filter(|_| stack.plan.one_disk)))
}

/// Attributes by path, but for the times of last access.
fn attributes(stack: &Stack, union: &MemoryUnion) -> BTreeMap<Vec<u8>, Attr> {
    let mut found = BTreeMap::new();
    let mut left = vec![(Vec::new(), InodeId::ROOT)];
    while let Some((path, id)) = left.pop() {
        let stream = union.open_dir(id).unwrap();
        let mut sink = |listed: union::Listed<'_>| {
            if let Some(entry) = listed.entry {
                let path = [&path[..], b"/", listed.name].concat();
                if entry.attr.kind == Kind::Dir {
                    left.push((path.clone(), entry.id));
                }
                let atime = rules::Time::default();
                // Each stack has disks of its own.
                let dev = 0;
                let one_disk = stack.plan.one_disk;
                let attr = Attr {
                    atime,
                    dev,
                    ino: if one_disk { entry.attr.ino } else { 0 },
                    ..entry.attr
                };
                found.insert(path, attr);
            }
            true
        };
        union.read_dir(&stream, 0, true, &mut sink).unwrap();
    }
    found
}

const TOP: &str = "d/new \"0\"\n";
const LOWER: &str = "d/\nd/f \"1\"\nd/e/\nd/e/g \"2\"\nh = d/f\n.wh.x 0444";
const LOWEST: &str = "d/k \"3\"\nx \"4\"\nd/e/m \"5\"";

fn stack() -> Stack {
    Plan::aufs(&[(Mode::Rw, TOP), (Mode::Wh, LOWER), (Mode::Ro, LOWEST)]).build()
}

fn used(union: &MemoryUnion, bytes: Vec<u8>) -> Result<Arc<AtomicUsize>, Unfit> {
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    union.use_chain_index(
        Arc::new(Stored(bytes)),
        |_| true,
        move || {
            tell.fetch_add(1, Ordering::Relaxed);
        },
    )?;
    Ok(told)
}

#[test]
fn a_damaged_index_does_no_harm_wherever_it_is_damaged() {
    let stack = stack();
    let expected = numbered_view(&stack.mount());
    let bytes = stack.index().unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        let union = stack.mount();
        match used(&union, damaged) {
            Err(Unfit::Refused(_)) => {}
            Err(unfit) => panic!("byte {at}: {unfit}"),
            Ok(told) => {
                assert_eq!(numbered_view(&union), expected, "byte {at}");
                assert_eq!(told.load(Ordering::Relaxed), 1, "byte {at}");
            }
        }
    }
}

#[test]
fn an_index_of_other_branches_is_refused() {
    let stack = stack();
    let bytes = stack.index().unwrap();
    let mounted = |plan: Plan| plan.build().mount();
    let short = mounted(Plan::aufs(&[(Mode::Ro, LOWEST)]));
    assert_eq!(used(&short, bytes.clone()).unwrap_err(), Unfit::TooFew(2));
    let overlay = mounted(stack.plan.clone().overlay());
    assert_eq!(used(&overlay, bytes.clone()).unwrap_err(), Unfit::Reading);
    let writable = mounted(Plan::aufs(&[
        (Mode::Wh, ""),
        (Mode::Rw, ""),
        (Mode::Ro, LOWEST),
    ]));
    assert_eq!(
        used(&writable, bytes.clone()).unwrap_err(),
        Unfit::Writable(1)
    );
    let noticed = stack.plan.clone().noticed();
    let noticed = mounted(noticed);
    assert_eq!(used(&noticed, bytes.clone()).unwrap_err(), Unfit::Changing);
    plant(&stack.trees[2], "new \"x\"");
    assert_eq!(used(&stack.mount(), bytes).unwrap_err(), Unfit::Changed(2));
}

#[test]
fn a_change_below_is_noticed_once() {
    let stack = stack();
    let bytes = stack.index().unwrap();
    plant(&stack.trees[2], "d/e/new \"x\"");
    let expected = numbered_view(&stack.mount());
    let union = stack.mount();
    let told = used(&union, bytes).unwrap();
    assert_eq!(numbered_view(&union), expected);
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn branches_that_come_above_keep_the_index_and_others_end_it() {
    let stack = stack();
    let more = |at: usize| {
        let union = stack.mount();
        used(&union, stack.index().unwrap()).unwrap();
        view(&union).unwrap();
        let tree = MemoryTree::new();
        plant(&tree, "d/more \"6\"");
        let tree = testkit::Faulty::on(tree, &testkit::Faults::none(), &testkit::Gone::default());
        let powers = Powers::LAYER;
        union.insert_branch(at, Branch { tree, powers }).unwrap();
        let shown = format!("{:?}", view(&union).unwrap());
        assert!(shown.contains("more") && shown.contains("d/e/m"), "{shown}");
        union.indexed_branches()
    };
    assert_eq!(more(0), 2);
    assert_eq!(more(1), 2);
    assert_eq!(more(2), 0);
    assert_eq!(more(3), 0);
}
