//! Branches that are watched: whoever caches for ever and heeds what the observer is told sees what a fresh
//! mount shows.

use proptest::collection::vec;
use proptest::prelude::*;
use union::{DialectKind, DirectChange, InodeId, OverlayMarks};

use crate::config;
use crate::mounted::{Mounted, Notice, Op, any_op, looks, name};

/// Who does something.
#[derive(Debug, Clone)]
enum Where {
    Inside,
    Outside(usize),
}

fn any_step() -> impl Strategy<Value = (Where, Op, bool)> {
    let place = prop_oneof![
        1 => Just(Where::Inside),
        2 => (0..2usize).prop_map(Where::Outside),
    ];
    (place, any_op(), any::<bool>())
}

const PLANTED: [&str; 2] = [
    "a/\na/a/\na/a/b \"1\"\na/b \"2\"",
    "a/\na/a/\na/a/a \"3\"\na/c \"4\"\nb/\nb/a/\nb/a/a \"5\"\nb/b \"6\"",
];

fn try_steps(dialect: DialectKind, steps: &[(Where, Op, bool)]) -> Result<(), String> {
    let mut mounted = Mounted::new(dialect, PLANTED);
    mounted.agrees()?;
    for (at, (place, op, look)) in steps.iter().enumerate() {
        let done = match place {
            Where::Inside => {
                // Between a change and its being told there is a race that anybody may win.
                mounted.settle();
                let done = mounted.inside(op);
                mounted.settle();
                done
            }
            Where::Outside(branch) => mounted.outside(*branch, op),
        };
        if *look || at + 1 == steps.len() {
            let in_step = |broken| format!("step {at} ({done:?}): {broken}");
            mounted.agrees().map_err(in_step)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn caches_that_heed_what_they_are_told_show_what_a_fresh_mount_shows(
        overlay in proptest::bool::weighted(0.3),
        steps in vec(any_step(), 1..10),
    ) {
        let dialect = if overlay {
            DialectKind::Overlay(OverlayMarks::User)
        } else {
            DialectKind::Aufs
        };
        if let Err(broken) = try_steps(dialect, &steps) {
            return Err(TestCaseError::fail(format!("{broken}\nafter {steps:#?}")));
        }
    }
}

#[test]
fn own_changes_are_neither_told_nor_cause_a_directory_to_be_read_again() {
    let mut mounted = Mounted::aufs(PLANTED);
    mounted.agrees().unwrap();
    let (dir, _) = mounted.parent("a/x").unwrap();
    let asked = mounted.watcher.lock().asked;
    for number in 0..1000 {
        let op = Op::Write(format!("a/own{number}"), "text".into());
        mounted.inside(&op).unwrap();
        let told = mounted.settle();
        let about_names = |notice: &&Notice| match notice {
            Notice::Entry(..) | Notice::Contents(_) => true,
            Notice::Attributes(_) => false,
        };
        assert_eq!(told.iter().find(about_names), None);
    }
    assert_eq!(mounted.watcher.lock().asked, asked);
    assert_eq!(
        mounted.union.lookup(dir, b"own7").unwrap().map(|_| ()),
        Some(())
    );
}

#[test]
fn a_directory_that_cannot_be_watched_is_looked_at_again() {
    let mut mounted = Mounted::aufs(PLANTED);
    mounted.watcher.lock().refuses = true;
    mounted.agrees().unwrap();
    let (dir, _) = mounted.parent("a/x").unwrap();
    assert!(!mounted.union.hears(dir), "a front end must ask again");
    for (branch, path) in [(0, "a/new"), (1, "a/a/new"), (1, "b/b")] {
        mounted.write_on(branch, path, "direct").unwrap();
        mounted.agrees().unwrap();
    }
}

#[test]
fn after_a_loss_everything_is_compared() {
    let mut mounted = Mounted::aufs(PLANTED);
    mounted.agrees().unwrap();
    mounted.write_on(0, "a/new", "direct").unwrap();
    mounted.write_on(1, "b/a/a", "longer").unwrap();
    mounted.remove_on(0, "a/b").unwrap();
    mounted.remove_on(1, "a/a").unwrap();
    let members: Vec<_> = {
        let mut compared = mounted.watcher.lock();
        let dirs = compared.dirs.values_mut();
        // None of it will be delivered.
        dirs.flat_map(|seen| {
            seen.names = looks(&seen.dir);
            seen.members.clone()
        })
        .collect()
    };
    for (id, branch) in members {
        mounted.union.branch_changed(id, branch, DirectChange::Lost);
    }
    mounted.agrees().unwrap();
}

#[test]
fn watches_end_with_what_they_watch() {
    let mounted = Mounted::aufs(PLANTED);
    let found = mounted.union.lookup(InodeId::ROOT, b"b").unwrap().unwrap();
    assert!(mounted.union.lookup(found.id, b"zzz").unwrap().is_none());
    let watched = || {
        let compared = mounted.watcher.lock();
        let mut members = compared.dirs.values().flat_map(|seen| seen.members.clone());
        members.any(|(id, _)| id == found.id)
    };
    assert!(watched());
    mounted.union.forget(found.id, 1);
    assert!(!watched());
}

#[test]
fn the_parts_of_a_renamed_directory_are_watched_wherever_they_are() {
    let mut mounted = Mounted::aufs(PLANTED);
    mounted.agrees().unwrap();
    mounted
        .inside(&Op::Rename("b".into(), "a/n".into()))
        .unwrap();
    mounted.agrees().unwrap();
    let (dir, _) = mounted.parent("a/n/x").unwrap();
    assert!(mounted.union.hears(dir), "its part below is watched, too");
    mounted.write_on(1, "b/new", "direct").unwrap();
    mounted.write_on(1, "b/a/a", "longer").unwrap();
    mounted.remove_on(1, "b/b").unwrap();
    mounted.agrees().unwrap();
    let names = mounted.listing(dir).unwrap();
    assert_eq!(names, [name("a"), name("new")]);
}
