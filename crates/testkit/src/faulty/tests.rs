//! Counting writes and failing at them.

use rules::{Creation, Errno, Name};
use tree::{Access, Tree};

use super::{Faults, Faulty};
use crate::notation::{draw, plant};
use crate::{MemoryDisk, MemoryTree};

const EXACT: Creation = Creation {
    perm: 0o755,
    umask: 0,
    owner: None,
};

fn make(tree: &Faulty<MemoryTree>, name: &str) -> Result<(), Errno> {
    tree.make_dir(&tree.root()?, &Name::new(name.as_bytes()).unwrap(), &EXACT)
}

#[test]
fn the_nth_write_fails_once_and_has_no_effect() {
    let faults = Faults::fail_once_at(2, Errno::NOSPC);
    let tree = Faulty::new(MemoryTree::new(), &faults);
    assert_eq!(make(&tree, "a"), Ok(()));
    assert_eq!(make(&tree, "b"), Err(Errno::NOSPC));
    assert_eq!(make(&tree, "c"), Ok(()));
    assert_eq!(draw(&tree), "a/\nc/\n");
    assert_eq!((faults.count(), faults.struck()), (3, Some("make_dir")));
}

#[test]
fn a_stopped_machine_writes_nothing_until_it_is_switched_on() {
    let faults = Faults::stop_at(2);
    let tree = Faulty::new(MemoryTree::new(), &faults);
    assert_eq!(make(&tree, "a"), Ok(()));
    assert_eq!(make(&tree, "b"), Err(Errno::IO));
    assert_eq!(make(&tree, "c"), Err(Errno::IO));
    assert_eq!(draw(&tree), "a/\n");
    faults.reset();
    assert_eq!(make(&tree, "b"), Ok(()));
    assert_eq!((faults.count(), faults.struck()), (1, None));
}

#[test]
fn branches_share_the_faults_but_count_their_own_writes() {
    let disk = MemoryDisk::new();
    let faults = Faults::none();
    let upper = Faulty::new(disk.subtree("upper"), &faults);
    let lower = Faulty::new(disk.subtree("lower"), &faults);
    make(&upper, "a").unwrap();
    make(&upper, "b").unwrap();
    draw(&lower);
    assert_eq!((upper.writes(), lower.writes(), faults.count()), (2, 0, 2));
    plant(lower.inner(), "f");
    assert_eq!(lower.writes(), 0);
    faults.replan(&Faults::stop_at(1));
    assert_eq!(make(&upper, "c"), Err(Errno::IO));
    assert_eq!(make(&lower, "c"), Err(Errno::IO));
    assert_eq!((upper.writes(), lower.writes(), faults.count()), (3, 1, 2));
}

#[test]
fn a_torn_write_leaves_its_first_half() {
    let tree = |faults: &Faults| {
        let tree = MemoryTree::new();
        plant(&tree, "from \"abcdef\"\nto");
        Faulty::new(tree, faults)
    };
    let (from, to) = (Name::new(b"from").unwrap(), Name::new(b"to").unwrap());
    for method in ["write", "copy_data", "copy_range"] {
        let faults = Faults::stop_at(1).torn();
        let tree = tree(&faults);
        let root = tree.root().unwrap();
        let from = tree.open_file(&root, &from, Access::Read).unwrap();
        let to = tree.open_file(&root, &to, Access::ReadWrite).unwrap();
        for _ in 0..2 {
            let done = match method {
                "write" => tree.write(&to, b"abcdef", 0).map(drop),
                "copy_data" => tree.copy_data(&from, &to, 6),
                _ => tree.copy_range(&from, 0, &to, 0, 100).map(drop),
            };
            assert_eq!(done, Err(Errno::IO), "{method}");
            assert_eq!(draw(&tree), "from \"abcdef\"\nto \"abc\"\n", "{method}");
        }
        assert_eq!(faults.struck(), Some(method));
    }
}
