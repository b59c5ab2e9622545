//! What a union shows, as a value that compares and prints.

use std::collections::BTreeMap;
use std::fmt;

use rules::{Changes, Creation, Kind};
use testkit::notation::{Node, What};
use testkit::{MemoryTree, contents, draw};
use tree::{Object, Tree, XattrHow};
use union::{Entry, InodeId};

use crate::client::read_all;
use crate::plain::parent_of;
use crate::stack::MemoryUnion;

/// All objects by path; the root has the empty path. Times and inode numbers are not compared.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct View(BTreeMap<Vec<u8>, Node>);

impl View {
    /// Returns what a plain tree holds.
    pub(crate) fn of_tree(tree: &MemoryTree) -> Self {
        Self(contents(tree))
    }

    /// Returns all objects by path.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Vec<u8>, &Node)> {
        self.0.iter()
    }

    /// Returns the same with each name as a file of its own.
    pub(crate) fn without_links(&self) -> Self {
        let mut nodes = self.0.clone();
        nodes.values_mut().for_each(|node| node.same_as = None);
        Self(nodes)
    }

    /// Returns the same without whiteouts and opaque marks.
    pub(crate) fn without_marks(&self) -> Self {
        let is_mark = |path: &[u8]| {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            rules::whiteout::is_reserved(name)
        };
        let mut nodes = self.0.clone();
        nodes.retain(|path, _| !is_mark(path));
        Self(nodes)
    }

    /// Makes a plain tree that holds the same.
    pub(crate) fn to_tree(&self) -> MemoryTree {
        let tree = MemoryTree::new();
        for (path, node) in &self.0 {
            let path = std::str::from_utf8(path).expect("paths in tests are text");
            make(&tree, path, node);
        }
        tree
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", draw(&self.to_tree()))
    }
}

fn make(tree: &MemoryTree, path: &str, node: &Node) {
    let exact = Creation::exact(node.perm);
    if path.is_empty() {
        let root = tree.root().unwrap();
        return set_all(tree, Object::Dir(&root), node);
    }
    let (dir, name) = parent_of(tree, path).unwrap();
    if let Some(first) = &node.same_as {
        let (from, old) = parent_of(tree, std::str::from_utf8(first).unwrap()).unwrap();
        return tree.link(&from, &old, &dir, &name).unwrap();
    }
    match &node.what {
        What::File(bytes) => {
            let file = tree.create_file(&dir, &name, &exact).unwrap();
            tree.write(&file, bytes, 0).unwrap();
        }
        What::Dir => tree.make_dir(&dir, &name, &exact).unwrap(),
        What::Symlink(target) => tree.make_symlink(&dir, &name, target, &exact).unwrap(),
        other => {
            let node = match other {
                What::Fifo => tree::Node::Fifo,
                What::Socket => tree::Node::Socket,
                What::CharDevice(rdev) => tree::Node::CharDevice(*rdev),
                What::BlockDevice(rdev) => tree::Node::BlockDevice(*rdev),
                _ => unreachable!("files, directories and links are made above"),
            };
            tree.make_node(&dir, &name, node, &exact).unwrap();
        }
    }
    set_all(tree, Object::Entry(&dir, &name), node);
}

fn set_all(tree: &MemoryTree, object: Object<'_, MemoryTree>, node: &Node) {
    // What the directory handed down, if it has a default ACL.
    for name in tree.xattr_names(object).unwrap() {
        tree.remove_xattr(object, &name).unwrap();
    }
    let owner = Changes {
        uid: Some(node.uid),
        gid: Some(node.gid),
        ..Changes::default()
    };
    tree.set_attr(object, &owner).unwrap();
    for (name, value) in &node.xattrs {
        tree.set_xattr(object, name, value, XattrHow::Set).unwrap();
    }
    if !matches!(node.what, What::Symlink(_)) {
        let perm = Changes {
            perm: Some(node.perm),
            ..Changes::default()
        };
        tree.set_attr(object, &perm).unwrap();
    }
}

/// Returns what a union shows, or where it contradicts itself.
pub(crate) fn view(union: &MemoryUnion) -> Result<View, String> {
    numbered_view(union).map(|(view, _)| view)
}

/// Inode numbers by path.
pub(crate) type Numbers = BTreeMap<String, u64>;

