//! Tools for branches that no union changes meanwhile: [`check`], [`merge_down`], [`balance`].
//!
//! They speak the AUFS format. What they find or change is told to whoever asked, place by place; every change
//! is one step after which the branches show what they showed before.

pub mod balance;
mod below;
pub mod check;
mod copying;
pub mod merge_down;
mod place;

use rules::whiteout::{self, Purpose};
use rules::{Changes, Creation, Errno, Kind, Name, SetTime};
use tree::{Node, Object, Tree};

pub use below::{Below, Layer};
pub use place::{Place, Stopped};

/// Tells why a tool stops where it stands.
fn at(place: &Place) -> impl Fn(Errno) -> Stopped + '_ {
    |errno| Stopped {
        place: place.clone(),
        errno,
    }
}

/// How deep directories may lie: no path leads deeper.
const DEPTH: usize = 2048;

/// Refuses a directory that lies too deep, with `ENAMETOOLONG`: each level takes room on the stack.
fn refuse_deep(place: &Place) -> Result<(), Stopped> {
    if place.names().len() < DEPTH {
        Ok(())
    } else {
        Err(at(place)(Errno::NAMETOOLONG))
    }
}

fn own(constant: &[u8]) -> Name {
    Name::new(constant).expect("the format's names are names")
}

/// Returns the names in a directory with their kinds, in order.
fn sorted<T: Tree>(tree: &T, dir: &T::Dir) -> Result<Vec<(Name, Kind)>, Errno> {
    let mut found = Vec::new();
    for entry in tree.list(dir)? {
        let kind = match entry.kind {
            Some(kind) => Some(kind),
            None => tree.look(dir, &entry.name)?.map(|attr| attr.kind),
        };
        found.extend(kind.map(|kind| (entry.name, kind)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Returns whether a name has a regular mark; one that is none is `EIO`, as in the union.
fn is_marked<T: Tree>(tree: &T, dir: &T::Dir, mark: &Name) -> Result<bool, Errno> {
    match tree.look(dir, mark) {
        Ok(None) | Err(Errno::NAMETOOLONG) => Ok(false),
        Ok(Some(attr)) if attr.kind == Kind::File => Ok(true),
        Ok(Some(_)) => Err(Errno::IO),
        Err(errno) => Err(errno),
    }
}

fn is_opaque<T: Tree>(tree: &T, dir: &T::Dir) -> Result<bool, Errno> {
    is_marked(tree, dir, &own(whiteout::OPAQUE))
}

/// Leaves a whiteout or an opaque mark: a link to the branch's base where there is one.
fn leave<T: Tree>(tree: &T, dir: &T::Dir, mark: &Name) -> Result<(), Errno> {
    if tree
        .link(&tree.root()?, &own(whiteout::BASE), dir, mark)
        .is_ok()
    {
        return Ok(());
    }
    match tree.make_node(dir, mark, Node::File, &Creation::exact(whiteout::PERM)) {
        Err(Errno::EXIST) if is_marked(tree, dir, mark)? => Ok(()),
        made => made,
    }
}

/// Removes what is no directory; it may be gone already.
fn remove_file<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
    match tree.remove_file(dir, name) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// Removes a directory with all that is in it, or anything else.
fn remove_tree<T: Tree>(tree: &T, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
    match tree.look(dir, name)? {
        None => Ok(()),
        Some(attr) if attr.kind != Kind::Dir => remove_file(tree, dir, name),
        Some(_) => {
            let inside = tree.open_dir(dir, name)?;
            for entry in tree.list(&inside)? {
                remove_tree(tree, &inside, &entry.name)?;
            }
            match tree.remove_dir(dir, name) {
                Err(Errno::NOENT) => Ok(()),
                removed => removed,
            }
        }
    }
}

/// Returns a temporary name that nothing has.
fn free_temporary<T: Tree>(tree: &T, dir: &T::Dir, of: &Name) -> Result<Name, Errno> {
    for number in 0..0x8000 {
        let name = whiteout::temporary_name(of, Purpose::Building, number);
        if tree.look(dir, &name)?.is_none() {
            return Ok(name);
        }
    }
    Err(Errno::EXIST)
}

/// Changes names in a directory, which keeps its time: in the union nothing comes or goes.
fn keeping_time<T: Tree>(
    tree: &T,
    dir: &T::Dir,
    deed: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let before = tree.attr(Object::Dir(dir))?;
    deed()?;
    let time = Changes {
        mtime: Some(SetTime::To(before.mtime)),
        ..Changes::default()
    };
    tree.set_attr(Object::Dir(dir), &time)
}
