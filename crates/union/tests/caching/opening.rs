//! A union that is opened asks its branches little: what can wait is asked by whoever needs it.

use rules::Powers;
use testkit::{Faults, Faulty, Gone, MemoryTree, plant};
use union::{Branch, DialectKind, DirectChanges, InodeId, OverlayMarks, Settings, Union};

/// How many branches there are below the topmost.
const LAYERS: u64 = 50;

/// Opens a union of many branches and returns how many calls each of the lower ones was asked, at the opening and for the
/// attributes of the root.
fn asked(dialect: DialectKind) -> (u64, u64) {
    let faults = Faults::none();
    let disk = Gone::default();
    let branch = |powers, disk: &Gone| {
        let tree = MemoryTree::new();
        plant(&tree, "d/\nd/f \"text\"");
        Branch {
            powers,
            tree: Faulty::on(tree, &faults, disk),
        }
    };
    let mut branches = vec![branch(Powers::WRITABLE, &Gone::default())];
    branches.extend((0..LAYERS).map(|_| branch(Powers::LAYER, &disk)));
    let settings = Settings {
        direct_changes: DirectChanges::None,
        ..Settings::new(dialect)
    };
    let union = Union::new(branches, settings).unwrap();
    let opening = disk.asked();
    union.attr(InodeId::ROOT).unwrap();
    (
        opening.div_ceil(LAYERS),
        (disk.asked() - opening).div_ceil(LAYERS),
    )
}

#[test]
fn opening_asks_a_branch_what_it_is_and_whether_it_is_opaque() {
    assert_eq!(asked(DialectKind::Aufs), (2, 0));
    let marks = OverlayMarks::Trusted;
    assert_eq!(asked(DialectKind::Overlay(marks)), (3, 0));
}