/// As `view`, with the inode number of each path.
pub(crate) fn numbered_view(union: &MemoryUnion) -> Result<(View, Numbers), String> {
    let mut walk = Walk {
        union,
        nodes: BTreeMap::new(),
        first: BTreeMap::new(),
        numbers: BTreeMap::new(),
    };
    let attr = union
        .attr(InodeId::ROOT)
        .map_err(|error| format!("the root: {error}"))?;
    let root = Entry {
        id: InodeId::ROOT,
        attr,
    };
    walk.node("", &root)?;
    walk.below("", &root)?;
    Ok((View(walk.nodes), walk.numbers))
}

struct Walk<'a> {
    union: &'a MemoryUnion,
    nodes: BTreeMap<Vec<u8>, Node>,
    first: BTreeMap<u64, String>,
    numbers: Numbers,
}

impl Walk<'_> {
    fn below(&mut self, path: &str, dir: &Entry) -> Result<(), String> {
        let failed = |error: union::Error| format!("reading {path:?}: {error}");
        let stream = self.union.open_dir(dir.id).map_err(failed)?;
        let mut listed = BTreeMap::new();
        let mut twice = None;
        self.union
            .read_dir(&stream, 0, false, &mut |entry| {
                if entry.name != b"." && entry.name != b".." {
                    let name =
                        String::from_utf8(entry.name.to_vec()).expect("names in tests are text");
                    if listed
                        .insert(name.clone(), (entry.kind, entry.ino))
                        .is_some()
                    {
                        twice = Some(name);
                    }
                }
                true
            })
            .map_err(failed)?;
        if let Some(name) = twice {
            return Err(format!("{path}/{name} is listed twice"));
        }
        for unlisted in ["a", "b", "c", "d", "e"]
            .iter()
            .filter(|name| !listed.contains_key(**name))
        {
            if let Some(found) = self
                .union
                .lookup(dir.id, unlisted.as_bytes())
                .map_err(failed)?
            {
                self.union.forget(found.id, 1);
                return Err(format!(
                    "{path}/{unlisted} can be looked up and is not listed"
                ));
            }
        }
        for (name, (kind, ino)) in listed {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            let at = |error: union::Error| format!("{path}: {error}");
            let found = self.union.lookup(dir.id, name.as_bytes()).map_err(at)?;
            let entry = found.ok_or(format!("{path} is listed and cannot be looked up"))?;
            if kind.is_some_and(|kind| kind != entry.attr.kind) || ino != entry.attr.ino {
                return Err(format!(
                    "{path} is listed as {kind:?} {ino:#x}, and is {:?} {:#x}",
                    entry.attr.kind, entry.attr.ino
                ));
            }
            self.node(&path, &entry)?;
            if entry.attr.kind == Kind::Dir {
                self.below(&path, &entry)?;
            }
            self.union.forget(entry.id, 1);
        }
        Ok(())
    }

    fn node(&mut self, path: &str, entry: &Entry) -> Result<(), String> {
        let at = |error: union::Error| format!("{path}: {error}");
        let (union, id, attr) = (self.union, entry.id, entry.attr);
        let again = union.attr(id).map_err(at)?;
        if (again.ino, again.kind, again.perm, again.size, again.nlink)
            != (attr.ino, attr.kind, attr.perm, attr.size, attr.nlink)
        {
            return Err(format!("{path}: lookup says {attr:?}, getattr {again:?}"));
        }
        self.numbers.insert(path.to_owned(), attr.ino);
        let what = match attr.kind {
            Kind::File => What::File(read_all(union, id).map_err(at)?),
            Kind::Dir => What::Dir,
            Kind::Symlink => What::Symlink(union.read_link(id).map_err(at)?),
            Kind::Fifo => What::Fifo,
            Kind::Socket => What::Socket,
            Kind::CharDevice => What::CharDevice(attr.rdev),
            Kind::BlockDevice => What::BlockDevice(attr.rdev),
        };
        if let What::File(bytes) = &what
            && bytes.len() as u64 != attr.size
        {
            return Err(format!(
                "{path} has {} bytes and says {}",
                bytes.len(),
                attr.size
            ));
        }
        let mut xattrs = BTreeMap::new();
        for name in union.xattr_names(id).map_err(at)? {
            let value = union.xattr(id, &name).map_err(at)?;
            xattrs.insert(name, value);
        }
        let first = self
            .first
            .entry(attr.ino)
            .or_insert_with(|| path.to_owned());
        if attr.kind == Kind::Dir && first != path {
            return Err(format!("{path} has the inode number of {first}"));
        }
        let same_as = (first != path).then(|| first.clone().into_bytes());
        let node = Node {
            what,
            perm: attr.perm,
            uid: attr.uid,
            gid: attr.gid,
            xattrs,
            same_as,
        };
        self.nodes.insert(path.as_bytes().to_vec(), node);
        Ok(())
    }
}
