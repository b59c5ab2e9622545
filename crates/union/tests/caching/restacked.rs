//! Branches that come, go, move and change their modes while the union is in use: it shows what a fresh mount of the new stack
//! shows, to whoever caches for ever and heeds what the observer is told.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rules::Powers;
use testkit::{MemoryTree, draw, plant};
use tree::RenameHow;
use union::{
    Branch, DialectKind, DirectChanges, InodeId, OpenFlags, OverlayMarks, RestackError, Settings,
    Usage,
};

use crate::config;
use crate::mounted::{Mounted, Notice, Op, any_op, name};

/// Something done to the stack.
#[derive(Debug, Clone)]
enum Restack {
    Insert(usize, usize, usize),
    Remove(usize),
    /// The branch that went last.
    Return(usize, usize),
    Move(usize, usize),
    Mode(usize, usize),
}

#[derive(Debug, Clone)]
enum Step {
    Inside(Op),
    Restack(Restack),
}

const MODES: [Powers; 3] = [Powers::WRITABLE, Powers::LAYER, Powers::PLAIN];

/// What branches hold when they come.
const MODULES: [&str; 6] = [
    "a/\na/a/\na/a/b \"m1\"\na/b \"m1\"\nc = a/b",
    "b/\nb/a \"m2\"\na \"file\"",
    "a/\na/.wh..wh..opq 0444\na/x \"m3\"",
    ".wh.a 0444\nb/\nb/.wh.b 0444",
    "a/\na/a/\na/a/a/\na/a/a/new \"m5\"\n.wh.b 0444",
    "",
];

fn any_step() -> impl Strategy<Value = Step> {
    let place = 0..6usize;
    let restack = prop_oneof![
        4 => (place.clone(), 0..6usize, 0..3usize)
            .prop_map(|(at, module, mode)| Restack::Insert(at, module, mode)),
        3 => place.clone().prop_map(Restack::Remove),
        2 => (place.clone(), 0..3usize).prop_map(|(at, mode)| Restack::Return(at, mode)),
        2 => (place.clone(), place.clone()).prop_map(|(from, to)| Restack::Move(from, to)),
        2 => (place, 0..3usize).prop_map(|(at, mode)| Restack::Mode(at, mode)),
    ];
    prop_oneof![
        2 => any_op().prop_map(Step::Inside),
        3 => restack.prop_map(Step::Restack),
    ]
}

impl Mounted {
    fn restack(&mut self, how: &Restack, away: &mut Vec<MemoryTree>) -> Result<(), RestackError> {
        let count = self.trees.len();
        match how {
            Restack::Insert(at, module, mode) => {
                let tree = MemoryTree::new();
                plant(&tree, MODULES[*module]);
                self.insert(at % (count + 1), tree, MODES[*mode])
            }
            Restack::Remove(at) => {
                let tree = self.trees[at % count].clone();
                self.remove(at % count)?;
                away.push(tree);
                Ok(())
            }
            Restack::Return(at, mode) => match away.pop() {
                Some(tree) => self.insert(at % (count + 1), tree, MODES[*mode]),
                None => Ok(()),
            },
            Restack::Move(from, to) => {
                let (from, to) = (from % count, to % count);
                self.union.move_branch(self.union.branches()[from].0, to)?;
                let (tree, powers) = (self.trees.remove(from), self.powers.remove(from));
                self.trees.insert(to, tree);
                self.powers.insert(to, powers);
                Ok(())
            }
            Restack::Mode(at, mode) => {
                let at = at % count;
                self.set_mode(at, MODES[*mode])
            }
        }
    }

    fn insert(&mut self, at: usize, tree: MemoryTree, powers: Powers) -> Result<(), RestackError> {
        let branch = Branch {
            tree: tree.clone(),
            powers,
        };
        self.union.insert_branch(at, branch)?;
        self.trees.insert(at, tree);
        self.powers.insert(at, powers);
        Ok(())
    }

    fn remove(&mut self, at: usize) -> Result<(), RestackError> {
        self.union.remove_branch(self.union.branches()[at].0, &[])?;
        self.trees.remove(at);
        self.powers.remove(at);
        Ok(())
    }

    fn set_mode(&mut self, at: usize, powers: Powers) -> Result<(), RestackError> {
        self.union.set_powers(self.union.branches()[at].0, powers)?;
        self.powers[at] = powers;
        Ok(())
    }
}

