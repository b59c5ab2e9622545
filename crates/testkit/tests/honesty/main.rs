//! The tree in memory behaves like the host's: the same calls have the same answers and
//! leave the same contents, on whatever filesystem holds the temporary directory (ext4).

mod calls;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rules::Changes;
use sys::HostTree;
use testkit::{MemoryTree, contents, draw, require_root};
use tree::{Object, Tree};

use calls::calls;
use world::World;

/// How many random sequences are tried.
const SEQUENCES: u32 = 600;

#[test]
fn the_tree_in_memory_answers_like_the_host_and_ends_like_it() {
    if !require_root() {
        return;
    }
    let config = Config {
        cases: SEQUENCES,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&calls(), |calls| {
        let directory = tempfile::tempdir().unwrap();
        let mut host = World::new(HostTree::open(directory.path()).unwrap());
        let mut memory = World::new(MemoryTree::new());
        // Temporary directories are private, a new disk is not; and this thread may still
        // have the identity that it last made something in.
        let open = Changes {
            perm: Some(0o755),
            uid: Some(0),
            gid: Some(0),
            ..Changes::default()
        };
        host.tree.set_attr(Object::Dir(host.dir(0)), &open).unwrap();
        for (step, call) in calls.iter().enumerate() {
            let expected = host.call(call);
            prop_assert_eq!(memory.call(call), expected, "step {}: {:?}", step, call);
        }
        let (left, right) = (contents(&host.tree), contents(&memory.tree));
        prop_assert_eq!(draw(&memory.tree), draw(&host.tree));
        prop_assert!(left == right, "same text, different contents");
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
