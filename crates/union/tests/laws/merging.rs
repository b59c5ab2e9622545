//! What a union shows: the topmost entry wins, directories merge, whiteouts and opaque directories hide.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rules::whiteout::{Meaning, meaning};
use rules::{Kind, Name};
use testkit::MemoryTree;
use testkit::notation::{Node, What};
use tree::{Object, Tree};
use union::DialectKind;

use crate::stack::{Mode, Plan, Stack, any_plan};
use crate::view::{View, view};

proptest! {
    #![proptest_config(crate::config(300))]

    #[test]
    fn a_union_shows_its_branches_merged(plan in any_plan()) {
        let stack = plan.build();
        let merged = Merge { stack: &stack }.merged();
        let shown = view(&stack.mount()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(shown.shape(), merged, "on {:?}", plan);
    }
}

type Dir = <MemoryTree as Tree>::Dir;
/// What a path is and which bytes say it.
type Shape = BTreeMap<String, String>;

impl View {
    fn shape(&self) -> Shape {
        let all = self.nodes().filter(|(path, _)| !path.is_empty());
        all.map(|(path, node)| (String::from_utf8_lossy(path).into_owned(), words(node)))
            .collect()
    }
}

fn words(node: &Node) -> String {
    match &node.what {
        What::File(bytes) => format!("{} {:o}", String::from_utf8_lossy(bytes), node.perm),
        What::Dir => format!("directory {:o}", node.perm),
        What::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
        _ => "node".to_owned(),
    }
}

/// The law once more, in the most direct words.
struct Merge<'a> {
    stack: &'a Stack,
}

impl Merge<'_> {
    fn merged(&self) -> Shape {
        let all = 0..self.stack.trees.len();
        let roots = all.map(|branch| (branch, self.stack.trees[branch].root().unwrap()));
        let mut shape = Shape::new();
        self.below("", roots.collect(), &mut shape);
        shape
    }

    fn below(&self, path: &str, dirs: Vec<(usize, Dir)>, shape: &mut Shape) {
        let mut members = Vec::new();
        for (branch, dir) in dirs {
            let opaque = self.is_opaque(branch, &dir);
            members.push((branch, dir));
            if opaque {
                break;
            }
        }
        for name in self.names(&members) {
            let below = if path.is_empty() {
                name.to_string()
            } else {
                format!("{path}/{name}")
            };
            let mut merging = Vec::new();
            for (branch, dir) in &members {
                let tree = &self.stack.trees[*branch];
                let attr = tree.look(dir, &name).unwrap();
                let native =
                    attr.is_some_and(|attr| attr.kind == Kind::CharDevice) && self.overlay();
                let marked = tree
                    .look(dir, &rules::whiteout::of(&name))
                    .unwrap()
                    .is_some();
                let hidden = native
                    || (marked
                        && self.counts(*branch)
                        && (attr.is_none() || !self.writable(*branch)));
                match attr {
                    _ if hidden => break,
                    None => {}
                    Some(attr) if attr.kind == Kind::Dir => {
                        if merging.is_empty() {
                            shape.insert(below.clone(), format!("directory {:o}", attr.perm));
                        }
                        merging.push((*branch, tree.open_dir(dir, &name).unwrap()));
                    }
                    Some(_) if !merging.is_empty() => {}
                    Some(_) => {
                        let entry = testkit::contents(tree);
                        let whole = entry.get(below.as_bytes()).unwrap();
                        shape.insert(below.clone(), words(whole));
                        break;
                    }
                }
            }
            if !merging.is_empty() {
                self.below(&below, merging, shape);
            }
        }
    }

    fn names(&self, members: &[(usize, Dir)]) -> std::collections::BTreeSet<Name> {
        let list = |(branch, dir): &(usize, Dir)| self.stack.trees[*branch].list(dir).unwrap();
        let all = members.iter().flat_map(list).map(|entry| entry.name);
        all.filter(|name| meaning(name.as_bytes()) == Meaning::Entry)
            .collect()
    }

    fn is_opaque(&self, branch: usize, dir: &Dir) -> bool {
        let tree = &self.stack.trees[branch];
        let mark = Name::new(rules::whiteout::OPAQUE).unwrap();
        let marked = tree.look(dir, &mark).unwrap().is_some();
        let native = tree.xattr(Object::Dir(dir), b"user.overlay.opaque").is_ok();
        self.counts(branch) && (marked || (native && self.overlay()))
    }

    fn overlay(&self) -> bool {
        self.stack.plan.settings.dialect != DialectKind::Aufs
    }

    fn writable(&self, branch: usize) -> bool {
        self.stack.plan.branches[branch].0 == Mode::Rw
    }

    fn counts(&self, branch: usize) -> bool {
        self.overlay() || self.stack.plan.branches[branch].0 != Mode::Ro
    }
}

#[test]
fn a_file_between_two_directories_does_not_end_the_merge() {
    let plan = Plan::aufs(&[(Mode::Rw, "d/x"), (Mode::Wh, "d"), (Mode::Wh, "d/y")]);
    let shown = view(&plan.build().mount()).unwrap().shape();
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["d", "d/x", "d/y"]);
}

#[test]
fn whiteouts_of_a_plain_read_only_branch_do_not_count() {
    let lower = "a \"lower\"\nd/x\n";
    for (mode, expected) in [(Mode::Ro, vec!["a", "d", "d/x"]), (Mode::Wh, vec!["d"])] {
        let plan = Plan::aufs(&[
            (Mode::Rw, ""),
            (mode, ".wh.a\nd/.wh..wh..opq"),
            (Mode::Ro, lower),
        ]);
        let shown = view(&plan.build().mount()).unwrap().shape();
        assert_eq!(shown.keys().collect::<Vec<_>>(), expected, "{mode:?}");
    }
}