const PLANTED: [&str; 2] = [
    "a/\na/a/\na/a/b \"1\"\na/b \"2\"",
    "a/\na/a/\na/a/a \"3\"\na/c \"4\"\na/d = a/c\nb/\nb/a/\nb/a/a \"5\"\nb/b \"6\"",
];

fn mounted(changes: DirectChanges) -> Mounted {
    mounted_as(DialectKind::Aufs, changes)
}

fn mounted_as(dialect: DialectKind, changes: DirectChanges) -> Mounted {
    let settings = Settings {
        direct_changes: changes,
        ..Settings::new(dialect)
    };
    Mounted::over(settings, &PLANTED, &[Powers::WRITABLE, Powers::LAYER])
}

/// Draws a branch without the list of renamed directories, which is written when the branch goes.
fn without_list(tree: &MemoryTree) -> String {
    let text = draw(tree);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with(".wh..wh.hino"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn try_steps(dialect: DialectKind, changes: DirectChanges, steps: &[Step]) -> Result<(), String> {
    let mut mounted = mounted_as(dialect, changes);
    let mut away = Vec::new();
    mounted.agrees()?;
    for (at, step) in steps.iter().enumerate() {
        let gone: Vec<_> = mounted
            .trees
            .iter()
            .map(|tree| (tree.clone(), without_list(tree)))
            .collect();
        let done = match step {
            Step::Inside(op) => {
                mounted.settle();
                let done = format!("{:?}", mounted.inside(op));
                // A copied directory counts among the links of the one above, which nobody is told.
                mounted.forget_attributes();
                mounted.settle();
                done
            }
            Step::Restack(how) => {
                let done = format!("{:?}", mounted.restack(how, &mut away));
                if let Restack::Remove(_) = how {
                    for (tree, before) in gone {
                        if without_list(&tree) != before {
                            return Err(format!(
                                "step {at}: a branch changed\n{before}---\n{}",
                                draw(&tree)
                            ));
                        }
                    }
                }
                done
            }
        };
        let in_step = |broken| format!("step {at} ({done}): {broken}");
        // Names that are kept together are on disk what they are in the union from then on.
        mounted.union.flush_pseudo_links().unwrap();
        if changes == DirectChanges::Noticed {
            // Nobody may cache there what he is not told about.
            mounted.forget_everything();
        }
        mounted.agrees().map_err(in_step)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_changed_stack_shows_what_a_fresh_mount_of_it_shows(
        overlay in proptest::bool::weighted(0.2),
        changes in select(vec![
            DirectChanges::None,
            DirectChanges::Noticed,
            DirectChanges::Watched,
        ]),
        steps in vec(any_step(), 1..12),
    ) {
        let dialect = if overlay {
            DialectKind::Overlay(OverlayMarks::User)
        } else {
            DialectKind::Aufs
        };
        if let Err(broken) = try_steps(dialect, changes, &steps) {
            return Err(TestCaseError::fail(format!("{broken}\nafter {steps:#?}")));
        }
    }
}

#[test]
fn a_branch_whose_file_or_directory_is_open_cannot_go() {
    let mut mounted = mounted(DirectChanges::None);
    let (dir, file) = mounted.parent("b/b").unwrap();
    let id = mounted.entry(dir, &file).unwrap().unwrap();
    let in_the_way = |mounted: &mut Mounted| match mounted.remove(1) {
        Err(RestackError::InUse(users)) => users,
        other => panic!("{other:?}"),
    };
    mounted.union.open(id, OpenFlags::default()).unwrap();
    let users = in_the_way(&mut mounted);
    assert_eq!(
        (&users[0].path[..], users[0].what),
        (&b"b/b"[..], Usage::OpenFile)
    );
    mounted.union.release(id);
    // A merged directory, too, is in use on each of its branches.
    let (_, merged) = mounted.parent("a").unwrap();
    let merged = mounted.entry(InodeId::ROOT, &merged).unwrap().unwrap();
    let stream = mounted.union.open_dir(merged).unwrap();
    assert_eq!(in_the_way(&mut mounted)[0].what, Usage::OpenDirectory);
    drop(stream);
    let root = mounted.union.open_dir(InodeId::ROOT).unwrap();
    mounted.remove(1).unwrap();
    drop(root);
    mounted.agrees().unwrap();
    assert_eq!(in_the_way_last(&mut mounted), Usage::LastBranch);
}

fn in_the_way_last(mounted: &mut Mounted) -> Usage {
    match mounted.remove(0) {
        Err(RestackError::InUse(users)) => users[0].what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_processes_hold_stands_in_the_way_only_where_it_would_be_gone() {
    let mut mounted = mounted(DirectChanges::None);
    let lower = mounted.union.branches()[1].0;
    let held = |path: &str| path.split('/').map(name).collect::<Vec<_>>();
    for (path, busy) in [
        ("b", true),
        ("b/a", true),
        ("a", false),
        ("a/a", false),
        ("b/b", true),
    ] {
        let users = mounted.union.users_of_branch(lower, &[held(path)]);
        assert_eq!(!users.is_empty(), busy, "{path}");
    }
    assert!(mounted.union.remove_branch(lower, &[held("b/a")]).is_err());
    mounted.remove(1).unwrap();
    mounted.agrees().unwrap();
}

#[test]
fn a_writer_goes_on_above_a_branch_that_became_read_only() {
    let settings = Settings {
        writers_bypass: false,
        direct_changes: DirectChanges::None,
        ..Settings::new(DialectKind::Aufs)
    };
    let powers = [Powers::WRITABLE, Powers::WRITABLE];
    let mut mounted = Mounted::over(settings, &["", "f \"old\""], &powers);
    let (dir, file) = mounted.parent("f").unwrap();
    let id = mounted.entry(dir, &file).unwrap().unwrap();
    let write = OpenFlags {
        write: true,
        ..OpenFlags::default()
    };
    mounted.union.open(id, write).unwrap();
    mounted.union.write(id, b"1", 0, false).unwrap();
    mounted.set_mode(1, Powers::LAYER).unwrap();
    let before = draw(&mounted.trees[1]);
    mounted.union.write(id, b"2", 1, false).unwrap();
    assert_eq!(draw(&mounted.trees[1]), before);
    mounted.set_mode(0, Powers::LAYER).unwrap();
    assert_eq!(
        mounted
            .union
            .write(id, b"3", 2, false)
            .map_err(|error| error.errno()),
        Err(rules::Errno::ROFS)
    );
    mounted.union.release(id);
    mounted.forget_contents(id);
    mounted.agrees().unwrap();
    assert_eq!(mounted.text(id).unwrap(), b"12d");
}

#[test]
fn a_writer_whose_data_bypasses_the_union_keeps_its_branch_writable() {
    let mut mounted = mounted(DirectChanges::None);
    let (dir, file) = mounted.parent("a/b").unwrap();
    let id = mounted.entry(dir, &file).unwrap().unwrap();
    let write = OpenFlags {
        write: true,
        ..OpenFlags::default()
    };
    assert!(mounted.union.open(id, write).unwrap().settled.is_some());
    match mounted.set_mode(0, Powers::LAYER) {
        Err(RestackError::InUse(users)) => assert_eq!(users[0].what, Usage::Written),
        other => panic!("{other:?}"),
    }
    mounted.union.release(id);
    mounted.set_mode(0, Powers::LAYER).unwrap();
    assert!(
        !draw(&mounted.trees[0]).contains(".wh..wh."),
        "its own files are gone"
    );
    mounted.agrees().unwrap();
}

#[test]
fn an_open_file_goes_on_when_a_branch_above_hides_it() {
    let mut mounted = mounted(DirectChanges::None);
    let (dir, file) = mounted.parent("b/b").unwrap();
    let id = mounted.entry(dir, &file).unwrap().unwrap();
    let write = OpenFlags {
        write: true,
        ..OpenFlags::default()
    };
    mounted.union.open(id, write).unwrap();
    let tree = MemoryTree::new();
    plant(&tree, "b/\nb/b \"above\"");
    mounted.insert(0, tree, Powers::WRITABLE).unwrap();
    mounted.agrees().unwrap();
    let mut buffer = [0; 8];
    let count = mounted.union.read(id, &mut buffer, 0).unwrap();
    assert_eq!(&buffer[..count], b"6");
    mounted.union.write(id, b"7", 0, false).unwrap();
    mounted.union.read(id, &mut buffer, 0).unwrap();
    assert_eq!(&buffer[..1], b"7", "it is nobody else's any more");
    mounted.union.release(id);
    mounted.agrees().unwrap();
}

#[test]
fn a_renamed_directory_finds_its_parts_when_branches_come_go_and_move() {
    for changes in [DirectChanges::None, DirectChanges::Watched] {
        let rename = |from: &str, to: &str| Step::Inside(Op::Rename(from.into(), to.into()));
        let insert = |at, module| Step::Restack(Restack::Insert(at, module, 0));
        for steps in [
            // What was a part of it has a name of its own afterwards.
            vec![
                insert(0, 0),
                rename("a", "b/a/b"),
                Step::Restack(Restack::Move(0, 1)),
                Step::Restack(Restack::Move(0, 1)),
            ],
            vec![
                rename("b", "a/n"),
                insert(1, 1),
                insert(0, 2),
                rename("a", "c"),
            ],
            vec![
                rename("b", "a/a/n"),
                Step::Restack(Restack::Mode(1, 1)),
                Step::Restack(Restack::Mode(1, 0)),
                insert(0, 5),
                rename("a", "m"),
                Step::Restack(Restack::Remove(0)),
            ],
        ] {
            try_steps(DialectKind::Aufs, changes, &steps)
                .unwrap_or_else(|broken| panic!("{broken}\n{steps:#?}"));
        }
    }
}

#[test]
fn a_part_that_is_only_in_a_record_comes_back_with_its_branch() {
    let mut mounted = mounted(DirectChanges::None);
    mounted.inside(&Op::MakeDir("u".into())).unwrap();
    mounted
        .inside(&Op::Rename("b".into(), "u/b".into()))
        .unwrap();
    mounted.agrees().unwrap();
    let lower = mounted.trees[1].clone();
    mounted.remove(1).unwrap();
    mounted.agrees().unwrap();
    let (dir, _) = mounted.parent("u/b/x").unwrap();
    assert_eq!(mounted.listing(dir).unwrap(), [""; 0].map(name));
    mounted.insert(1, lower, Powers::PLAIN).unwrap();
    mounted.agrees().unwrap();
    let (dir, _) = mounted.parent("u/b/x").unwrap();
    assert_eq!(mounted.listing(dir).unwrap(), [name("a"), name("b")]);
}

#[test]
fn a_directory_that_was_renamed_while_a_branch_was_away_is_not_the_branchs_any_more() {
    for changes in [DirectChanges::None, DirectChanges::Watched] {
        let settings = Settings {
            direct_changes: changes,
            ..Settings::new(DialectKind::Aufs)
        };
        let branches = ["d/\nd/a \"1\"", ""];
        let mut mounted = Mounted::over(settings, &branches, &[Powers::WRITABLE, Powers::LAYER]);
        let module = MemoryTree::new();
        plant(&module, "d/\nd/t \"2\"");
        mounted.insert(0, module.clone(), Powers::WRITABLE).unwrap();
        mounted.agrees().unwrap();
        mounted.remove(0).unwrap();
        let renamed = Op::Rename("d".into(), "e".into());
        mounted.inside(&renamed).unwrap();
        mounted.forget_attributes();
        mounted.settle();
        mounted.insert(0, module, Powers::WRITABLE).unwrap();
        mounted.agrees().unwrap();
    }
}

#[test]
fn a_copy_is_not_what_it_was_copied_from_when_that_comes_back_above() {
    for changes in [DirectChanges::None, DirectChanges::Watched] {
        let mut mounted = mounted(changes);
        let lower = mounted.trees[1].clone();
        let write = Op::Write("b/b".into(), "copy".into());
        mounted.inside(&write).unwrap();
        mounted.forget_attributes();
        mounted.settle();
        mounted.agrees().unwrap();
        mounted.remove(1).unwrap();
        mounted.agrees().unwrap();
        mounted.insert(0, lower, Powers::LAYER).unwrap();
        mounted.agrees().unwrap();
    }
}

#[test]
fn who_missed_a_name_hears_of_it_also_in_a_directory_that_was_renamed() {
    let mut mounted = mounted(DirectChanges::None);
    mounted.inside(&Op::MakeDir("u".into())).unwrap();
    let dir = mounted.entry(InodeId::ROOT, &name("u")).unwrap().unwrap();
    let missed = name("x");
    assert_eq!(mounted.entry(dir, &missed), Ok(None));
    // The kernel takes what it knows of its names along.
    let (root, how) = (InodeId::ROOT, RenameHow::Replace);
    mounted.union.rename(root, b"u", root, b"v", how).unwrap();
    mounted.notices.take();
    let tree = MemoryTree::new();
    plant(&tree, "v/\nv/x \"there\"");
    mounted.insert(2, tree, Powers::LAYER).unwrap();
    let told = mounted.notices.take();
    assert!(told.contains(&Notice::Entry(dir, missed)), "{told:?}");
}
